//! The OpenAPI document is public: it changes only on purpose.

use serde_json::Value;

/// `UPDATE_OPENAPI=1 cargo test --workspace --test openapi` regenerates the file.
/// Compares a stored file with what the code generates.
fn check_stored(name: &str, generated: &Value) {
    let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    let generated = serde_json::to_string_pretty(generated).unwrap() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap();
    let difference = generated
        .lines()
        .zip(stored.lines())
        .find(|(generated, stored)| generated != stored);
    assert_eq!(
        difference, None,
        "{name} is out of date (generated and stored line); UPDATE_OPENAPI=1 regenerates it"
    );
    assert_eq!(generated.len(), stored.len());
}

#[test]
fn openapi_json_is_up_to_date() {
    check_stored("openapi.json", &thrum_ingest::document());
}

#[test]
fn strategy_schema_json_is_up_to_date() {
    let schema = thrum_schema::signal::strategy::schema();
    check_stored("strategy.schema.json", &schema);
}

#[test]
fn references_resolve_and_operation_ids_are_unique() {
    let document = thrum_ingest::document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let mut names = std::collections::HashSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, call) in item.as_object().unwrap() {
            let name = call["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{method} {path}: {name}");
        }
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let (true, Some(reference)) = (name == "$ref", value.as_str()) {
                    references.push(reference.to_owned());
                }
                collect(value, references);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}
