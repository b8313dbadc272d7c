//! The account of a backtest: it holds a number of units from entry to exit, pays costs on the
//! amount of each order, and is valued at closes. For one series and its whole equity, these are the
//! rules of backtesting.py.

use super::periods::{Periods, Rows};
use serde::Serialize;
use thrum_schema::UnixMs;
use thrum_schema::signal::explanation::Exit;
use thrum_schema::signal::request::Sizing;

/// Largest equity, so that it never becomes infinite.
const MAX_EQUITY: f64 = 1e300;

/// What is traded of one series.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The name of the series, in a portfolio.
    pub series: Option<&'a str>,
    /// Its share of the equity.
    pub weight: f64,
    pub periods: &'a Periods,
    /// The position in each period: 1, 0 or -1.
    pub positions: &'a [i8],
}

/// What an account did.
#[derive(Debug)]
pub struct Ledger {
    /// The equity at the end of each row; it starts with 1. Once it is 0, it stays 0.
    pub equity: Vec<f64>,
    /// The positions, from entry to exit.
    pub trades: Vec<Trade>,
    /// What each of them gained, as a fraction of the equity at its entry.
    pub gains: Vec<f64>,
}

impl Ledger {
    /// The return of each row.
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

/// A position from entry to exit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trade {
    /// The series, in a portfolio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// `long` or `short`.
    pub side: &'static str,
    pub entered_at: String,
    pub entry_price: f64,
    /// When the position was closed; if it is still open, the end of the last period.
    pub exited_at: String,
    pub exit_price: f64,
    pub open: bool,
    /// Why it ended; absent while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    pub bars: usize,
    /// The fraction of the equity that was invested; absent if that was all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<f64>,
    /// Of what was invested, net of costs.
    pub net_return: f64,
}

/// An open position.
#[derive(Clone, Copy)]
struct Held {
    side: i8,
    /// Negative for a short position.
    units: f64,
    entered: (UnixMs, f64),
    /// What was invested, with its cost, and the equity at the entry.
    amount: f64,
    before: f64,
    period: usize,
}

/// The account while it trades.
struct Account<'a> {
    plans: &'a [Plan<'a>],
    cost: f64,
    cash: f64,
    held: Vec<Option<Held>>,
    /// The last known price of each series.
    prices: Vec<f64>,
    ledger: Ledger,
}

