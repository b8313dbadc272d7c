//! The account of a backtest: it holds a number of units from entry to exit, pays costs on the
//! amount of each order, and is valued at closes. These are the rules of backtesting.py.

use super::periods::Periods;
use super::report::Trade;
use thrum_schema::UnixMs;

/// Largest equity, so that it never becomes infinite.
const MAX_EQUITY: f64 = 1e300;

/// What an account did.
#[derive(Debug)]
pub struct Ledger {
    /// The equity at the end of each period; it starts with 1. Once it is 0, it stays 0.
    pub equity: Vec<f64>,
    /// The positions, from entry to exit.
    pub trades: Vec<Trade>,
}

impl Ledger {
    /// The return of each period.
    pub fn returns(&self) -> Vec<f64> {
        let before = std::iter::once(&1.0).chain(&self.equity);
        let both = before.zip(&self.equity);
        both.map(|(before, after)| {
            if *before > 0.0 {
                after / before - 1.0
            } else {
                0.0
            }
        })
        .collect()
    }
}

/// An open position.
struct Held {
    side: i8,
    /// Negative for a short position.
    units: f64,
    entered: (UnixMs, f64),
    /// The equity before the entry, and the period of the entry.
    before: f64,
    period: usize,
}

/// Trades `positions` (1, 0 or -1) in `periods`, with costs of `cost` per traded amount. An entry
/// invests the whole equity: `equity / (price × (1 + cost))` units. A position that loses
/// everything ends the test.
pub fn trade(periods: &Periods, positions: &[i8], cost: f64) -> Ledger {
    let mut ledger = Ledger {
        equity: Vec::with_capacity(positions.len()),
        trades: Vec::new(),
    };
    let (mut cash, mut held) = (1.0_f64, None::<Held>);
    for (i, side) in positions.iter().enumerate() {
        let (fill, mark) = (periods.fills[i], periods.marks[i]);
        if let Some(old) = held.take_if(|held| held.side != *side) {
            cash = sold(cash, &old, fill.1, cost);
            ledger.trades.push(closed(&old, fill, i, cash));
        }
        if held.is_none() && *side != 0 && cash > 0.0 {
            let units = f64::from(*side) * cash / (fill.1 * (1.0 + cost));
            held = Some(Held {
                side: *side,
                units,
                entered: fill,
                before: cash,
                period: i,
            });
            cash -= units * fill.1 + (units * fill.1).abs() * cost;
        }
        let mut equity = held
            .as_ref()
            .map_or(cash, |held| cash + held.units * mark.1);
        if equity <= 0.0 {
            if let Some(lost) = held.take() {
                ledger.trades.push(closed(&lost, mark, i + 1, 0.0));
            }
            (cash, equity) = (0.0, 0.0);
        }
        ledger.equity.push(equity.min(MAX_EQUITY));
    }
    if let (Some(open), Some(mark)) = (held, periods.marks.last()) {
        let worth = cash + open.units * mark.1;
        ledger.trades.push(Trade {
            open: true,
            ..closed(&open, *mark, positions.len(), worth)
        });
    }
    ledger
}

/// The cash after a position was closed.
fn sold(cash: f64, held: &Held, price: f64, cost: f64) -> f64 {
    let amount = held.units * price;
    (cash + amount - amount.abs() * cost).clamp(0.0, MAX_EQUITY)
}

fn closed(held: &Held, exited: (UnixMs, f64), end: usize, equity: f64) -> Trade {
    Trade {
        side: if held.side > 0 { "long" } else { "short" },
        entered_at: held.entered.0.rfc3339(),
        entry_price: held.entered.1,
        exited_at: exited.0.rfc3339(),
        exit_price: exited.1,
        open: false,
        bars: end - held.period,
        net_return: equity.min(MAX_EQUITY) / held.before - 1.0,
    }
}
