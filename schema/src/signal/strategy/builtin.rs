//! The built-in strategies.

use super::Strategy;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Their version; increment it when any rule here changes.
pub const VERSION: u32 = 2;

static BUILTINS: LazyLock<BTreeMap<&'static str, Strategy>> = LazyLock::new(|| {
    let all = [
        ("trend-rsi", trend_rsi()),
        ("sma-cross", cross("sma")),
        ("ema-cross", cross("ema")),
        ("macd", macd()),
        ("bollinger", bollinger()),
        ("donchian", donchian()),
        ("zscore", zscore()),
        ("turtle", turtle()),
        ("rsi-dip", rsi_dip()),
        ("auto", auto()),
        ("seasonal", seasonal()),
        ("holt-winters", holt_winters()),
        ("robust-zscore", robust_zscore()),
        ("ewma", ewma()),
        ("cusum", cusum()),
        ("threshold", threshold()),
        ("rate-of-change", rate_of_change()),
        ("absence", absence()),
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
        "gaps": "count",
        "buy": compare(fast(), ">", slow()),
        "sell": compare(fast(), "<", slow()),
    })
}

fn macd() -> Value {
    let output = |name: &str| json!({ "indicator": "macd", "fast": "$fast", "slow": "$slow", "signal": "$signal", "output": name });
    json!({
        "description": "MACD above (BUY) or below (SELL) its signal line.",
        "params": { "fast": 12, "slow": 26, "signal": 9 },
        "gaps": "count",
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
        "gaps": "count",
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
        "gaps": "count",
        "buy": compare("close", ">", channel("upper")),
        "sell": compare("close", "<", channel("lower")),
    })
}

fn zscore() -> Value {
    json!({
        "description": "Mean reversion: BUY if the value is k standard deviations below its mean, \
                        SELL if it is k above.",
        "params": { "n": 20, "k": 2 },
        "gaps": "count",
        "buy": compare(of_n("zscore"), "<", "-$k"),
        "sell": compare(of_n("zscore"), ">", "$k"),
    })
}

fn turtle() -> Value {
    let channel = |n: &str, output: &str| json!({ "indicator": "donchian", "n": n, "output": output, "ago": 1 });
    let from_entry = |op: &str| {
        json!({ "op": op, "left": { "position": "entry" },
                "right": { "op": "*", "left": "$k", "right": { "indicator": "atr", "n": "$atr" } } })
    };
    json!({
        "description": "Breakout with positions: long when the close is above the highest high of the previous \
                        `enter` bars, until it is below the lowest low of the previous `exit` bars, or k average \
                        true ranges below the entry; short the other way round.",
        "params": { "enter": 20, "exit": 10, "atr": 20, "k": 2 },
        "gaps": "count",
        "long": {
            "enter": compare("close", ">", channel("$enter", "upper")),
            "exit": { "any": [
                compare("close", "<", channel("$exit", "lower")),
                compare("close", "<", from_entry("-")),
            ] },
        },
        "short": {
            "enter": compare("close", "<", channel("$enter", "lower")),
            "exit": { "any": [
                compare("close", ">", channel("$exit", "upper")),
                compare("close", ">", from_entry("+")),
            ] },
        },
    })
}

fn rsi_dip() -> Value {
    json!({
        "description": "Long only, after a dip: enter when the RSI is back above `dip`, leave when it is above \
                        `exit`, after a loss of `stop` percent, a fall of `trail` percent from the best close, or \
                        `bars` bars.",
        "params": { "n": 14, "dip": 30, "exit": 60, "stop": 5, "trail": 8, "bars": 40 },
        "gaps": "count",
        "long": {
            "enter": compare(of_n("rsi"), "crosses_above", "$dip"),
            "exit": compare(of_n("rsi"), ">", "$exit"),
            "stop_loss_pct": "$stop", "trailing_stop_pct": "$trail", "time_stop_bars": "$bars",
        },
    })
}

fn auto() -> Value {
    json!({
        "description": "An anomaly detector that needs no tuning. It compares a value with the median of \
                        the last values, of the same hour on past days, or of the same hour or weekday of \
                        past weeks, whichever came closest so far. Warm-up: 14 values; 26 hours if they come \
                        about hourly.",
        "detector": "auto",
    })
}

fn seasonal() -> Value {
    json!({
        "description": "LOW or HIGH if the value is far from the median of the same hour (or weekday, for \
                        daily values) of past weeks. Warm-up: two weeks.",
        "detector": "seasonal",
    })
}

fn holt_winters() -> Value {
    json!({
        "description": "LOW or HIGH if the value is far from what exponential smoothing of level and season \
                        expects. The season has `period` values: by default 24, or 7 for values that come \
                        once a day. Warm-up: three seasons.",
        "detector": "holt-winters",
    })
}

fn robust_zscore() -> Value {
    json!({
        "description": "LOW or HIGH if the value is k robust standard deviations from the median of the n \
                        values before it. Warm-up: n values.",
        "detector": "robust-zscore",
    })
}

fn ewma() -> Value {
    json!({
        "description": "Control chart: LOW or HIGH if the value is k standard deviations from the \
                        exponentially weighted mean of the values before it. Warm-up: n values.",
        "detector": "ewma",
    })
}

fn cusum() -> Value {
    json!({
        "description": "Shifts of the level that no single value shows: LOW or HIGH if deviations from the \
                        median, less the drift, add up to h standard deviations. Warm-up: n values.",
        "detector": "cusum",
    })
}

fn threshold() -> Value {
    json!({
        "description": "HIGH if the value is above max, LOW if it is below min, until it is back by more than \
                        the hysteresis.",
        "detector": "threshold",
    })
}

fn rate_of_change() -> Value {
    json!({
        "description": "LOW or HIGH if the value differs by more than pct percent from the one n normal \
                        values before it.",
        "detector": "rate-of-change",
    })
}

fn absence() -> Value {
    json!({
        "description": "STALE if no value comes for after_s seconds, or if the last n values differ by no more \
                        than the tolerance; 0 turns a rule off.",
        "detector": "absence",
    })
}

fn absent_change() -> Value {
    json!({
        "description": "A value that should change but does not: STALE if the last n values differ by no \
                        more than the tolerance.",
        "detector": "absence",
        "params": { "n": 10, "tolerance": 0 },
    })
}
