//! The real binary, and what talks to it.

mod clients;
mod disk;
mod process;
mod support;
