//! The published JSON Schema of strategies accepts what Thrum accepts, and refuses what has another
//! form. An independent validator judges it.

use crate::support::schemas::problems;
use axum::http::Method;
use e2e::Stage;
use serde_json::{Value, json};
use thrum_schema::signal::Strategy;
use thrum_schema::signal::strategy::builtins;

/// The JSON examples of strategies in the documentation.
fn documented() -> Vec<Value> {
    let text = include_str!("../../docs/signals.md");
    let blocks = text.split("```json\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    let values = blocks.filter_map(|block| serde_json::from_str::<Value>(block).ok());
    let is_strategy = |value: &Value| {
        ["buy", "long", "detector"]
            .iter()
            .any(|name| value.get(name).is_some())
    };
    values.filter(is_strategy).collect()
}

#[tokio::test]
async fn the_published_schema_of_strategies_agrees_with_thrum() {
    let stage = Stage::new().await;
    let reply = stage
        .call(Method::GET, "/strategy.schema.json", Value::Null)
        .await;
    assert_eq!(reply.status, 200);
    let schema = reply.json();
    let never = json!({ "any": [] });
    let compare = json!({ "left": "close", "op": ">", "right": 1 });
    let of = |left: Value| json!({ "buy": { "left": left, "op": ">", "right": 1 }, "sell": never });
    let mut valid: Vec<Value> = builtins().map(|(_, strategy)| strategy.to_json()).collect();
    let examples = documented();
    assert_eq!(examples.len(), 2, "{examples:?}");
    valid.extend(examples);
    valid.extend([
        json!({ "buy": compare, "sell": never }),
        json!({ "long": { "enter": compare, "stop_loss_pct": "$x" }, "params": { "x": 5 } }),
        json!({ "modes": { "a": { "buy": compare, "sell": never }, "b": { "short": { "enter": compare, "exit": compare } } } }),
        of(json!({ "op": "/", "left": "volume", "right": { "indicator": "sma", "n": 5, "of": { "indicator": "rsi" } } })),
        json!({ "buy": { "confirm": { "all": [compare] }, "bars": 3 }, "sell": { "not": compare } }),
    ]);
    let invalid = [
        json!({}),
        json!([]),
        json!({ "buy": never }),
        json!({ "buy": never, "sell": never, "x": 1 }),
        json!({ "buy": never, "sell": never, "long": { "enter": compare, "exit": compare } }),
        json!({ "buy": never, "sell": never, "modes": {} }),
        json!({ "modes": {} }),
        json!({ "long": { "exit": compare } }),
        json!({ "detector": "auto", "buy": never }),
        json!({ "detector": "nothing" }),
        json!({ "buy": { "all": [] }, "sell": never }),
        of(json!("clos")),
        of(json!({ "indicator": "sma" })),
        of(json!({ "indicator": "sma", "n": 0 })),
        of(json!({ "indicator": "sma", "n": 1.5 })),
        of(json!({ "indicator": "atr", "of": "close" })),
        of(json!({ "indicator": "macd", "output": "x" })),
        of(json!({ "field": "close", "ago": 101 })),
        of(json!({ "position": "x" })),
        of(json!({ "op": "^", "left": 1, "right": 2 })),
        json!({ "buy": { "left": 1, "op": "=", "right": 2 }, "sell": never }),
    ];
    let all: Vec<Value> = valid.iter().chain(&invalid).cloned().collect();
    let Some(problems) = problems(&schema, &all) else {
        return;
    };
    let (of_valid, of_invalid) = problems.split_at(valid.len());
    for (strategy, problems) in valid.iter().zip(of_valid) {
        assert!(Strategy::parse(strategy).is_ok(), "{strategy}");
        assert!(problems.is_empty(), "{strategy}: {problems:?}");
    }
    for (strategy, problems) in invalid.iter().zip(of_invalid) {
        assert!(Strategy::parse(strategy).is_err(), "{strategy}");
        assert!(!problems.is_empty(), "{strategy}");
    }
}
