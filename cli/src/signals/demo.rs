//! `thrum demo-bars`: generates demo data.

use clap::Args;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::io::Write;
use thrum_schema::World;
use thrum_schema::signal::{Bar, Timeframe};
use thrum_schema::world::SystemWorld;

const EXAMPLES: &str = "\
Example:
  thrum demo-bars --seed 7 > demo.csv
  thrum import bars demo.csv --series demo";

/// Arguments of `thrum demo-bars`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoBars {
    /// Number of bars; the last one has just closed
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    bars: u32,

    /// Length of a bar: 1m, 15m, 1h, 4h, 1d …
    #[arg(long, default_value = "1h")]
    timeframe: String,

    /// Seed of the random walk; the same seed gives the same prices
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Give the prices trends of random direction and length, which a strategy can find
    ///
    /// Without this option, past prices say nothing about future ones, as in a fair game.
    #[arg(long)]
    trends: bool,
}

/// Writes a random walk as CSV, up to the last closed bar.
///
/// # Errors
/// The timeframe is invalid, or stdout can't be written to.
pub fn demo_bars(args: &DemoBars) -> anyhow::Result<()> {
    let timeframe = Timeframe::parse("timeframe", &args.timeframe)?;
    let ms = timeframe.ms().unwrap_or(60_000);
    let end = timeframe.open_of(SystemWorld.now());
    let mut out = std::io::stdout().lock();
    writeln!(out, "time,open,high,low,close,volume")?;
    for (i, bar) in walk(args.seed, args.bars, args.trends).enumerate() {
        let back = i64::from(args.bars) - i64::try_from(i).unwrap_or(0);
        let time = (end - back * ms).rfc3339();
        let Bar {
            open,
            high,
            low,
            close,
            volume,
            ..
        } = bar;
        let volume = volume.unwrap_or(0.0);
        writeln!(
            out,
            "{time},{open:.2},{high:.2},{low:.2},{close:.2},{volume:.0}"
        )?;
    }
    Ok(())
}

/// Largest return of a bar.
const MAX_RETURN: f64 = 0.006;
/// Largest return of a bar that is due to a trend, and how many bars a trend lasts.
const MAX_DRIFT: f64 = 0.002;
const TREND_BARS: std::ops::Range<u32> = 20..120;

/// A random walk determined by its seed: independent returns with mean 0, and trends if requested.
fn walk(seed: u64, bars: u32, trends: bool) -> impl Iterator<Item = Bar> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut price: f64 = 1_000.0;
    let (mut drift, mut left) = (0.0, 0_u32);
    (0..bars).map(move |_| {
        if trends && left == 0 {
            drift = random.random_range(-MAX_DRIFT..MAX_DRIFT);
            left = random.random_range(TREND_BARS);
        }
        left = left.saturating_sub(1);
        let open = (price * 100.0).round() / 100.0;
        price *= 1.0 + drift + random.random_range(-MAX_RETURN..MAX_RETURN);
        let close = (price * 100.0).round() / 100.0;
        Bar {
            time: thrum_schema::UnixMs(0),
            open,
            high: open.max(close) * (1.0 + random.random_range(0.0..0.003)),
            low: open.min(close) * (1.0 - random.random_range(0.0..0.003)),
            close,
            volume: Some(random.random_range(100.0..10_000.0)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The autocorrelation of the returns, for lags of 1 to 20 bars.
    fn autocorrelations(seed: u64, trends: bool) -> Vec<f64> {
        let closes: Vec<f64> = walk(seed, 20_000, trends).map(|bar| bar.close).collect();
        let returns: Vec<f64> = closes.windows(2).map(|w| (w[1] / w[0]).ln()).collect();
        let mean = returns.iter().sum::<f64>() / returns.len() as f64;
        let of = |lag: usize| -> f64 {
            let pairs = returns.iter().zip(&returns[lag..]);
            pairs.map(|(a, b)| (a - mean) * (b - mean)).sum()
        };
        (1..=20).map(|lag| of(lag) / of(0)).collect()
    }

    #[test]
    fn demo_bars_are_a_random_walk_unless_trends_are_requested() {
        for seed in 1..6 {
            // 4.5 standard errors, for 100 coefficients.
            let most = 4.5 / 20_000_f64.sqrt();
            let walk = autocorrelations(seed, false);
            assert!(walk.iter().all(|r| r.abs() < most), "{walk:?}");
            let trends = autocorrelations(seed, true);
            assert!(trends[0] > 2.0 * most, "{trends:?}");
        }
    }
}
