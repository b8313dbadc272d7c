//! The log: which lines are written.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

/// How many lines of one place in the code are written within [`WINDOW`].
const MOST: u32 = 20;
/// The time in which lines are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// Leaves out lines of a place in the code that writes too many. Whatever clients or receivers do,
/// they can't fill the disk or hide other lines. What is left out is counted and reported.
#[derive(Debug, Default)]
pub struct Quiet {
    windows: Mutex<HashMap<Identifier, Window>>,
    /// Whether the lines are JSON.
    json: bool,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
}

impl Quiet {
    /// For a log whose lines are JSON.
    pub fn json() -> Self {
        Self {
            json: true,
            ..Self::default()
        }
    }

    /// Whether a line of `place` may be written at `now`.
    fn passes(&self, metadata: &'static Metadata<'static>, now: Instant) -> bool {
        let mut left_out = 0;
        let passes = {
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            let window = windows.entry(metadata.callsite()).or_insert(Window {
                began: now,
                lines: 0,
            });
            if now.duration_since(window.began) >= WINDOW {
                left_out = window.lines.saturating_sub(MOST);
                *window = Window {
                    began: now,
                    lines: 0,
                };
            }
            window.lines = window.lines.saturating_add(1);
            window.lines <= MOST
        };
        if left_out > 0 {
            // Not a line of the log itself, because this runs while one is written; and if it can't be
            // written, nobody can be notified.
            let text = format!(
                "{left_out} more lines like the next one were left out, from {}:{}",
                metadata.file().unwrap_or_default(),
                metadata.line().unwrap_or_default()
            );
            let _ = match self.json {
                true => writeln!(
                    std::io::stderr(),
                    "{{\"level\":\"WARN\",\"message\":{text:?}}}"
                ),
                false => writeln!(std::io::stderr(), "thrum: {text}"),
            };
        }
        passes
    }
}

impl<S: Subscriber> Filter<S> for Quiet {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.passes(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tracing_subscriber::layer::{Layer, SubscriberExt};

    /// Counts the lines that reach it.
    struct Counter(Arc<AtomicU32>);

    impl<S: Subscriber> Layer<S> for Counter {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn one_place_can_not_flood_the_log() {
        let written = Arc::new(AtomicU32::new(0));
        let counter = Counter(Arc::clone(&written)).with_filter(Quiet::default());
        let subscriber = tracing_subscriber::registry().with(counter);
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..1_000 {
                tracing::warn!(n, "again");
            }
            tracing::warn!("something else");
        });
        assert_eq!(written.load(Ordering::Relaxed), MOST + 1);
    }
}
