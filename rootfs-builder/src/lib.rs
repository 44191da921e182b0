//! Makes the root file system that lessons run in.
//!
//! A root file system is a directory tree that holds everything a process needs when that tree is all it
//! can see: a shell, some programs, each library that they load, a few files in `/etc`, and empty
//! directories for the kernel's own file systems to be mounted on. hier(7) describes the tree; nothing here
//! needs root, and nothing is downloaded unless [`Source::Debian`] is asked for.
//!
//! Reading order: [`build`] here, then `partial` (how a broken build can never be used), `skeleton` (the
//! directories and `/etc`), and the three sources `busybox`, `host` (with `tree`, `elf`, `ld_cache`,
//! `loader`) and `debian`.

mod apt;
mod busybox;
mod check;
mod debian;
mod elf;
mod error;
mod files;
mod host;
mod interrupt;
mod ld_cache;
mod loader;
mod marker;
mod partial;
mod place;
mod skeleton;
mod tree;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

pub use check::{Problem, check};
pub use error::SystemCallError;
pub use interrupt::Interrupted;
pub use place::{Finished, list};

/// Where the programs of a root file system come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// [`Source::Busybox`] where a static busybox is found on this machine, else [`Source::Host`].
    Auto,
    /// One static program that is a shell and some 250 commands: 2 MB, no libraries.
    Busybox,
    /// Copies of the host's own programs and of the libraries that they load.
    Host,
    /// A small Debian, fetched by mmdebstrap(1).
    Debian,
}

impl Source {
    /// The sources that a finished root file system can have, so all but [`Source::Auto`].
    pub(crate) const REAL: [Source; 3] = [Source::Busybox, Source::Host, Source::Debian];

