// ANCHOR: commands
//! The subcommands: tools for a stack of branches.

mod changes;
mod command;
mod explain;
mod files;
pub mod image;
pub mod mount;
pub mod mount_table;
pub mod mounted;
pub mod scratch;
mod stack;

use anyhow::Result;

/// What can be done with a stack of branches.
#[derive(clap::Subcommand)]
pub enum Tool {
    Mount(mount::Mount),
    Ls(files::Ls),
    Cat(files::Cat),
    Rm(files::Rm),
    Explain(explain::Explain),
    Diff(changes::Diff),
    Commit(changes::Commit),
    Size(changes::Size),
}

impl Tool {
    /// Does it; returns the exit status.
    pub fn run(self) -> Result<u8> {
        match self {
            Tool::Mount(mount) => mount.run(),
            Tool::Ls(ls) => ls.run(),
            Tool::Cat(cat) => cat.run(),
            Tool::Rm(rm) => rm.run(),
            Tool::Explain(explain) => explain.run(),
            Tool::Diff(diff) => diff.run(),
            Tool::Commit(commit) => commit.run(),
            Tool::Size(size) => size.run(),
        }
    }
}
// ANCHOR_END: commands
