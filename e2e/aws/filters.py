"""Shows which records pass the stream's filters, by an independent matcher: moto's, for
EventBridge patterns, which Lambda's filters are.

    python e2e/aws/filters.py template.yaml < records.json

Reads a JSON list of records, and writes a JSON list of booleans.
"""

import json
import sys

import yaml
from moto.events.models import EventPattern


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, such as !Ref, whose meaning is ignored."""


def short_form(loader, _, node):
    construct = {yaml.ScalarNode: loader.construct_scalar, yaml.SequenceNode: loader.construct_sequence}
    return construct.get(type(node), loader.construct_mapping)(node)


Loader.add_multi_constructor("!", short_form)

with open(sys.argv[1]) as file:
    template = yaml.load(file, Loader)
stream = template["Resources"]["Evaluate"]["Properties"]["Events"]["Stream"]["Properties"]
texts = [one["Pattern"] for one in stream["FilterCriteria"]["Filters"]]
assert len(texts) <= 5, "Lambda accepts at most five filters"
patterns = [json.loads(text) for text in texts]
assert all(list(pattern) == ["dynamodb"] for pattern in patterns), "dynamodb must be the only key of a pattern: Lambda documents no other"
matchers = [EventPattern.load(text) for text in texts]
records = json.load(sys.stdin)
json.dump([any(matcher.matches_event(record) for matcher in matchers) for record in records], sys.stdout)
