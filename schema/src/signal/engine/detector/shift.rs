//! Changes of level.

use serde::{Deserialize, Serialize};

/// A change of level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Shift {
    Times(f64),
    Plus(f64),
}

impl Shift {
    pub fn of(self, x: f64) -> f64 {
        match self {
            Self::Times(factor) => x * factor,
            Self::Plus(by) => x + by,
        }
    }
}
