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
}

/// Writes a random walk with trends as CSV, up to the last closed bar.
///
/// # Errors
/// The timeframe is invalid, or stdout can't be written to.
pub fn demo_bars(args: &DemoBars) -> anyhow::Result<()> {
    let timeframe = Timeframe::parse("timeframe", &args.timeframe)?;
    let ms = timeframe.ms().unwrap_or(60_000);
    let end = timeframe.open_of(SystemWorld.now());
    let mut out = std::io::stdout().lock();
    writeln!(out, "time,open,high,low,close,volume")?;
    for (i, bar) in walk(args.seed, args.bars).enumerate() {
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

/// A random walk determined by its seed: trends of random drift and length, plus noise.
fn walk(seed: u64, bars: u32) -> impl Iterator<Item = Bar> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut price: f64 = 1_000.0;
    let (mut drift, mut left) = (0.0, 0_u32);
    (0..bars).map(move |_| {
        if left == 0 {
            drift = random.random_range(-0.002..0.002);
            left = random.random_range(20..120);
        }
        left -= 1;
        let open = (price * 100.0).round() / 100.0;
        price *= 1.0 + drift + random.random_range(-0.006..0.006);
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
