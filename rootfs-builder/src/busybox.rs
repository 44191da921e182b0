//! A root file system from one static busybox(1): /bin/busybox, and a symbolic link to it for each of its
//! applets.
//!
//! Busybox is one program that looks at the name under which it was called (argv\[0\]) and acts as sh, ls,
//! ps and some 250 more. A static program needs no other file to run, so the tree can hardly be broken.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::elf::Elf;
use crate::error::Doing;
use crate::{LeftOut, files, interrupt};

/// Debian, Fedora and Arch say `busybox`, Alpine `busybox.static` (its `busybox` is linked dynamically).
const NAMES: [&str; 3] = ["busybox", "busybox.static", "busybox-static"];

/// Where it may be although the caller's PATH does not say so.
const DIRECTORIES: [&str; 5] = ["/bin", "/usr/bin", "/sbin", "/usr/sbin", "/usr/local/bin"];

/// Where links to applets go. busybox also wants one at /linuxrc, for an initrd.
const APPLET_DIRECTORIES: [&str; 4] = ["bin", "sbin", "usr/bin", "usr/sbin"];

/// What a lesson can't do without.
const WANTED: [&str; 10] = ["sh", "sleep", "ls", "cat", "ps", "mount", "id", "hostname", "ip", "ping"];

/// Finds a static busybox for this machine. The error says what was found instead.
pub(crate) fn find() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(DIRECTORIES.map(PathBuf::from));
    let mut rejected = Vec::new();
    for candidate in directories.flat_map(|directory| NAMES.map(|name| directory.join(name))) {
        if !candidate.is_absolute() || !candidate.is_file() {
            continue;
        }
        match is_usable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if !rejected.contains(&format!("{error:#}")) => rejected.push(format!("{error:#}")),
            Err(_) => {}
        }
    }
    let found = if rejected.is_empty() { "none is in PATH".to_owned() } else { rejected.join("; ") };
    bail!("no static busybox ({found}): install the package busybox-static, or busybox on Fedora and Arch")
}

/// Fails unless the file is a program of this machine's architecture that has no interpreter, which is what
/// static means: the kernel itself, not a dynamic loader, starts it.
fn is_usable(program: &Path) -> Result<()> {
    let elf = Elf::read(program)?.with_context(|| format!("{program:?} is no ELF program"))?;
    ensure!(elf.interpreter.is_none(), "{program:?} is linked dynamically");
    // By the link itself: one that runs from a copy of itself (chapter 6's) has no path.
    let this = Path::new("/proc/self/exe");
    let this = Elf::read(this)?.with_context(|| format!("{this:?} is no ELF program"))?;
    ensure!(elf.machine == this.machine, "{program:?} is for another architecture");
    Ok(())
}

pub(crate) fn fill(root: &Path) -> Result<Vec<LeftOut>> {
    let busybox = find()?;
    let applets = applets(&busybox)?;
    files::make_directory(&root.join("usr"), 0o755)?;
    for directory in APPLET_DIRECTORIES {
        files::make_directory(&root.join(directory), 0o755)?;
    }
    files::copy_file(&busybox, &root.join("bin/busybox"), 0o755)?;
    for applet in &applets {
        link(root, applet)?;
    }
    let missing = WANTED.iter().filter(|name| !applets.iter().any(|applet| applet.ends_with(name)));
    let missing: Vec<_> = missing
        .map(|name| LeftOut {
            program: (*name).to_owned(),
            reason: format!("{busybox:?} has no such applet"),
        })
        .collect();
    match missing.iter().find(|left_out| left_out.program == "sh") {
        Some(left_out) => bail!("no sh: {}", left_out.reason),
        None => Ok(missing),
    }
}

/// Links an applet's path to /bin/busybox.
///
/// The link is symbolic, since `ls -l` then shows what the program really is, and since hard links become
/// 250 copies of 2 MB where a tree is copied without care (a layer of an image, overlayfs). It is relative,
/// since from outside the tree `/bin/busybox` would be the host's.
fn link(root: &Path, applet: &Path) -> Result<()> {
    let directory = applet.parent().unwrap_or(Path::new(""));
    if !APPLET_DIRECTORIES.iter().any(|known| Path::new(known) == directory) || applet.ends_with("busybox") {
        return Ok(());
    }
    let up: PathBuf = directory.iter().map(|_| "..").collect();
    let target =
        if directory == Path::new("bin") { PathBuf::from("busybox") } else { up.join("bin/busybox") };
    files::make_link(&target, &root.join(applet))
}

/// The applets' paths below the root, such as `usr/bin/id`.
///
/// This runs busybox, as there is no other way to learn which applets were compiled in, and where each
/// belongs. That is safe: it is the host's own program, which the caller could run just so; nothing from a
/// root file system is run.
fn applets(busybox: &Path) -> Result<Vec<PathBuf>> {
    let full = run(busybox, "--list-full").doing("run", busybox)?;
    if full.status.success() {
        return Ok(lines(&full).map(PathBuf::from).collect());
    }
    interrupt::check()?;
    // Compiled without FEATURE_INSTALLER it knows the names alone.
    let names = run(busybox, "--list").doing("run", busybox)?;
    interrupt::check()?;
    ensure!(
        names.status.success(),
        "{busybox:?} --list: {}: {}",
        names.status,
        String::from_utf8_lossy(&names.stderr).trim()
    );
    Ok(lines(&names).map(|name| Path::new("bin").join(name)).collect())
}

fn run(busybox: &Path, option: &str) -> io::Result<Output> {
    Command::new(busybox).arg(option).stdin(Stdio::null()).output()
}

fn lines(output: &Output) -> impl Iterator<Item = String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
}
