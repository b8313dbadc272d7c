//! The built-in strategies.

use super::Strategy;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Their version; increment it when any rule here changes.
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

/// A built-in strategy, by name.
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

/// Trend and Cutler's RSI; in `combined`, sentiment confirms, contradicts or leads.
fn trend_rsi() -> Value {
    let mean = || json!({ "indicator": "sma", "n": 20 });
    let rsi = || json!({ "indicator": "rsi_cutler", "n": 14 });
    let sentiment = || json!({ "sentiment": { "max_age_s": "$sentiment_max_age_s" } });
    let rises = || json!({ "all": [compare("close", ">", mean()), compare(rsi(), ">", 55)] });
    let falls = || json!({ "all": [compare("close", "<", mean()), compare(rsi(), "<", 45)] });
    let good = || compare(sentiment(), ">", 0.55);
    let bad = || compare(sentiment(), "<", 0.45);
    let neither = || json!({ "not": { "any": [rises(), falls()] } });
    // If sentiment contradicts the price, the signal is HOLD; if the price gives no signal,
    // sentiment leads.
    let side = |price: Value, against: Value, leads: Value| {
        json!({ "any": [
            { "all": [price, { "not": against }] },
            { "all": [neither(), leads] },
        ] })
    };
    json!({
        "description": "BUY if the close is above its 20-bar mean and the simple-mean RSI above \
                        55; SELL if the close is below its mean and the RSI below 45. In the mode \
                        combined, sentiment above 0.55 or below 0.45 confirms, contradicts (HOLD) \
                        or, if the price gives no signal, leads. Windows count bars; the first \
                        signal is at bar 50. If sentiment_max_age_s is 0, scores of any age \
                        count.",
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
        "description": "The fast mean above (BUY) or below (SELL) the slow mean.",
        "params": { "fast": 10, "slow": 30 },
        "buy": compare(fast(), ">", slow()),
        "sell": compare(fast(), "<", slow()),
    })
}

fn macd() -> Value {
    let output = |name: &str| json!({ "indicator": "macd", "fast": "$fast", "slow": "$slow", "signal": "$signal", "output": name });
    json!({
        "description": "MACD above (BUY) or below (SELL) its signal line.",
        "params": { "fast": 12, "slow": 26, "signal": 9 },
        "buy": compare(output("macd"), ">", output("signal")),
        "sell": compare(output("macd"), "<", output("signal")),
    })
}

fn bollinger() -> Value {
    let band =
        |output: &str| json!({ "indicator": "bollinger", "n": "$n", "k": "$k", "output": output });
    json!({
        "description": "Mean reversion: BUY if the close is below the lower Bollinger band, SELL \
                        if it is above the upper one.",
        "params": { "n": 20, "k": 2 },
        "buy": compare("close", "<", band("lower")),
        "sell": compare("close", ">", band("upper")),
    })
}

fn donchian() -> Value {
    let channel =
        |output: &str| json!({ "indicator": "donchian", "n": "$n", "output": output, "ago": 1 });
    json!({
        "description": "Breakout: BUY if the close is above the highest high of the previous n \
                        bars, SELL if it is below the lowest low.",
        "params": { "n": 20 },
        "buy": compare("close", ">", channel("upper")),
        "sell": compare("close", "<", channel("lower")),
    })
}

fn zscore() -> Value {
    json!({
        "description": "Mean reversion: BUY if the value is k standard deviations below its mean, \
                        SELL if it is k above.",
        "params": { "n": 20, "k": 2 },
        "buy": compare(of_n("zscore"), "<", "-$k"),
        "sell": compare(of_n("zscore"), ">", "$k"),
    })
}

fn threshold() -> Value {
    json!({
        "description": "BUY if the value is above its maximum, SELL if it is below its minimum.",
        "params": { "min": -1e99, "max": 1e99 },
        "buy": compare("close", ">", "$max"),
        "sell": compare("close", "<", "$min"),
    })
}

fn ewma() -> Value {
    let z = || json!({ "indicator": "ewma_z", "alpha": "$alpha", "n": "$n" });
    json!({
        "description": "Control chart: BUY if the value is k standard deviations below the \
                        exponentially weighted mean of the previous values, SELL if it is k \
                        above.",
        "params": { "alpha": 0.2, "n": 20, "k": 3 },
        "buy": compare(z(), "<", "-$k"),
        "sell": compare(z(), ">", "$k"),
    })
}

fn absent_change() -> Value {
    json!({
        "description": "A value that should change but does not: SELL if the last n values differ \
                        by no more than the tolerance.",
        "params": { "n": 10, "tolerance": 0 },
        "buy": { "any": [] },
        "sell": compare(of_n("range"), "<=", "$tolerance"),
    })
}
