//! The result of a backtest, as a page shows it.

use super::super::super::chart::{BLUE, Chart, GREY, INK, Line, Mark, ORANGE, Svg};
use super::super::super::words::{At, at, number};
use serde_json::Value;
use std::collections::BTreeMap;

/// Maximum number of trades and alerts listed.
const LISTED: usize = 200;

/// A result.
pub struct Outcome {
    pub title: String,
    /// `queued`, `done` or `failed`.
    pub status: String,
    pub error: String,
    pub from: Option<At>,
    pub to: Option<At>,
    /// The parameters of the strategy.
    pub params: String,
    pub detected: Option<Detected>,
    pub traded: Option<Traded>,
}

/// What a detector said.
pub struct Detected {
    /// How often it would have sent an alert, in words.
    pub verdict: String,
    pub unknown: String,
    pub values: Option<Svg>,
    pub alerts: Vec<Alert>,
    pub total: usize,
    /// The fields of a watch that does this.
    pub watch: Vec<(&'static str, String)>,
}

pub struct Alert {
    pub signal: String,
    pub from: Option<At>,
    pub until: Option<At>,
    pub value: String,
    pub summary: String,
}

/// What a trading strategy did.
pub struct Traded {
    pub costs: String,
    pub figures: Vec<Figure>,
    /// The name of the benchmark, if there is one.
    pub benchmark: String,
    pub more: Vec<(&'static str, String)>,
    pub look_ahead: &'static str,
    pub equity: Option<Svg>,
    pub parts: Vec<Vec<String>>,
    pub exits: Vec<Vec<String>>,
    pub chances: Vec<(String, Vec<String>)>,
    pub losing: String,
    pub walk: Option<Walk>,
    pub search: Option<Search>,
    pub trades: Vec<Trade>,
    pub total: usize,
    pub has_parts: bool,
    pub has_sizes: bool,
}

/// A figure of the strategy, of buy and hold, and of the benchmark.
pub struct Figure {
    pub name: &'static str,
    pub value: String,
    pub held: String,
    pub benchmark: String,
}

pub struct Trade {
    pub series: String,
    pub side: String,
    pub entered: At,
    pub entry: String,
    pub exited: At,
    pub exit: String,
    pub why: String,
    pub bars: String,
    /// The fraction of the equity that was invested, if not all of it.
    pub size: String,
    pub net: String,
}

/// A walk-forward test.
pub struct Walk {
    pub summary: String,
    pub equity: Option<Svg>,
    pub stretches: Vec<Stretch>,
}

pub struct Stretch {
    pub from: Option<At>,
    pub to: Option<At>,
    pub params: String,
    pub sharpe: String,
    pub result: String,
}

/// A search of parameters: a heatmap of one or two, or a list.
pub struct Search {
    pub best: String,
    /// The names of the columns' and the rows' parameter.
    pub axes: Option<(String, String)>,
    pub columns: Vec<String>,
    pub rows: Vec<(String, Vec<Cell>)>,
    pub list: Vec<Vec<String>>,
}

/// A cell of a heatmap.
pub struct Cell {
    pub text: String,
    /// From `n4` (the worst loss) over `z` to `p4` (the best), or empty.
    pub shade: String,
    pub title: String,
    pub is_best: bool,
}

pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn when(value: &Value, name: &str) -> Option<At> {
    value[name].as_str().map(at)
}

/// A fraction as a percentage, rounded.
fn percent(x: f64) -> String {
    format!("{:.2} %", x * 100.0)
}

/// A fraction that was set, as a percentage.
fn setting(x: f64) -> String {
    format!("{} %", number(x * 100.0))
}

/// A fraction as a percentage, or a dash.
fn part(x: &Value) -> String {
    x.as_f64().map_or_else(|| "–".to_owned(), percent)
}

/// A number, or a dash.
fn plain(x: &Value) -> String {
    x.as_f64().map_or_else(|| "–".to_owned(), number)
}

/// A number with two decimals, or a dash.
fn short(x: &Value) -> String {
    x.as_f64()
        .map_or_else(|| "–".to_owned(), |x| format!("{x:.2}"))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[][..], Vec::as_slice)
}

/// Parameters as `fast = 5, slow = 20`.
fn params(of: &Value) -> String {
    let fields = of.as_object().into_iter().flatten();
    let fields: Vec<String> = fields
        .map(|(name, x)| format!("{name} = {}", plain(x)))
        .collect();
    fields.join(", ")
}

fn plural(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

impl Outcome {
    /// The result that the API, or an offline test, returned.
    pub fn new(report: &Value) -> Self {
        let is_done = !matches!(text(report, "status"), "queued" | "failed");
        let detected = report["alerts"].is_array();
        let parts: Vec<&str> = list(report, "portfolio")
            .iter()
            .map(|part| text(part, "series"))
            .collect();
        let of = match text(report, "series") {
            "" if parts.is_empty() => String::new(),
            "" => format!(" on {}", parts.join(", ")),
            series => format!(" on {series}"),
        };
        Self {
            title: format!(
                "{}{of} ({})",
                text(report, "strategy"),
                text(report, "timeframe")
            ),
            status: match text(report, "status") {
                "" => "done",
                status => status,
            }
            .to_owned(),
            error: text(report, "error").to_owned(),
            from: when(report, "from"),
            to: when(report, "to"),
            params: params(&report["params"]),
            detected: (is_done && detected).then(|| Detected::new(report)),
            traded: (is_done && !detected).then(|| Traded::new(report)),
        }
    }
}

impl Detected {
    fn new(report: &Value) -> Self {
        let total = report["alert_count"].as_u64().unwrap_or(0);
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        let days = report["days"].as_f64().unwrap_or(0.0);
        let alerts = list(report, "alerts");
        let values = list(report, "values");
        let time = |value: &Value, name: &str| when(value, name).map(|at| at.0);
        let line = Line {
            color: INK,
            points: values
                .iter()
                .filter_map(|value| Some((time(value, "time")?, Some(value["value"].as_f64()?))))
                .collect(),
        };
        let marks = alerts.iter().filter_map(|alert| {
            let is_high = text(alert, "signal") == "HIGH";
            Some(Mark {
                at: time(alert, "from")?,
                y: alert["value"].as_f64()?,
                triangle: is_high,
                color: if is_high { BLUE } else { ORANGE },
            })
        });
        let chart = Chart {
            height: 300,
            lines: vec![line],
            marks: marks.collect(),
            ..Chart::default()
        };
        let mut watch = vec![
            (
                "of",
                format!("{} {}", text(report, "series"), text(report, "timeframe")),
            ),
            ("strategy", text(report, "strategy").to_owned()),
        ];
        // Not as shown, but exactly.
        let given = report["params"].as_object().into_iter().flatten();
        let given: Vec<String> = given.map(|(name, x)| format!("{name} = {x}")).collect();
        watch.push(("params", given.join("; ")));
        Self {
            verdict: format!(
                "It would have sent {} in {}.",
                plural(total, "alert"),
                plural(days_of(days), "day")
            ),
            unknown: match report["unknown_values"].as_u64() {
                Some(n @ 1..) => {
                    format!(
                        "{n} of the values have no verdict, for example because the detector was still learning."
                    )
                }
                _ => String::new(),
            },
            values: chart.draw(),
            alerts: alerts.iter().rev().take(LISTED).map(Alert::new).collect(),
            total,
            watch: if text(report, "series").is_empty() {
                Vec::new()
            } else {
                watch
            },
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of days"
)]
fn days_of(days: f64) -> usize {
    days.round().max(0.0) as usize
}

impl Alert {
    fn new(alert: &Value) -> Self {
        Self {
            signal: text(alert, "signal").to_owned(),
            from: when(alert, "from"),
            until: when(alert, "until"),
            value: plain(&alert["value"]),
            summary: text(alert, "summary").to_owned(),
        }
    }
}

impl Traded {
    fn new(report: &Value) -> Self {
        let figure = |name, field: &str, shown: fn(&Value) -> String| Figure {
            name,
            value: shown(&report[field]),
            held: shown(&report["buy_and_hold"][field]),
            benchmark: shown(&report["benchmark"][field]),
        };
        let trades = list(report, "trades");
        let shown = trades.iter().rev().take(LISTED).filter_map(Trade::new);
        let mut more = vec![
            ("Round trips", plain(&report["round_trips"])),
            ("Win rate", part(&report["win_rate"])),
            ("Profit factor", plain(&report["profit_factor"])),
            ("Exposure", part(&report["exposure"])),
            ("Bars", plain(&report["rows"])),
        ];
        if report["benchmark"].is_object() {
            more.push(("Excess return", part(&report["benchmark"]["excess_return"])));
            more.push(("Beta", short(&report["benchmark"]["beta"])));
            more.push(("Correlation", short(&report["benchmark"]["correlation"])));
        }
        let parts = list(report, "portfolio");
        Self {
            costs: format!(
                "Fee {} and slippage {} basis points, fill: {}{}",
                plain(&report["fee_bps"]),
                plain(&report["slippage_bps"]),
                text(report, "fill").replace('_', " "),
                sizing(&report["sizing"])
            ),
            figures: vec![
                figure("Total return", "total_return", part),
                figure("Annual return (CAGR)", "cagr", part),
                figure("Annual volatility", "volatility", part),
                figure("Sharpe ratio", "sharpe", plain),
                figure("Sortino ratio", "sortino", plain),
                figure("Maximum drawdown", "max_drawdown", part),
            ],
            benchmark: text(&report["benchmark"], "series").to_owned(),
            more,
            look_ahead: match report["look_ahead"]["clean"].as_bool() {
                Some(true) => "No look-ahead: removing later bars changes no earlier signal.",
                Some(false) => {
                    "Look-ahead detected: removing later bars changed earlier signals. Do not trust \
                     these figures."
                }
                None => "",
            },
            equity: equity(report),
            parts: parts
                .iter()
                .map(|of| {
                    vec![
                        text(of, "series").to_owned(),
                        part(&of["weight"]),
                        plain(&of["round_trips"]),
                        part(&of["win_rate"]),
                        part(&of["contribution"]),
                    ]
                })
                .collect(),
            exits: exits(trades),
            chances: chances(&report["monte_carlo"]),
            losing: match &report["monte_carlo"] {
                Value::Null => String::new(),
                of => format!(
                    "{} of {} runs with trades drawn at random lost money.",
                    part(&of["resampled"]["losing"]),
                    plain(&of["runs"])
                ),
            },
            walk: report["walk_forward"]
                .is_object()
                .then(|| Walk::new(&report["walk_forward"])),
            search: report["search"]
                .is_object()
                .then(|| Search::new(&report["search"])),
            trades: shown.collect(),
            total: trades.len(),
            has_parts: !parts.is_empty(),
            has_sizes: trades.iter().any(|trade| trade["size"].is_f64()),
        }
    }
}

/// How much an entry invests, in words; empty for the whole equity.
fn sizing(of: &Value) -> String {
    if let Some(fraction) = of["fraction"].as_f64() {
        return if fraction < 1.0 {
            format!(", {} of the equity per entry", setting(fraction))
        } else {
            String::new()
        };
    }
    if let Some(amount) = of["fixed"].as_f64() {
        return format!(", {} of the starting capital per entry", setting(amount));
    }
    match of["volatility"]["target"].as_f64() {
        Some(target) => format!(
            ", sized to {} annual volatility over {} bars",
            setting(target),
            plain(&of["volatility"]["bars"])
        ),
        None => String::new(),
    }
}

/// Why trades ended: how many, how many of them gained, and their mean.
fn exits(trades: &[Value]) -> Vec<Vec<String>> {
    let mut by: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for trade in trades {
        let why = if trade["open"] == true {
            "still open"
        } else {
            text(trade, "exit")
        };
        by.entry(why)
            .or_default()
            .extend(trade["net_return"].as_f64());
    }
    let row = |(why, returns): (&str, Vec<f64>)| {
        #[expect(clippy::cast_precision_loss, reason = "a number of trades")]
        let count = |n: usize| n as f64;
        let n = count(returns.len()).max(1.0);
        let won = count(returns.iter().filter(|r| **r > 0.0).count());
        vec![
            why.replace('_', " "),
            returns.len().to_string(),
            percent(won / n),
            percent(returns.iter().sum::<f64>() / n),
        ]
    };
    by.into_iter().map(row).collect()
}

/// The quantiles of a simulation.
fn chances(of: &Value) -> Vec<(String, Vec<String>)> {
    let rows = [
        (
            "Maximum drawdown, same trades in random order",
            &of["reordered"]["max_drawdown"],
        ),
        (
            "Maximum drawdown, trades drawn at random",
            &of["resampled"]["max_drawdown"],
        ),
        (
            "Total return, trades drawn at random",
            &of["resampled"]["total_return"],
        ),
    ];
    let rows = rows
        .into_iter()
        .filter(|(_, quantiles)| quantiles.is_object());
    let row = |(name, quantiles): (&str, &Value)| {
        let cells = ["p5", "p25", "p50", "p75", "p95"].map(|p| part(&quantiles[p]));
        (name.to_owned(), cells.to_vec())
    };
    rows.map(row).collect()
}

impl Trade {
    fn new(trade: &Value) -> Option<Self> {
        Some(Self {
            series: text(trade, "series").to_owned(),
            side: text(trade, "side").to_owned(),
            entered: when(trade, "entered_at")?,
            entry: plain(&trade["entry_price"]),
            exited: when(trade, "exited_at")?,
            exit: plain(&trade["exit_price"]),
            why: if trade["open"] == true {
                "still open".to_owned()
            } else {
                text(trade, "exit").replace('_', " ")
            },
            bars: plain(&trade["bars"]),
            size: trade["size"]
                .as_f64()
                .map_or_else(|| "100.00 %".to_owned(), percent),
            net: part(&trade["net_return"]),
        })
    }
}

impl Walk {
    fn new(of: &Value) -> Self {
        let stretch = |stretch: &Value| Stretch {
            from: when(stretch, "from"),
            to: when(stretch, "to"),
            params: params(&stretch["params"]),
            sharpe: short(&stretch["train_sharpe"]),
            result: part(&stretch["test_return"]),
        };
        Self {
            summary: format!(
                "Out of sample: total return {}, Sharpe ratio {}, maximum drawdown {}; the best of {} combinations was \
                 chosen before each stretch.",
                part(&of["total_return"]),
                short(&of["sharpe"]),
                part(&of["max_drawdown"]),
                plain(&of["combinations"])
            ),
            equity: equity(of),
            stretches: list(of, "stretches").iter().map(stretch).collect(),
        }
    }
}

impl Search {
    fn new(of: &Value) -> Self {
        let results = list(of, "results");
        let best = of["best"]
            .as_u64()
            .and_then(|best| results.get(usize::try_from(best).ok()?));
        let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for result in results {
            for (name, x) in result["params"].as_object().into_iter().flatten() {
                let known = values.entry(name).or_default();
                let x = x.as_f64().unwrap_or(0.0);
                if !known.contains(&x) {
                    known.push(x);
                }
            }
        }
        let varied: Vec<&str> = values
            .iter()
            .filter(|(_, values)| values.len() > 1)
            .map(|(name, _)| *name)
            .collect();
        let most = results
            .iter()
            .filter_map(|result| result["sharpe"].as_f64());
        let most = most.fold(0.0_f64, |most, sharpe| most.max(sharpe.abs()));
        let axes = match varied[..] {
            [column] => Some((column.to_owned(), String::new())),
            [row, column] => Some((column.to_owned(), row.to_owned())),
            _ => None,
        };
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        if let Some((column, row)) = &axes {
            let of_row = values
                .get(row.as_str())
                .cloned()
                .unwrap_or_else(|| vec![f64::NAN]);
            columns = values[column.as_str()].clone();
            let found = |x: f64, y: f64| {
                results.iter().find(|result| {
                    let has = |name: &str, x: f64| result["params"][name].as_f64() == Some(x);
                    has(column, x) && (row.is_empty() || has(row, y))
                })
            };
            rows = of_row
                .iter()
                .map(|y| {
                    let cells = columns.iter().map(|x| Cell::new(found(*x, *y), best, most));
                    let name = if row.is_empty() {
                        "Sharpe".to_owned()
                    } else {
                        number(*y)
                    };
                    (name, cells.collect())
                })
                .collect();
        }
        let list = results.iter().map(|result| {
            let outcome = match text(result, "error") {
                "" => part(&result["total_return"]),
                error => error.to_owned(),
            };
            vec![
                params(&result["params"]),
                short(&result["sharpe"]),
                outcome,
                part(&result["max_drawdown"]),
                plain(&result["round_trips"]),
            ]
        });
        Self {
            best: best.map_or_else(String::new, |best| {
                format!(
                    "Best: {} (Sharpe ratio {}).",
                    params(&best["params"]),
                    short(&best["sharpe"])
                )
            }),
            columns: columns.into_iter().map(number).collect(),
            rows,
            list: list.collect(),
            axes,
        }
    }
}

impl Cell {
    fn new(result: Option<&Value>, best: Option<&Value>, most: f64) -> Self {
        let Some(result) = result else {
            return Self {
                text: "–".to_owned(),
                shade: String::new(),
                title: String::new(),
                is_best: false,
            };
        };
        let sharpe = result["sharpe"].as_f64();
        let shade = sharpe.map_or_else(String::new, |sharpe| {
            let step = (sharpe / most.max(1e-9) * 4.0).round();
            match step {
                1.0.. => format!("p{step}"),
                ..=-1.0 => format!("n{}", -step),
                _ => "z".to_owned(),
            }
        });
        Self {
            text: short(&result["sharpe"]),
            shade,
            title: match text(result, "error") {
                "" => format!(
                    "{}: total return {}, maximum drawdown {}",
                    params(&result["params"]),
                    part(&result["total_return"]),
                    part(&result["max_drawdown"])
                ),
                error => error.to_owned(),
            },
            is_best: best == Some(result),
        }
    }
}

/// A chart of the equity of the strategy, of buy and hold, and of the benchmark.
fn equity(report: &Value) -> Option<Svg> {
    let points = list(report, "equity");
    let line = |field: &str, color| Line {
        color,
        points: points
            .iter()
            .filter_map(|point| Some((when(point, "time")?.0, Some(point[field].as_f64()?))))
            .collect(),
    };
    let lines = vec![
        line("benchmark", ORANGE),
        line("buy_and_hold", GREY),
        line("equity", BLUE),
    ];
    let chart = Chart {
        height: 300,
        lines: lines
            .into_iter()
            .filter(|line| !line.points.is_empty())
            .collect(),
        ..Chart::default()
    };
    chart.draw()
}
