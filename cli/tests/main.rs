//! The real binary, and what talks to it.

mod clients;
mod process;
mod support;