    /// The word for this source on the command line, in the marker and as a directory's name.
    pub fn name(self) -> &'static str {
        match self {
            Source::Auto => "auto",
            Source::Busybox => "busybox",
            Source::Host => "host",
            Source::Debian => "debian",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Source {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Source> {
        match word {
            "auto" => Ok(Source::Auto),
            "busybox" => Ok(Source::Busybox),
            "host" => Ok(Source::Host),
            "debian" => Ok(Source::Debian),
            _ => bail!("{word:?} is no source: choose auto, busybox, host or debian"),
        }
    }
}

/// What [`build`] did.
#[derive(Debug)]
pub struct Built {
    /// The root file system's absolute path.
    pub directory: PathBuf,
    /// The source that was really used, so never [`Source::Auto`].
    pub source: Source,
    /// False if the root file system was there before.
    pub is_new: bool,
    /// Programs that were wanted and are not in it; empty if it was there before.
    pub left_out: Vec<LeftOut>,
}

/// A program that was wanted and could not be put into the root file system.
#[derive(Debug)]
pub struct LeftOut {
    /// Its name, such as `ping`.
    pub program: String,
    /// Why it is not there.
    pub reason: String,
}

/// Returns the absolute path of the default root file system: [`Source::Auto`], in the default place. It is
/// built when it is not there yet; otherwise this costs a few system calls.
///
/// A signal that stops the build ends the process, after the build has been cleaned up.
///
/// # Errors
///
/// Those of [`build`], and one when neither cargo's `target` directory nor the user's cache directory can
/// be written.
pub fn default_root() -> Result<PathBuf> {
    match build_default(Source::Auto) {
        Ok(built) => Ok(built.directory),
        Err(error) => {
            if let Some(Interrupted(signal)) = error.downcast_ref() {
                // The handlers are as they were: now the signal does what it was sent for.
                let signal = nix::sys::signal::Signal::try_from(*signal).context("the signal that came")?;
                nix::sys::signal::raise(signal).with_context(|| format!("raise {signal}"))?;
            }
            Err(error)
        }
    }
}

/// Builds a root file system in the default place: `rootfs/SOURCE` in cargo's `target` directory, or
/// `hull/rootfs/SOURCE` in the user's cache directory where there is no `target` that can be written.
///
/// # Errors
///
/// Those of [`build`], and one when neither directory can be written.
pub fn build_default(source: Source) -> Result<Built> {
    if source == Source::Auto {
        // Saves the search for busybox in the case that nearly every lesson meets.
        if let Some(directory) = place::finished(Source::Busybox)? {
            return build(Source::Busybox, &directory);
        }
    }
    let (real, no_busybox) = decide(source);
    let mut built = build(real, &place::create(real)?)?;
    built.left_out.splice(0..0, no_busybox);
    Ok(built)
}

/// Builds a root file system in `directory`, which must not exist or be empty, and whose parent must exist.
/// When a finished one from the same source (for [`Source::Auto`]: from any) is already there, nothing is
/// done.
///
/// The tree is made beside its final place and then renamed, so `directory` never holds a half of one.
/// While it is made, SIGINT, SIGTERM and SIGHUP stop the work instead of ending the process.
///
/// # Errors
///
/// A [`SystemCallError`] that names the operation, the file and the errno; [`Interrupted`] after one of the
/// signals; a refusal when `directory` holds anything else. After each of them what had been made is
/// removed.
pub fn build(source: Source, directory: &Path) -> Result<Built> {
    let destination = partial::destination(directory)?;
    partial::sweep(&destination)?;
    if let Some(built) = already_there(source, &destination)? {
        return Ok(built);
    }
    let interruptible = interrupt::Guard::install()?;
    let (source, no_busybox) = decide(source);
    let partial = partial::Partial::create(&destination)?;
    let outcome = fill(source, &partial).and_then(|left_out| Ok((left_out, partial.rename(&destination)?)));
    let (left_out, is_new) = match (outcome, partial.discard()) {
        (Ok(outcome), discarded) => discarded.map(|()| outcome)?,
        (Err(error), removal) => return Err(partial::discarded(error, removal)),
    };
    interruptible.finish()?;
    if !is_new {
        // Another builder was faster. Its root file system is as good as ours, if it is one from the same
        // source.
        return already_there(source, &destination)?
            .with_context(|| format!("{destination:?} came and went while it was built: run this again"));
    }
    let left_out = no_busybox.into_iter().chain(left_out).collect();
    Ok(Built { directory: destination, source, is_new, left_out })
}

/// What stands at `destination`: a finished root file system that will do, nothing, or something that must
/// be kept.
fn already_there(source: Source, destination: &Path) -> Result<Option<Built>> {
    let Some(found) = marker::read(destination)? else {
        partial::refuse_if_occupied(destination)?;
        return Ok(None);
    };
    if source != Source::Auto && source != found {
        bail!(
            "{destination:?} holds a root file system from {found}, not from {source}: \
             name another directory, or remove it"
        );
    }
    // It is not rebuilt over: a mount of the host's may be left in it, and removing it would reach through
    // that mount.
    if !marker::has_shell(destination)? {
        bail!(
            "{destination:?} is a root file system that has lost its /bin/sh: remove it, then run this again"
        );
    }
    Ok(Some(Built { directory: destination.to_owned(), source: found, is_new: false, left_out: Vec::new() }))
}

/// Turns `auto` into a real source, and says why when that is not busybox.
fn decide(source: Source) -> (Source, Option<LeftOut>) {
    if source != Source::Auto {
        return (source, None);
    }
    match busybox::find() {
        Ok(_) => (Source::Busybox, None),
        Err(error) => {
            let left_out = LeftOut { program: "busybox".to_owned(), reason: format!("{error:#}") };
            (Source::Host, Some(left_out))
        }
    }
}

/// Makes the whole tree. The marker is written last: it says that nothing is missing.
fn fill(source: Source, partial: &partial::Partial) -> Result<Vec<LeftOut>> {
    let root = partial.root();
    files::make_directory(root, 0o755)?;
    let left_out = match source {
        Source::Auto => unreachable!("decide() has replaced it"),
        Source::Busybox => busybox::fill(root)?,
        Source::Host => host::fill(root)?,
        Source::Debian => debian::fill(root, partial.lock())?,
    };
    skeleton::make_directories(root)?;
    skeleton::write_etc(root, source)?;
    marker::write(root, source)?;
    Ok(left_out)
}
