"""Prints template.yaml as translated by SAM: python .ci/translate.py template.yaml [Name=value ...]"""

import json
import sys

from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

template = yaml_parse(open(sys.argv[1]).read())
for function in template["Resources"].values():
    if function["Type"] == "AWS::Serverless::Function":
        function["Properties"]["CodeUri"] = "s3://bucket/key"
given = dict(one.split("=", 1) for one in sys.argv[2:])
parameters = {name: given.get(name, one.get("Default")) for name, one in template["Parameters"].items()}
translated = Translator({}, Parser()).translate(template, parameters)
json.dump(translated, sys.stdout, indent=1, default=str)
