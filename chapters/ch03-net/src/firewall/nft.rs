//! The program `nft`, through which the rules of nftables are changed and read.
//!
//! What it is given in one go is one transaction: all of it happens, in one instant, or nothing does. Changes are
//! written in its own language; the JSON form of it can't be used before nft 1.0.7, which breaks on a map to an
//! address and a port. What is there is read as JSON. Manual pages: nft(8), libnftables-json(5).

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use log::{debug, info};
use serde_json::Value;

// ANCHOR: apply
/// Runs `script` as one transaction; `reason` is for the narration.
///
/// # Errors
///
/// What nft said, with the script; a missing nft.
pub(super) fn apply(script: &str, reason: &str) -> Result<()> {
    info!(target: "syscall", "nft -f -  {reason}");
    debug!(target: "syscall", "{}", script.trim_end());
    let output = nft(&["-f", "-"], script)?;
    if !output.status.success() {
        bail!("nft -f - ({reason}): {}", said(&output));
    }
    Ok(())
}
// ANCHOR_END: apply

// ANCHOR: list
/// What `nft list` shows of `what` (such as `chains`), object by object.
///
/// # Errors
///
/// What nft said; a missing nft; an answer that is no JSON.
pub(super) fn list(what: &[&str]) -> Result<Vec<Value>> {
    let command = [&["-j", "list"], what].concat();
    let output = nft(&command, "")?;
    let command = format!("nft {}", command.join(" "));
    if !output.status.success() {
        bail!("{command}: {}", said(&output));
    }
    let mut answer: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{command}: its answer is no JSON"))?;
    match answer["nftables"].take() {
        Value::Array(objects) => Ok(objects),
        _ => bail!("{command}: its answer has no list \"nftables\""),
    }
}

/// Whether our table is there.
///
/// # Errors
///
/// As for [`list`].
pub(super) fn has_table() -> Result<bool> {
    let output = nft(&["list", "tables"], "")?;
    if !output.status.success() {
        bail!("nft list tables: {}", said(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().any(|line| line == "table inet hull"))
}
// ANCHOR_END: list

/// Whether there is a program nft. Without one, there is no table of ours either: nothing else makes it.
pub(super) fn is_installed() -> bool {
    std::env::split_paths(&path()).any(|directory| directory.join("nft").is_file())
}

/// Debian's `su` leaves root without the directories of root's own programs.
fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

fn nft(arguments: &[&str], stdin: &str) -> Result<Output> {
    let mut command = Command::new("nft");
    // Errors are told apart by their text, so it must not be translated.
    command.args(arguments).env("PATH", path()).env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!("nft is not installed: it is in the package nftables"),
        _ => anyhow!(error).context("start nft"),
    })?;
    let mut pipe = child.stdin.take().context("nft has no standard input")?;
    let written = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    let output = child.wait_with_output().context("wait for nft")?;
    // An nft that ends before it has read all (EPIPE) says why; that is told instead.
    if output.status.success() {
        written.context("write to nft")?;
    }
    Ok(output)
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    match text.trim() {
        "" => format!("it ended with {}", output.status),
        text => text.to_string(),
    }
}
