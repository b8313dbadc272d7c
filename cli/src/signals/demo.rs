//! `thrum demo-bars`: bars to try things with.

use clap::Args;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::io::Write;
use thrum_schema::World;
use thrum_schema::signal::{Bar, Timeframe};
use thrum_schema::world::SystemWorld;

/// How the bars are to be.
#[derive(Debug, Args)]
pub struct DemoBars {
    /// How many
    #[arg(long, default_value_t = 1_000)]
    bars: u32,

    /// How long each lasts
    #[arg(long, default_value = "1h")]
    timeframe: String,

    /// The same seed gives the same walk
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Writes a random walk with moods as CSV, up to the last bar that is closed.
///
/// # Errors
/// The timeframe is none, or nobody takes the output.
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

/// A walk that follows from its seed: trends of changing mood, and noise.
fn walk(seed: u64, bars: u32) -> impl Iterator<Item = Bar> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut price: f64 = 1_000.0;
    let (mut mood, mut left) = (0.0, 0_u32);
    (0..bars).map(move |_| {
        if left == 0 {
            mood = random.random_range(-0.002..0.002);
            left = random.random_range(20..120);
        }
        left -= 1;
        let open = (price * 100.0).round() / 100.0;
        price *= 1.0 + mood + random.random_range(-0.006..0.006);
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
