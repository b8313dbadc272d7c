//! The strategies that everybody has.

use super::Strategy;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Their version; a change of any rule here counts it.
pub const VERSION: u32 = 1;

static BUILTINS: LazyLock<BTreeMap<&'static str, Strategy>> = LazyLock::new(|| {
    let all = [
        ("trend-rsi", trend_rsi()),
        ("sma-cross", cross("sma")),
        ("ema-cross", cross("ema")),
        ("macd", macd()),
        ("bollinger", bollinger()),
        ("donchian", donchian()),
        ("zscore", zscore()),
        ("threshold", threshold()),
        ("ewma", ewma()),
        ("absent-change", absent_change()),
    ];
    let parse = |(name, value)| {
        (
            name,
            Strategy::parse(&value).expect("a built-in strategy is valid"),
        )
    };
    all.into_iter().map(parse).collect()
});

/// A built-in strategy.
pub fn builtin(name: &str) -> Option<&'static Strategy> {
    BUILTINS.get(name)
}

/// All of them, by name.
pub fn builtins() -> impl Iterator<Item = (&'static str, &'static Strategy)> {
    BUILTINS.iter().map(|(name, strategy)| (*name, strategy))
}

fn compare(left: impl Into<Value>, op: &str, right: impl Into<Value>) -> Value {
    json!({ "left": left.into(), "op": op, "right": right.into() })
}

fn of_n(indicator: &str) -> Value {
    json!({ "indicator": indicator, "n": "$n" })
}

/// The trend, and Cutler's strength; `combined` lets sentiment confirm, contradict or lead.
fn trend_rsi() -> Value {
    let mean = || json!({ "indicator": "sma", "n": 20 });
    let rsi = || json!({ "indicator": "rsi_cutler", "n": 14 });
    let feeling = || json!({ "sentiment": { "max_age_s": "$sentiment_max_age_s" } });
    let rises = || json!({ "all": [compare("close", ">", mean()), compare(rsi(), ">", 55)] });
    let falls = || json!({ "all": [compare("close", "<", mean()), compare(rsi(), "<", 45)] });
    let good = || compare(feeling(), ">", 0.55);
    let bad = || compare(feeling(), "<", 0.45);
    let neither = || json!({ "not": { "any": [rises(), falls()] } });
    // Agreement keeps the price's word, disagreement is HOLD; where the price says nothing, sentiment leads.
    let side = |price: Value, against: Value, leads: Value| {
        json!({ "any": [
            { "all": [price, { "not": against }] },
            { "all": [neither(), leads] },
        ] })
    };
    json!({
        "description": "The close beyond its mean of 20 bars, and the simple-mean RSI beyond 55 or 45. In the mode \
                        combined, sentiment above 0.55 or below 0.45 confirms, contradicts (HOLD) or, where the price \
                        says nothing, leads. Windows count bars; the first signal is at the 50th. \
                        sentiment_max_age_s of 0 lets a score be of any age.",
        "params": { "sentiment_max_age_s": 0 },
        "warmup": 50,
        "gaps": "count",
        "modes": {
            "price_only": { "buy": rises(), "sell": falls() },
            "combined": { "buy": side(rises(), bad(), good()), "sell": side(falls(), good(), bad()) },
        },
        "default_mode": "price_only",
    })
}

fn cross(mean: &str) -> Value {
    let fast = || json!({ "indicator": mean, "n": "$fast" });
    let slow = || json!({ "indicator": mean, "n": "$slow" });
    json!({
        "description": "The mean of the last bars above or below that of more bars.",
        "params": { "fast": 10, "slow": 30 },
        "buy": compare(fast(), ">", slow()),
        "sell": compare(fast(), "<", slow()),
    })
}

fn macd() -> Value {
    let output = |name: &str| json!({ "indicator": "macd", "fast": "$fast", "slow": "$slow", "signal": "$signal", "output": name });
    json!({
        "description": "MACD above or below its signal line.",
        "params": { "fast": 12, "slow": 26, "signal": 9 },
        "buy": compare(output("macd"), ">", output("signal")),
        "sell": compare(output("macd"), "<", output("signal")),
    })
}

fn bollinger() -> Value {
    let band =
        |output: &str| json!({ "indicator": "bollinger", "n": "$n", "k": "$k", "output": output });
    json!({
        "description": "The close beyond a Bollinger band, which it is expected to come back from.",
        "params": { "n": 20, "k": 2 },
        "buy": compare("close", "<", band("lower")),
        "sell": compare("close", ">", band("upper")),
    })
}

fn donchian() -> Value {
    let channel =
        |output: &str| json!({ "indicator": "donchian", "n": "$n", "output": output, "ago": 1 });
    json!({
        "description": "The close beyond the highest high or the lowest low of the bars before it.",
        "params": { "n": 20 },
        "buy": compare("close", ">", channel("upper")),
        "sell": compare("close", "<", channel("lower")),
    })
}

fn zscore() -> Value {
    json!({
        "description": "The value far from its mean: BUY if it is k standard deviations below, SELL if above.",
        "params": { "n": 20, "k": 2 },
        "buy": compare(of_n("zscore"), "<", "-$k"),
        "sell": compare(of_n("zscore"), ">", "$k"),
    })
}

fn threshold() -> Value {
    json!({
        "description": "The value below its minimum (SELL) or above its maximum (BUY).",
        "params": { "min": -1e99, "max": 1e99 },
        "buy": compare("close", ">", "$max"),
        "sell": compare("close", "<", "$min"),
    })
}

fn ewma() -> Value {
    let z = || json!({ "indicator": "ewma_z", "alpha": "$alpha", "n": "$n" });
    json!({
        "description": "A control chart: the value far from the exponentially weighted mean of those before it; BUY if \
                        it is k of their deviations below, SELL if above.",
        "params": { "alpha": 0.2, "n": 20, "k": 3 },
        "buy": compare(z(), "<", "-$k"),
        "sell": compare(z(), ">", "$k"),
    })
}

fn absent_change() -> Value {
    json!({
        "description": "A value that should move and did not: SELL if the last n values differ by no more than the \
                        tolerance.",
        "params": { "n": 10, "tolerance": 0 },
        "buy": { "any": [] },
        "sell": compare(of_n("range"), "<=", "$tolerance"),
    })
}
