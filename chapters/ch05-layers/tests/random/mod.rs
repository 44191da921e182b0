//! Random sequences of operations on three file systems at once. Reading order: `case` and `words` (what is
//! played, as data and as text), `strategies` (how it is made up), `layers` and `tree` (made on disk, and
//! read back), `model` (what a union must show), `player` (the system calls), `differences` (the only
//! exceptions), `stage` and `check` (all together), `run` (thousands of them).
#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod case;
pub mod check;
pub mod code;
pub mod differences;
pub mod layers;
pub mod model;
pub mod player;
pub mod run;
pub mod stage;
pub mod strategies;
pub mod tree;
pub mod words;
pub mod xattr;
