//! A log of the run for people, kept only when a failure is to be shown, and a digest that is
//! always kept. Equal seeds have equal digests.

use super::chance::Clock;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

/// Maximum number of lines kept.
const MAX_LINES: usize = 20_000;

#[derive(Debug)]
struct Inner {
    lines: Option<Vec<String>>,
    digest: DefaultHasher,
}

/// A trace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Trace {
    clock: Clock,
    inner: Arc<Mutex<Inner>>,
}

impl Trace {
    /// An empty trace, which keeps lines only if `wanted`.
    pub fn new(clock: Clock, wanted: bool) -> Self {
        Self {
            clock,
            inner: Arc::new(Mutex::new(Inner {
                lines: wanted.then(Vec::new),
                digest: DefaultHasher::new(),
            })),
        }
    }

    /// Appends a line, if lines are kept.
    pub fn say(&self, line: impl FnOnce() -> String) {
        let mut inner = self.inner.lock().expect("not poisoned");
        if let Some(lines) = inner.lines.as_mut().filter(|lines| lines.len() < MAX_LINES) {
            let ms = self.clock.ms();
            lines.push(format!("{:>8.3} s  {}", ms as f64 / 1000.0, line()));
        }
    }

    /// Adds an event to the digest.
    pub fn note(&self, what: &str, result: u16, ms: i64) {
        let mut inner = self.inner.lock().expect("not poisoned");
        (what, result, ms).hash(&mut inner.digest);
    }

    /// Adds a long text to the digest, but only if lines are kept.
    pub fn note_whole(&self, what: impl FnOnce() -> String) {
        let mut inner = self.inner.lock().expect("not poisoned");
        if inner.lines.is_some() {
            what().hash(&mut inner.digest);
        }
    }

    /// The digest.
    pub fn digest(&self) -> u64 {
        self.inner.lock().expect("not poisoned").digest.finish()
    }

    /// The lines.
    pub fn lines(&self) -> Vec<String> {
        let inner = self.inner.lock().expect("not poisoned");
        inner.lines.clone().unwrap_or_default()
    }
}
