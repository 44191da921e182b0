// ANCHOR: imports
//! `diff`, `commit`, `size`: what the top branch of a stack holds.

use std::path::PathBuf;

use anyhow::Result;
use ch05_layers::layers;
use ch05_layers::overlay::Form;

use super::stack::{Stack, Telling};
// ANCHOR_END: imports

// ANCHOR: arguments
/// List what the top branch adds (A), changes (C) and deletes (D)
#[derive(clap::Args)]
pub struct Diff {
    #[command(flatten)]
    telling: Telling,
    #[command(flatten)]
    stack: Stack,
}

/// Copy the top branch to a new layer, without what an init branch holds
#[derive(clap::Args)]
pub struct Commit {
    #[command(flatten)]
    telling: Telling,
    #[command(flatten)]
    stack: Stack,
    /// The new layer; it must not exist
    directory: PathBuf,
}

/// Print what each branch takes, and how much of it can't be seen in the union
#[derive(clap::Args)]
pub struct Size {
    #[command(flatten)]
    telling: Telling,
    #[command(flatten)]
    stack: Stack,
}
// ANCHOR_END: arguments

// ANCHOR: changes
impl Diff {
    pub fn run(self) -> Result<u8> {
        self.telling.start()?;
        for change in layers::diff(&self.stack.open()?, Form::Aufs)? {
            println!("{change}");
        }
        Ok(0)
    }
}

impl Commit {
    pub fn run(self) -> Result<u8> {
        self.telling.start()?;
        layers::commit(&self.stack.open()?, Form::Aufs, &self.directory)?;
        Ok(0)
    }
}

impl Size {
    pub fn run(self) -> Result<u8> {
        self.telling.start()?;
        println!(
            "{:>10} {:>10} {:>10} {:>7} {:>9}  branch",
            "bytes", "hidden", "on disk", "inodes", "whiteouts"
        );
        for size in layers::size(&self.stack.open()?, Form::Aufs)? {
            println!(
                "{:>10} {:>10} {:>10} {:>7} {:>9}  {}={}",
                size.bytes,
                size.hidden,
                size.disk,
                size.inodes,
                size.whiteouts,
                size.path.display(),
                size.mode
            );
        }
        Ok(0)
    }
}
// ANCHOR_END: changes
