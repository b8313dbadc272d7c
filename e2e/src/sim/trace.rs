//! What happened, for people: kept only where a failure is to be shown. A digest of it is always kept, and is the same
//! whenever the seed is.

use super::chance::Clock;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

/// Most lines that are kept.
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
    /// An empty one, which keeps its lines if they are wanted.
    pub fn new(clock: Clock, wanted: bool) -> Self {
        Self {
            clock,
            inner: Arc::new(Mutex::new(Inner {
                lines: wanted.then(Vec::new),
                digest: DefaultHasher::new(),
            })),
        }
    }

    /// Adds a line, if lines are wanted.
    pub fn say(&self, line: impl FnOnce() -> String) {
        let mut inner = self.inner.lock().expect("not poisoned");
        if let Some(lines) = inner.lines.as_mut().filter(|lines| lines.len() < MAX_LINES) {
            let ms = self.clock.ms();
            lines.push(format!("{:>8.3} s  {}", ms as f64 / 1000.0, line()));
        }
    }

    /// Adds to the digest.
    pub fn note(&self, what: &str, result: u16, ms: i64) {
        let mut inner = self.inner.lock().expect("not poisoned");
        (what, result, ms).hash(&mut inner.digest);
    }

    /// Adds to the digest what is long, where lines are wanted.
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
