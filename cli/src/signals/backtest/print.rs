//! Prints the result of a backtest.

use crate::remote::out;
use serde_json::Value;
use std::fmt::Write;
use thrum_schema::signal::number::show;

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn percent(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(|| "-".to_owned(), |x| format!("{:.2} %", x * 100.0))
}

fn number(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), show)
}

/// Prints a result, with its trades if asked to.
pub fn print(report: &Value, trades: bool) -> anyhow::Result<()> {
    let mut lines = String::new();
    if report["alerts"].is_array() {
        print_detected(&mut lines, report);
        return out(lines.trim_end());
    }
    print_inputs(&mut lines, report);
    lines.push('\n');
    print_results(&mut lines, report);
    print_portfolio(&mut lines, report);
    print_walk(&mut lines, report);
    print_search(&mut lines, report);
    print_chances(&mut lines, report);
    if trades {
        lines.push('\n');
        print_trades(&mut lines, report);
    }
    out(lines.trim_end())
}

fn print_inputs(lines: &mut String, report: &Value) {
    let _ = writeln!(
        lines,
        "{} ({}) on {}{} bars of {}, {} to {}",
        text(&report["strategy"]),
        text(&report["mode"]),
        report["series"]
            .as_str()
            .map_or_else(String::new, |series| format!("{series}, ")),
        number(&report["rows"]),
        text(&report["timeframe"]),
        text(&report["from"]),
        text(&report["to"])
    );
    if report["params"]
        .as_object()
        .is_some_and(|params| !params.is_empty())
    {
        let _ = writeln!(lines, "parameters {}", params(&report["params"]));
    }
    let _ = writeln!(
        lines,
        "fill {}, fee {} bps, slippage {} bps{}, {} bars per year{}",
        text(&report["fill"]).replace('_', " "),
        number(&report["fee_bps"]),
        number(&report["slippage_bps"]),
        size(&report["sizing"]),
        number(&report["annualization"]),
        match report["missing_bars"].as_i64() {
            Some(missing @ 1..) => format!(", {missing} bars missing"),
            _ => String::new(),
        }
    );
}

/// How much an entry invests; nothing for the whole equity.
fn size(of: &Value) -> String {
    let volatility = &of["volatility"];
    if let Some(fraction) = of["fraction"].as_f64().filter(|fraction| *fraction < 1.0) {
        format!(", {fraction} of the equity per entry")
    } else if let Some(amount) = of["fixed"].as_f64() {
        format!(", {amount} of the starting capital per entry")
    } else if let Some(target) = volatility["target"].as_f64() {
        let bars = number(&volatility["bars"]);
        format!(", sized to {target} annual volatility over {bars} bars")
    } else {
        String::new()
    }
}

/// What a detector would have said.
fn print_detected(lines: &mut String, report: &Value) {
    let days = report["days"].as_f64().unwrap_or_default();
    let count = report["alert_count"].as_u64().unwrap_or_default();
    let _ = writeln!(
        lines,
        "{} on {} values, {} to {}",
        text(&report["strategy"]),
        number(&report["rows"]),
        text(&report["from"]),
        text(&report["to"])
    );
    let _ = writeln!(
        lines,
        "It would have sent {count} alert{} in {days:.0} days ({} LOW, {} HIGH){}.",
        if count == 1 { "" } else { "s" },
        number(&report["low"]),
        number(&report["high"]),
        match report["unknown_values"].as_u64() {
            Some(n @ 1..) =>
                format!("; {n} values had no verdict, for example because it was still learning"),
            _ => String::new(),
        }
    );
    for alert in report["alerts"].as_array().into_iter().flatten() {
        let _ = writeln!(
            lines,
            "\n{} {}{}\n  {}",
            text(&alert["from"]),
            text(&alert["signal"]),
            match alert["until"].as_str() {
                Some(until) => format!(" until {until}"),
                None => ", ongoing".to_owned(),
            },
            text(&alert["summary"])
        );
    }
}

fn print_portfolio(lines: &mut String, report: &Value) {
    let Some(parts) = report["portfolio"].as_array() else {
        return;
    };
    let _ = writeln!(
        lines,
        "\n{:<24}{:>10}{:>13}{:>12}{:>14}",
        "series", "weight", "round trips", "win rate", "contribution"
    );
    for part in parts {
        let _ = writeln!(
            lines,
            "{:<24}{:>10}{:>13}{:>12}{:>14}",
            text(&part["series"]),
            percent(&part["weight"]),
            number(&part["round_trips"]),
            percent(&part["win_rate"]),
            percent(&part["contribution"])
        );
    }
}

/// Parameters as `fast=5 slow=20`.
fn params(of: &Value) -> String {
    let fields = of.as_object().into_iter().flatten();
    let fields: Vec<String> = fields
        .map(|(name, value)| format!("{name}={}", number(value)))
        .collect();
    fields.join(" ")
}

fn print_walk(lines: &mut String, report: &Value) {
    let walk = &report["walk_forward"];
    let Some(stretches) = walk["stretches"].as_array() else {
        return;
    };
    let _ = writeln!(
        lines,
        "\nWalk-forward, out of sample: total return {}, Sharpe {}, max drawdown {}; the best of {} combinations was \
         chosen before each stretch:",
        percent(&walk["total_return"]),
        number(&walk["sharpe"]),
        percent(&walk["max_drawdown"]),
        number(&walk["combinations"])
    );
    for stretch in stretches {
        let _ = writeln!(
            lines,
            "{} to {}  {:<24}{:>10}",
            text(&stretch["from"]),
            text(&stretch["to"]),
            params(&stretch["params"]),
            percent(&stretch["test_return"])
        );
    }
}

