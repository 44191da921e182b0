//! `/proc/PID`: a directory for each process, whose files are made by the kernel at the moment they are read.
//! proc(5), proc_pid_status(5).
//!
//! The directory is opened once and everything is read relative to it: it stays bound to the process, so a
//! pid that is used again cannot mix two processes into one view.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::{Field, Named, Unreadable};

/// A process, held by its directory in some procfs, and the reader, held by `self` in the same procfs.
pub struct Process {
    directory: OwnedFd,
    name: String,
    reader: Option<OwnedFd>,
}

impl Process {
    /// Opens `process` (a pid, or `self`) in the procfs whose directory `proc` is.
    pub fn open(proc: &impl AsFd, process: &str) -> Result<Self> {
        let kind = fstatfs(proc.as_fd()).context("fstatfs \"/proc\"")?;
        if kind.filesystem_type() != PROC_SUPER_MAGIC {
            bail!("/proc is no procfs: mount one with `mount -t proc proc /proc`");
        }
        let directory = open_at(proc, process, OFlag::O_PATH | OFlag::O_DIRECTORY).with_context(|| {
            format!(
                "no process {process} (it has ended, or is in another PID namespace, or belongs to another user and \
                 /proc is mounted with hidepid): open \"/proc/{process}\""
            )
        })?;
        // Absent where the procfs belongs to a PID namespace in which the reader has no id.
        let reader = open_at(proc, "self", OFlag::O_PATH | OFlag::O_DIRECTORY).ok();
        Ok(Process { directory, name: process.to_owned(), reader })
    }

    /// The reader, if it has an id in this procfs.
    pub fn reader(&self) -> Option<&OwnedFd> {
        self.reader.as_ref()
    }

    /// The directory `/proc/PID`, open.
    pub fn fd(&self) -> &OwnedFd {
        &self.directory
    }

    /// The whole text of a file.
    pub fn text(&self, file: &str) -> Field<String> {
        text_at(&self.directory, file)
    }

    /// A file's lines, the kernel's padding in them reduced to single spaces.
    pub fn lines(&self, file: &str) -> Field<Vec<String>> {
        Ok(self.text(file)?.lines().map(squeeze).collect())
    }

    /// The text of a symbolic link.
    pub fn link(&self, file: &str) -> Field<String> {
        link_at(&self.directory, file)
    }

    /// Opens the directory to which a link such as `root` leads. The kernel jumps there directly, without
    /// walking the path that the link shows, and so also into another mount namespace.
    pub fn directory(&self, link: &str) -> Field<OwnedFd> {
        open_at(&self.directory, link, OFlag::O_PATH | OFlag::O_DIRECTORY)
            .map_err(|errno| Unreadable::refused(format!("open {link}"), errno))
    }

    /// The links in `ns`, whichever the kernel has: each names a namespace by its kind and inode number.
    pub fn namespaces(&self) -> Field<Vec<Named>> {
        let names = names_in(&self.directory, "ns")?;
        Ok(names.into_iter().map(|name| Named { value: self.link(&format!("ns/{name}")), name }).collect())
    }

    /// Fails if the process has ended since it was opened.
    pub fn check_alive(&self) -> Result<()> {
        match open_at(&self.directory, "status", OFlag::O_PATH) {
            Err(errno @ (Errno::ENOENT | Errno::ESRCH)) => Err(errno).with_context(|| {
                format!("process {0} ended while its view was read: open \"/proc/{0}/status\"", self.name)
            }),
            _ => Ok(()),
        }
    }
}

/// Opens `path` below `directory`. Never waits: a FIFO in a foreign root must not hold up the reader.
pub fn open_at(directory: &impl AsFd, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    openat(directory, path, flags | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty())
}

/// The whole text of the file `path` below `directory`. Bytes that are not UTF-8 (a mount point may have any)
/// become U+FFFD.
pub fn text_at(directory: &impl AsFd, path: &str) -> Field<String> {
    let file = open_at(directory, path, OFlag::O_RDONLY)
        .map_err(|errno| Unreadable::refused(format!("open {path}"), errno))?;
    let mut bytes = Vec::new();
    File::from(file).read_to_end(&mut bytes).map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        Unreadable::refused(format!("read {path}"), errno)
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The text of the symbolic link `path` below `directory`.
pub fn link_at(directory: &impl AsFd, path: &str) -> Field<String> {
    readlinkat(directory, path)
        .map(|target| target.to_string_lossy().into_owned())
        .map_err(|errno| Unreadable::refused(format!("readlink {path}"), errno))
}

/// The names in the directory `path` below `directory`, sorted, without `.` and `..`.
pub fn names_in(directory: &impl AsFd, path: &str) -> Field<Vec<String>> {
    let refused = |errno| Unreadable::refused(format!("read directory {path}"), errno);
    let fd = open_at(directory, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(refused)?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(fd).map_err(refused)?.iter() {
        let name = entry.map_err(refused)?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The value of the line `name` of a status file.
pub fn line(status: &Field<String>, name: &str) -> Field<String> {
    let status = status.as_ref().map_err(Clone::clone)?;
    status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| squeeze(value))
        .ok_or_else(|| Unreadable::Absent(format!("this kernel's status file has no line {name}")))
}

/// The lines of a status file whose name begins with `prefix`.
pub fn lines_with_prefix(status: &Field<String>, prefix: &str) -> Field<Vec<Named>> {
    let status = status.as_ref().map_err(Clone::clone)?;
    Ok(status
        .lines()
        .filter(|line| line.starts_with(prefix))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| Named { name: name.to_owned(), value: Ok(squeeze(value)) })
        .collect())
}

fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ends_while_it_is_read_is_an_error_and_not_a_view_with_holes() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("spawn sleep");
        let proc = std::fs::File::open("/proc").expect("open /proc");
        let process =
            Process::open(&proc, &child.id().to_string()).expect("open the directory of the process");
        process.check_alive().expect("it is alive");
        child.kill().expect("kill");
        child.wait().expect("wait");
        let error = format!("{:#}", process.check_alive().expect_err("it has ended"));
        assert!(error.contains(&format!("process {} ended", child.id())), "{error}");
    }
}
