"""Shows which records pass the stream's filters, by two independent matchers for EventBridge
patterns, which Lambda's filters are: moto's and quamina (in Python's event-ruler). They must agree.

    python e2e/aws/filters.py template.yaml < records.json

Reads a JSON list of records, and writes a JSON list of booleans.
"""

import json
import sys

import yaml
from moto.events.models import EventPattern

try:
    from event_ruler import test_event_pattern as quamina
except ImportError:
    # There are no builds for newer versions of Python.
    assert sys.version_info >= (3, 12), "event-ruler is not installed; see .ci/requirements.txt"
    print("SKIPPED: the second matcher needs Python 3.11 or older", file=sys.stderr)
    quamina = None


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
passes = [any(matcher.matches_event(record) for matcher in matchers) for record in records]

def without_lists(image):
    """Quamina gives up on some events with lists, which no filter looks at."""
    return {name: value for name, value in image.items() if "L" not in value}


if quamina:
    for record, passed in zip(records, passes):
        change = record["dynamodb"]
        images = {name: without_lists(change[name]) for name in ("NewImage", "OldImage") if name in change}
        event = json.dumps({**record, "dynamodb": {**change, **images}})
        assert any(quamina(event, text) for text in texts) == passed, f"the matchers disagree about {event}"
json.dump(passes, sys.stdout)
