//! A root file system from Debian's packages, by mmdebstrap(1).
//!
//! mmdebstrap gives the tree as a tar archive, and tar(1) unpacks it here. A directory made by mmdebstrap itself would
//! belong, without root, to ids from /etc/subuid, which nobody could remove afterwards except in a user namespace; a tree that the caller
//! has unpacked belongs to the caller.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::Doing;
use crate::{LeftOut, interrupt};

/// What lessons use and a minimal Debian lacks.
const PACKAGES: &str = "--include=procps,iproute2,iputils-ping";

/// Half of a minimal Debian is text that no lesson reads.
const WITHOUT: [&str; 3] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"];

/// Run by mmdebstrap on the finished tree. A program like mount(8), set-user-ID in a tree that anyone on the host can enter, would give rights
/// away: root's, or, where a plain user has unpacked it, that user's.
const WITHOUT_SET_ID: &str = r#"--customize-hook=find "$1" -xdev -type f -perm /6000 -exec chmod ug-s {} +"#;

pub(crate) fn fill(root: &Path, lock: &File) -> Result<Vec<LeftOut>> {
    let (suite, mirror) = suite_and_mirror()?;
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--variant=minbase", PACKAGES, WITHOUT_SET_ID, "--format=tar"]);
    mmdebstrap.args(WITHOUT.map(|pattern| format!("--dpkgopt=path-exclude={pattern}")));
    mmdebstrap.args([suite.as_str(), "-"]).args(mirror);
    // Its progress goes to our standard error.
    let mut mmdebstrap =
        start(mmdebstrap.stdin(Stdio::null()).stdout(Stdio::piped()), "the package mmdebstrap")?;
    let archive = mmdebstrap.stdout.take().context("mmdebstrap has no standard output")?;

    let mut tar = Command::new("tar");
    // No device nodes: making them takes root, and each runtime mounts its own /dev.
    tar.args(["--extract", "--preserve-permissions", "--numeric-owner", "--exclude=./dev/*", "--directory"])
        .arg(root);
    // tar prints nothing. It gets the lock as its output only to inherit it: should this process be killed, the lock stays held
    // until tar too has ended.
    let lock = lock.try_clone().context("dup the lock")?;
    let tar = match start(tar.stdin(archive).stdout(lock), "tar") {
        Ok(tar) => tar,
        Err(error) => {
            end(&mut mmdebstrap)?;
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

/// Waits for all the children; when a signal asks the build to stop, they are asked to stop too.
fn wait<const N: usize>(mut children: [Child; N]) -> Result<[ExitStatus; N]> {
    let mut interrupted = Ok(());
    loop {
        let mut statuses = Vec::with_capacity(N);
        for child in &mut children {
            statuses.extend(child.try_wait().context("wait for mmdebstrap and tar")?);
        }
        if let Ok(statuses) = <[ExitStatus; N]>::try_from(statuses) {
            // Had they seen the signal as well (Ctrl-C goes to the whole foreground process group), their failure is not the news.
            interrupt::check()?;
            return Ok(statuses);
        }
        if interrupted.is_ok() {
            interrupted = interrupt::check();
            if interrupted.is_err() {
                // mmdebstrap needs some time for it: it unmounts what it has mounted and removes its own directory.
                children.iter_mut().try_for_each(end)?;
            }
        }
        // A build takes half a minute; nobody notices a twentieth of a second.
        thread::sleep(Duration::from_millis(50));
    }
}

/// Asks a child to end, if it still runs.
fn end(child: &mut Child) -> Result<()> {
    if child.try_wait().context("wait for a child")?.is_none() {
        // It has not been waited for, so its pid can't be another process's by now.
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).context("kill")?;
    }
    Ok(())
}

fn start(command: &mut Command, package: &str) -> Result<Child> {
    let program = Path::new(command.get_program()).to_owned();
    command
        .spawn()
        .doing("run", &program)
        .with_context(|| format!("from Debian's packages: install {package}"))
}

/// The release to install and where to get it: on Debian both as the host has them, so that a local mirror is used. Elsewhere
/// the stable release, from mmdebstrap's own default.
fn suite_and_mirror() -> Result<(String, Option<String>)> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |name: &str| {
        release.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim_matches('"'))
    };
    match (value("ID="), value("VERSION_CODENAME=")) {
        (Some("debian"), Some(suite)) => {
            let uri = apt_uri(suite)?;
            Ok((suite.to_owned(), uri.map(|uri| format!("deb {uri} {suite} main"))))
        }
        _ => Ok(("stable".to_owned(), None)),
    }
}

/// The URI from which apt gets the component main of this suite: sources.list(5).
fn apt_uri(suite: &str) -> Result<Option<String>> {
    let mut files = vec![Path::new("/etc/apt/sources.list").to_owned()];
    let directory = Path::new("/etc/apt/sources.list.d");
    match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        entries => {
            for entry in entries.doing("read the directory", directory)? {
                files.push(entry.doing("read the directory", directory)?.path());
            }
        }
    }
    files.sort();
    for file in files {
        let find = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => uri_in_lines,
            Some("sources") => uri_in_stanzas,
            _ => continue,
        };
        match fs::read_to_string(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            text => {
                if let Some(uri) = find(&text.doing("read", &file)?, suite) {
                    return Ok(Some(uri));
                }
            }
        }
    }
    Ok(None)
}

/// The one-line style: `deb [options] URI SUITE COMPONENT...`.
fn uri_in_lines(text: &str, suite: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.split('#').next()?.trim().strip_prefix("deb ")?.trim_start();
        let rest = if line.starts_with('[') { line.split_once(']')?.1 } else { line };
        let mut words = rest.split_whitespace();
        let (uri, found) = (words.next()?, words.next()?);
        (found == suite && words.any(|component| component == "main")).then(|| uri.to_owned())
    })
}

/// The deb822 style: stanzas of `Field: value`, with an empty line between them.
fn uri_in_stanzas(text: &str, suite: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).find_map(|stanza| {
        let words = |field: &str| -> Vec<&str> {
            let value = stanza.iter().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            value.unwrap_or_default().split_whitespace().collect()
        };
        let is_wanted = words("Types").contains(&"deb")
            && words("Suites").contains(&suite)
            && words("Components").contains(&"main")
            && words("Enabled") != ["no"];
        is_wanted.then(|| words("URIs").first().map(|uri| (*uri).to_owned())).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_that_apt_uses_for_this_suite() {
        let lines = "# deb http://old/ trixie main
deb http://other/ sid main
deb [arch=amd64] http://mirror/debian trixie contrib main
";
        assert_eq!(uri_in_lines(lines, "trixie").as_deref(), Some("http://mirror/debian"));
        assert_eq!(uri_in_lines(lines, "bookworm"), None);

        let stanzas = "Types: deb\nURIs: http://security/\nSuites: trixie-security\nComponents: main\n\n\
                       Types: deb\n# a remark\nURIs: http://mirror/debian\nSuites: trixie trixie-updates\nComponents: main contrib\n";
        assert_eq!(uri_in_stanzas(stanzas, "trixie").as_deref(), Some("http://mirror/debian"));
        assert_eq!(
            uri_in_stanzas(&stanzas.replace("a remark", "").replace("# ", "Enabled: no"), "trixie"),
            None
        );
    }
}
