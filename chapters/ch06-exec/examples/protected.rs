//! A program that protects itself, for `scripts/bench exec`, which measures what that takes.
//!
//! `protected WAY COMMAND [ARGS...]` runs COMMAND, after what WAY says: `clone` or `copy`, the two ways of
//! [`protect`](ch06_exec::executable::protect()); `again`, it executes itself anew, and nothing else; `none`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use ch06_exec::executable::{Protection, protect_by};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let way = arguments.next().context("usage: protected WAY COMMAND [ARGS...]")?;
    match way.to_str() {
        Some("clone") => drop(protect_by(&[Protection::ReadOnlyClone])?),
        Some("copy") => drop(protect_by(&[Protection::SealedCopy])?),
        Some("again") => {
            return Err(Command::new("/proc/self/exe").arg("none").args(arguments).exec().into());
        }
        Some("none") => (),
        _ => bail!("{way:?} is no way: clone, copy, again, none"),
    }
    let command = arguments.next().context("usage: protected WAY COMMAND [ARGS...]")?;
    Err(Command::new(command).args(arguments).exec().into())
}