/// Trades `plans` on a common time axis, with costs of `cost` per traded amount.
///
/// At each row, positions that a signal ends are closed first. Then new ones are entered, each with its
/// weight times what `sizing` says of the equity; if that is more than the part of the equity that
/// is not invested, all new ones get proportionally less. `amount / (price × (1 + cost))` units are
/// held. An account that loses everything ends.
pub fn trade(plans: &[Plan<'_>], rows: &Rows, cost: f64, sizing: Sizing) -> Ledger {
    let mut account = Account {
        plans,
        cost,
        cash: 1.0,
        held: vec![None; plans.len()],
        prices: vec![0.0; plans.len()],
        ledger: Ledger {
            equity: Vec::with_capacity(rows.ends.len()),
            trades: Vec::new(),
            gains: Vec::new(),
        },
    };
    // The next period of each series, and the entries of a row: which series, and how much.
    let (mut next, mut marked) = (vec![0; plans.len()], vec![0; plans.len()]);
    let mut entries: Vec<(usize, f64)> = Vec::new();
    for row in 0..rows.ends.len() {
        let trades_now = |m: usize, next: &[usize]| rows.of[m].get(next[m]) == Some(&row);
        for m in 0..plans.len() {
            if trades_now(m, &next) {
                account.prices[m] = plans[m].periods.fills[next[m]].1;
                account.exit(m, next[m]);
            }
        }
        let equity = account.equity();
        entries.clear();
        for (m, plan) in plans.iter().enumerate() {
            if trades_now(m, &next)
                && plan.positions[next[m]] != 0
                && account.held[m].is_none()
                && equity > 0.0
            {
                let amount = match sizing {
                    Sizing::Fraction(fraction) => fraction * equity,
                    Sizing::Fixed(amount) => amount,
                    Sizing::Volatility { .. } => plan.periods.sizes[next[m]] * equity,
                };
                entries.push((m, plan.weight * amount));
            }
        }
        account.enter(&entries, &next, equity);
        for m in 0..plans.len() {
            if trades_now(m, &next) {
                next[m] += 1;
            }
            // The last close that is known before the next row begins.
            let marks = &plans[m].periods.marks;
            while let Some((at, price)) = marks.get(marked[m])
                && *at <= rows.nexts[row]
                && marked[m] < next[m]
            {
                account.prices[m] = *price;
                marked[m] += 1;
            }
        }
        account.mark(rows.ends[row], &next);
    }
    account.close(&next);
    account.ledger
}

impl Account<'_> {
    /// The equity, at the last known prices.
    fn equity(&self) -> f64 {
        let held = self.held.iter().zip(&self.prices);
        held.fold(self.cash, |equity, (held, price)| {
            equity + held.map_or(0.0, |held| held.units * price)
        })
    }

    /// Closes the position of a series if its side ends with this period.
    fn exit(&mut self, m: usize, period: usize) {
        let plan = self.plans[m];
        let Some(old) = self.held[m].take_if(|held| held.side != plan.positions[period]) else {
            return;
        };
        let price = self.prices[m];
        let amount = old.units * price;
        let worth = amount - amount.abs() * self.cost;
        self.cash = (self.cash + worth).min(MAX_EQUITY);
        let why = Some(plan.periods.ends[period]);
        self.record(m, &old, (plan.periods.fills[period].0, price), period, why);
    }

    /// Enters positions, each with its amount.
    fn enter(&mut self, entries: &[(usize, f64)], next: &[usize], equity: f64) {
        let wanted: f64 = entries.iter().map(|(_, amount)| amount).sum();
        let held = self.held.iter().zip(&self.prices);
        let invested: f64 = held
            .map(|(held, price)| held.map_or(0.0, |held| (held.units * price).abs()))
            .sum();
        let free = (equity - invested).max(0.0);
        let scale = if wanted > free { free / wanted } else { 1.0 };
        for (m, amount) in entries {
            let (m, amount) = (*m, amount * scale);
            let plan = self.plans[m];
            let (period, price) = (next[m], self.prices[m]);
            let side = plan.positions[period];
            let units = f64::from(side) * amount / (price * (1.0 + self.cost));
            if units == 0.0 {
                continue;
            }
            self.held[m] = Some(Held {
                side,
                units,
                entered: plan.periods.fills[period],
                amount,
                before: equity,
                period,
            });
            self.cash -= units * price + (units * price).abs() * self.cost;
        }
    }

    /// Values the account at the end of a row.
    fn mark(&mut self, at: UnixMs, next: &[usize]) {
        let mut equity = self.equity();
        if equity <= 0.0 {
            for (m, end) in next.iter().enumerate() {
                if let Some(lost) = self.held[m].take() {
                    let exited = (at, self.prices[m]);
                    self.record(m, &lost, exited, *end, Some(Exit::Ruin));
                }
            }
            (self.cash, equity) = (0.0, 0.0);
        }
        self.ledger.equity.push(equity.min(MAX_EQUITY));
    }

    /// Records the positions that are still open at the end.
    fn close(&mut self, next: &[usize]) {
        for (m, end) in next.iter().enumerate() {
            let marks = &self.plans[m].periods.marks;
            if let (Some(open), Some(mark)) = (self.held[m].take(), marks.last()) {
                self.record(m, &open, *mark, *end, None);
            }
        }
    }

    /// Records a position that ended at `exited`, or is still open.
    fn record(
        &mut self,
        m: usize,
        held: &Held,
        exited: (UnixMs, f64),
        end: usize,
        why: Option<Exit>,
    ) {
        let paid = held.units * held.entered.1;
        let paid = paid + paid.abs() * self.cost;
        let got = held.units * exited.1;
        let exit_cost = match why {
            Some(why) if why != Exit::Ruin => got.abs() * self.cost,
            _ => 0.0,
        };
        let mut gain = (got - exit_cost - paid).min(MAX_EQUITY);
        if self.plans.len() == 1 {
            // Nothing else is in the account, which can't lose more than everything.
            gain = gain.max(-held.before);
        }
        self.ledger.gains.push(gain / held.before);
        let whole = held.amount == held.before;
        self.ledger.trades.push(Trade {
            series: self.plans[m].series.map(str::to_owned),
            side: if held.side > 0 { "long" } else { "short" },
            entered_at: held.entered.0.rfc3339(),
            entry_price: held.entered.1,
            exited_at: exited.0.rfc3339(),
            exit_price: exited.1,
            open: why.is_none(),
            exit: why,
            bars: end - held.period,
            size: (!whole).then_some(held.amount / held.before),
            net_return: gain / held.amount,
        });
    }
}
