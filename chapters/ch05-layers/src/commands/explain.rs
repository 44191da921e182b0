// ANCHOR: explain
//! `explain`: which branch answers for a path and why, branch by branch.

use anyhow::{Context, Result};

use super::files::Place;

/// Say which branch answers for a path and why, branch by branch
#[derive(clap::Args)]
pub struct Explain {
    #[command(flatten)]
    place: Place,
}

impl Explain {
    /// Prints a line for each branch, the top one first.
    pub fn run(self) -> Result<u8> {
        let (union, path) = self.place.open()?;
        for verdict in union.explain(&path).with_context(|| format!("explain {path:?}"))? {
            println!("{verdict}");
        }
        Ok(0)
    }
}
// ANCHOR_END: explain
