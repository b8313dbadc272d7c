"""Which records the stream's filters let through, by a matcher that is not ours: moto's of EventBridge patterns, which Lambda's are.

    python e2e/aws/filters.py template.yaml < records.json

Reads a list of records, and writes a list of booleans.
"""

import json
import sys

import yaml
from moto.events.models import EventPattern


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, which mean nothing here."""


def short_form(loader, _, node):
    construct = {yaml.ScalarNode: loader.construct_scalar, yaml.SequenceNode: loader.construct_sequence}
    return construct.get(type(node), loader.construct_mapping)(node)


Loader.add_multi_constructor("!", short_form)

with open(sys.argv[1]) as file:
    template = yaml.load(file, Loader)
stream = template["Resources"]["Evaluate"]["Properties"]["Events"]["Stream"]["Properties"]
texts = [one["Pattern"] for one in stream["FilterCriteria"]["Filters"]]
assert len(texts) <= 5, "Lambda takes five"
patterns = [json.loads(text) for text in texts]
assert all(list(pattern) == ["dynamodb"] for pattern in patterns), "Lambda documents this key alone"
matchers = [EventPattern.load(text) for text in texts]
records = json.load(sys.stdin)
json.dump([any(matcher.matches_event(record) for matcher in matchers) for record in records], sys.stdout)
