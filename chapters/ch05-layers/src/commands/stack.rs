// ANCHOR: stack
//! What all subcommands are given: a stack of branches.

use anyhow::Result;
use ch05_layers::Union;
use ch05_layers::branch::Given;
use lesson::{Flags, Lesson};

/// How much a subcommand tells.
#[derive(clap::Args, Clone, Debug)]
pub struct Telling {
    /// No narration: only the output itself
    #[arg(long, short)]
    quiet: bool,
    /// Wait for Enter before each step
    #[arg(long, conflicts_with = "quiet")]
    step: bool,
}

impl Telling {
    /// Begins to narrate.
    pub fn start(&self) -> Result<Lesson> {
        Flags { rootfs: None, quiet: self.quiet, step: self.step, view: false }.start()
    }
}

/// The branches of a union, the top one first.
#[derive(clap::Args, Clone, Debug)]
pub struct Stack {
    /// A directory of the stack, the top one first: read-write (only the top can be), read-only, or Docker's init layer
    #[arg(long = "branch", short, value_name = "DIR=rw|ro|init", required = true)]
    pub branches: Vec<Given>,
}

impl Stack {
    /// The union, as plain code over the directories: nothing is mounted.
    pub fn open(&self) -> Result<Union> {
        Union::of(&self.branches)
    }
}
// ANCHOR_END: stack