fn print_search(lines: &mut String, report: &Value) {
    let search = &report["search"];
    let Some(results) = search["results"].as_array() else {
        return;
    };
    let _ = writeln!(
        lines,
        "\n{:<30}{:>10}{:>14}{:>14}{:>13}",
        "parameters", "Sharpe", "total return", "max drawdown", "round trips"
    );
    for (i, result) in results.iter().enumerate() {
        if let Some(error) = result["error"].as_str() {
            let _ = writeln!(lines, "{:<30}{error}", params(&result["params"]));
            continue;
        }
        let _ = writeln!(
            lines,
            "{:<30}{:>10}{:>14}{:>14}{:>13}{}",
            params(&result["params"]),
            number(&result["sharpe"]),
            percent(&result["total_return"]),
            percent(&result["max_drawdown"]),
            number(&result["round_trips"]),
            if search["best"].as_u64() == u64::try_from(i).ok() {
                "  best"
            } else {
                ""
            }
        );
    }
    let _ = writeln!(
        lines,
        "The best of many combinations is partly luck: check it with --walk-forward."
    );
}

fn print_chances(lines: &mut String, report: &Value) {
    let of = &report["monte_carlo"];
    if !of.is_object() {
        return;
    }
    let _ = writeln!(
        lines,
        "\n{:<46}{:>10}{:>10}{:>10}{:>10}{:>10}",
        format!(
            "{} runs of {} trades",
            number(&of["runs"]),
            number(&of["trades"])
        ),
        "5 %",
        "25 %",
        "median",
        "75 %",
        "95 %"
    );
    for (label, quantiles) in [
        (
            "max drawdown, same trades in random order",
            &of["reordered"]["max_drawdown"],
        ),
        (
            "max drawdown, trades drawn at random",
            &of["resampled"]["max_drawdown"],
        ),
        (
            "total return, trades drawn at random",
            &of["resampled"]["total_return"],
        ),
    ] {
        let _ = write!(lines, "{label:<46}");
        for p in ["p5", "p25", "p50", "p75", "p95"] {
            let _ = write!(lines, "{:>10}", percent(&quantiles[p]));
        }
        lines.push('\n');
    }
    let _ = writeln!(
        lines,
        "{} of the runs with trades drawn at random lost money.",
        percent(&of["resampled"]["losing"])
    );
}

fn print_results(lines: &mut String, report: &Value) {
    let other = report["benchmark"]["series"].as_str();
    let _ = writeln!(
        lines,
        "{:<16}{:>14}{:>16}{:>16}",
        "",
        "strategy",
        "buy and hold",
        other.unwrap_or_default()
    );
    let held = &report["buy_and_hold"];
    for (label, name, is_percent) in [
        ("total return", "total_return", true),
        ("CAGR", "cagr", true),
        ("volatility", "volatility", true),
        ("Sharpe", "sharpe", false),
        ("Sortino", "sortino", false),
        ("max drawdown", "max_drawdown", true),
    ] {
        let cell = |of: &Value| {
            if is_percent {
                percent(&of[name])
            } else {
                number(&of[name])
            }
        };
        let third = other.map_or_else(String::new, |_| cell(&report["benchmark"]));
        let _ = writeln!(
            lines,
            "{label:<16}{:>14}{:>16}{third:>16}",
            cell(report),
            cell(held)
        );
    }
    for (label, cell) in [
        ("round trips", number(&report["round_trips"])),
        ("win rate", percent(&report["win_rate"])),
        ("profit factor", number(&report["profit_factor"])),
        ("exposure", percent(&report["exposure"])),
        ("turnover", number(&report["turnover"])),
    ] {
        let _ = writeln!(lines, "{label:<16}{cell:>14}");
    }
    let benchmark = &report["benchmark"];
    if benchmark.is_object() {
        for (label, cell) in [
            ("excess return", percent(&benchmark["excess_return"])),
            ("beta", number(&benchmark["beta"])),
            ("correlation", number(&benchmark["correlation"])),
        ] {
            let _ = writeln!(lines, "{label:<16}{cell:>14}");
        }
    }
    let deepest = match report["max_drawdown_from"].as_str() {
        Some(from) => format!(
            "Maximum drawdown from {from} to {}.",
            text(&report["max_drawdown_to"])
        ),
        None => "No drawdown.".to_owned(),
    };
    let _ = writeln!(
        lines,
        "\n{deepest} Look-ahead: {}.",
        if report["look_ahead"]["clean"] == true {
            "none (no signal changed when later bars were removed)"
        } else {
            "FOUND (signals changed when later bars were removed)"
        }
    );
}

fn print_trades(lines: &mut String, report: &Value) {
    for trade in report["trades"].as_array().into_iter().flatten() {
        let _ = writeln!(
            lines,
            "{}{:<6}{} at {:<12}{} at {:<12}{:>10}  {}",
            trade["series"]
                .as_str()
                .map_or_else(String::new, |series| format!("{series:<16}")),
            text(&trade["side"]),
            text(&trade["entered_at"]),
            number(&trade["entry_price"]),
            text(&trade["exited_at"]),
            number(&trade["exit_price"]),
            percent(&trade["net_return"]),
            trade["exit"].as_str().unwrap_or("open").replace('_', " ")
        );
    }
}
