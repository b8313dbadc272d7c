//! JSON Schemas, judged by an independent validator from PyPI.

use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

/// Reads a schema and then instances, one per line, and prints what is wrong with each.
const SCRIPT: &str = "\
import json, sys
import jsonschema
schema = json.loads(sys.stdin.readline())
of = jsonschema.Draft202012Validator
of.check_schema(schema)
validator = of(schema)
for line in sys.stdin:
    print(json.dumps([error.message[:200] for error in validator.iter_errors(json.loads(line))]), flush=True)
";

/// What is wrong with each instance by the schema; `None` without a validator, which is reported.
pub fn problems(schema: &Value, instances: &[Value]) -> Option<Vec<Vec<String>>> {
    let python = std::env::var_os("THRUM_TEST_PYTHON").filter(|path| !path.is_empty());
    let Some(python) = python else {
        eprintln!("\n*** SKIPPED: THRUM_TEST_PYTHON must be a Python with jsonschema ***\n");
        return None;
    };
    let mut running = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = running.stdin.take().unwrap();
    writeln!(input, "{schema}").unwrap();
    for instance in instances {
        writeln!(input, "{instance}").unwrap();
    }
    drop(input);
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let problems: Vec<Vec<String>> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(problems.len(), instances.len());
    Some(problems)
}

/// The schema, but each object has only the fields that it names.
pub fn strict(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let mut strict: serde_json::Map<String, Value> = members
                .iter()
                .map(|(name, value)| (name.clone(), strict(value)))
                .collect();
            // Not where the fields are constraints of an object that is described elsewhere.
            let describes = members.contains_key("properties") && members.contains_key("required");
            if describes {
                strict.insert("additionalProperties".to_owned(), false.into());
            }
            Value::Object(strict)
        }
        Value::Array(values) => values.iter().map(strict).collect(),
        other => other.clone(),
    }
}
