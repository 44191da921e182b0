//! A root file system from Debian's packages, by mmdebstrap(1).
//!
//! mmdebstrap gives the tree as a tar archive, and tar(1) unpacks it here. A directory made by mmdebstrap
//! itself would belong, without root, to ids from /etc/subuid, which nobody could remove afterwards except
//! in a user namespace; a tree that the caller has unpacked belongs to the caller.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::Doing;
use crate::{LeftOut, apt, interrupt};

/// What lessons use and a minimal Debian lacks.
const PACKAGES: &str = "--include=procps,iproute2,iputils-ping";

/// Half of a minimal Debian is text that no lesson reads.
const WITHOUT: [&str; 3] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"];

/// Run by mmdebstrap on the finished tree. A program like mount(8), set-user-ID in a tree that anyone on
/// the host can enter, would give rights away: root's, or, where a plain user has unpacked it, that user's.
const WITHOUT_SET_ID: &str = r#"--customize-hook=find "$1" -xdev -type f -perm /6000 -exec chmod ug-s {} +"#;

pub(crate) fn fill(root: &Path, lock: &File) -> Result<Vec<LeftOut>> {
    let (suite, mirror) = apt::suite_and_mirror()?;
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--variant=minbase", PACKAGES, WITHOUT_SET_ID, "--format=tar"]);
    mmdebstrap.args(WITHOUT.map(|pattern| format!("--dpkgopt=path-exclude={pattern}")));
    mmdebstrap.args([suite.as_str(), "-"]).args(mirror);
    // Its progress goes to our standard error.
    mmdebstrap.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut mmdebstrap = start(mmdebstrap)?;

    let mut tar = Command::new("tar");
    // No device nodes: making them takes root, and each runtime mounts its own /dev.
    tar.args(["--extract", "--preserve-permissions", "--numeric-owner", "--exclude=./dev/*", "--directory"]);
    tar.arg(root).stdin(mmdebstrap.stdout.take().context("mmdebstrap has no standard output")?);
    // tar prints nothing. It gets the lock as its output only to inherit it: should this process be killed,
    // the lock stays held until tar too has ended.
    tar.stdout(lock.try_clone().context("dup the lock")?);
    let tar = match start(tar) {
        Ok(tar) => tar,
        Err(error) => {
            end(&mut mmdebstrap)?;
            mmdebstrap.wait().context("wait for mmdebstrap")?;
            return Err(error);
        }
    };
    let [mmdebstrap, tar] = wait([mmdebstrap, tar])?;
    ensure!(
        mmdebstrap.success() && tar.success(),
        "mmdebstrap ended with {mmdebstrap}, tar with {tar}: what they say is above"
    );
    Ok(Vec::new())
}

/// Starts a program in a process group of its own, so that [`end`] reaches its children too. The command is
/// dropped here, and with it our end of the pipe: while we have one open, mmdebstrap would never learn that
/// tar is gone.
fn start(mut command: Command) -> Result<Child> {
    let program = Path::new(command.get_program()).to_owned();
    let child = command.process_group(0).spawn();
    child
        .doing("run", &program)
        .with_context(|| format!("a Debian takes {program:?}: install the package of this name"))
}

/// Waits for all the children; when a signal asks the build to stop, they are asked to stop too.
fn wait<const N: usize>(mut children: [Child; N]) -> Result<[ExitStatus; N]> {
    let mut interrupted = Ok(());
    loop {
        let mut statuses = Vec::with_capacity(N);
        for child in &mut children {
            statuses.extend(child.try_wait().context("wait for mmdebstrap and tar")?);
        }
        if let Ok(statuses) = <[ExitStatus; N]>::try_from(statuses) {
            // After a signal, that they failed is no news.
            interrupt::check()?;
            return Ok(statuses);
        }
        if interrupted.is_ok() {
            interrupted = interrupt::check();
            if interrupted.is_err() {
                // mmdebstrap needs some time for it: it unmounts what it has mounted and removes its own
                // directory.
                children.iter_mut().try_for_each(end)?;
            }
        }
        // A build takes half a minute; nobody notices a twentieth of a second.
        thread::sleep(Duration::from_millis(50));
    }
}

/// Asks a child to end, with all that it has started: mmdebstrap alone would wait for its apt to finish its
/// work.
fn end(child: &mut Child) -> Result<()> {
    if child.try_wait().context("wait for a child")?.is_none() {
        // It has not been waited for, so its number can't be another process group's by now.
        killpg(Pid::from_raw(child.id() as i32), Signal::SIGTERM).context("killpg")?;
    }
    Ok(())
}
