//! File systems and files: overlayfs, FUSE, a busybox, room. statvfs(3), fuse(4), elf(5).

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::sys::statvfs::statvfs;

use crate::distribution::Remedy;
use crate::examine::{Finding, State};
use crate::machine::Machine;
use crate::machine::{enter_user_namespace, find, private_mounts, refusal};
use lesson::probe::{Refusal, in_child};

/// What a build of all lessons with their root file systems takes, with something to spare.
const ROOM: u64 = 2 << 30;

pub(crate) fn overlayfs(machine: &Machine) -> Finding {
    if !machine.root {
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        return match known.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay") {
            true => Finding::new(State::Ok, "the kernel knows it (only root can try it)"),
            false => Finding::new(State::Unknown, "only root can try it, and no module of it is loaded"),
        };
    }
    match in_child(|| {
        private_mounts(CloneFlags::empty())?;
        mount_overlay("")
    }) {
        Ok(_) => Finding::new(State::Ok, "mounted one"),
        Err(refusal) if refusal.errno == Errno::ENODEV => {
            Finding::new(State::Missing, format!("{refusal}: the kernel has no overlayfs"))
        }
        Err(refusal) => Finding::new(State::Restricted, refusal.to_string()),
    }
}

pub(crate) fn overlayfs_in_a_user_namespace(machine: &Machine) -> Finding {
    if let Err(refusal) = &machine.user_namespace {
        return Finding::new(State::Unknown, format!("not tried: it takes a user namespace ({refusal})"));
    }
    match in_child(|| {
        enter_user_namespace(CloneFlags::CLONE_NEWNS)?;
        private_mounts(CloneFlags::empty())?;
        // Only root may set the attributes in `trusted.` in which overlayfs keeps its notes; with this option
        // it takes `user.`.
        mount_overlay(",userxattr")
    }) {
        Ok(_) => Finding::new(State::Ok, "mounted one"),
        Err(refusal) => Finding::new(State::Restricted, refusal.to_string()),
    }
}

/// Makes the directories of an overlay on the tmpfs that [`private_mounts`] left on `/tmp`, and mounts it.
fn mount_overlay(options: &str) -> Result<String, Refusal> {
    for directory in ["/tmp/lower", "/tmp/upper", "/tmp/work", "/tmp/merged"] {
        fs::create_dir(directory).map_err(|error| refusal(format!("mkdir {directory}"), &error))?;
    }
    let options = format!("lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work{options}");
    mount(Some("overlay"), "/tmp/merged", Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .map_err(|errno| Refusal::new("mount an overlay", errno))?;
    Ok(String::new())
}

pub(crate) fn fuse(machine: &Machine) -> Finding {
    let tried = in_child(|| {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .map_err(|error| refusal("open /dev/fuse", &error))?;
        if !machine.can_isolate() {
            return Ok("opened it".to_owned());
        }
        machine.isolate(CloneFlags::CLONE_NEWNS)?;
        private_mounts(CloneFlags::empty())?;
        // Nobody serves it: it goes with this process, before anyone can ask it anything.
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        mount(Some("fuse"), "/tmp", Some("fuse"), MsFlags::empty(), Some(options.as_str()))
            .map_err(|errno| Refusal::new("mount a FUSE file system", errno))?;
        Ok("mounted with it".to_owned())
    });
    match tried {
        Ok(done) => Finding::new(State::Ok, done),
        Err(refusal) if refusal.operation != "open /dev/fuse" => {
            Finding::new(State::Restricted, refusal.to_string()).mended_by(Remedy::Advice(
                "run it outside of this container; in a user namespace, a kernel of 4.18 or later",
            ))
        }
        Err(refusal) if matches!(refusal.errno, Errno::EACCES | Errno::EPERM) => {
            Finding::new(State::Restricted, refusal.to_string())
                .mended_by(Remedy::Root("chmod 666 /dev/fuse"))
        }
        Err(refusal) => Finding::new(State::Missing, refusal.to_string()),
    }
}

/// The setuid program that mounts a FUSE file system for a plain user outside of a user namespace.
pub(crate) fn fusermount(machine: &Machine) -> Finding {
    if machine.root {
        return Finding::new(State::Ok, "not used: root mounts by itself");
    }
    let Some(path) = find("fusermount3") else {
        return Finding::new(State::Missing, "not found in PATH");
    };
    match fs::metadata(&path) {
        Ok(status) if status.permissions().mode() & 0o4000 != 0 => {
            Finding::new(State::Ok, path.display().to_string())
        }
        Ok(_) => Finding::new(State::Restricted, format!("{} is not setuid", path.display()))
            .mended_by(Remedy::Advice("install it again from the distribution's package")),
        Err(error) => {
            Finding::new(State::Unknown, refusal(format!("stat {}", path.display()), &error).to_string())
        }
    }
}

/// Without a static busybox, lessons copy programs of the host, with their libraries.
pub(crate) fn busybox(_: &Machine) -> Finding {
    let found: Vec<_> =
        ["busybox", "busybox.static", "busybox-static"].iter().filter_map(|name| find(name)).collect();
    let fixed = found.iter().find(|path| is_static(path) == Some(true));
    match (fixed, found.first()) {
        (Some(path), _) => Finding::new(State::Ok, path.display().to_string()),
        (None, Some(path)) => {
            Finding::new(State::Missing, format!("{} needs shared libraries", path.display()))
        }
        (None, None) => Finding::new(State::Missing, "no busybox in PATH"),
    }
}

/// Whether an ELF file of 64 bits in the machine's byte order runs without a dynamic linker: it has no
/// PT_INTERP. `None` for other files.
fn is_static(path: &Path) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let mut head = Vec::new();
    // The program headers follow the ELF header directly in every file that a linker has made.
    File::open(path).ok()?.take(64 << 10).read_to_end(&mut head).ok()?;
    if head.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let number = |offset: usize| Some(u16::from_ne_bytes(head.get(offset..offset + 2)?.try_into().ok()?));
    let table = u64::from_ne_bytes(head.get(32..40)?.try_into().ok()?) as usize;
    let (size, count) = (usize::from(number(54)?), usize::from(number(56)?));
    let kinds = (0..count).map(|entry| head.get(table + entry * size..)?.first_chunk().copied());
    let kinds: Option<Vec<u32>> = kinds.map(|bytes| bytes.map(u32::from_ne_bytes)).collect();
    Some(!kinds?.contains(&PT_INTERP))
}

/// Room where cargo builds, which is where this program stands.
pub(crate) fn room(_: &Machine) -> Finding {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            return Finding::new(State::Unknown, refusal("readlink /proc/self/exe", &error).to_string());
        }
    };
    let directory = program.parent().unwrap_or(Path::new("/"));
    let free = match statvfs(directory) {
        // Both are of the width of the C type, which is not 64 bits everywhere.
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
        Ok(status) => status.blocks_available() as u64 * status.fragment_size() as u64,
        Err(errno) => {
            return Finding::new(
                State::Unknown,
                Refusal::new(format!("statvfs {}", directory.display()), errno).to_string(),
            );
        }
    };
    let state = if free < ROOM { State::Restricted } else { State::Ok };
    let (free, room) = (free >> 20, ROOM >> 20);
    Finding::new(state, format!("{free} MiB free at {} (at least {room})", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_an_interpreter_is_not_static() {
        assert_eq!(is_static(Path::new("/proc/self/exe")), Some(cfg!(target_feature = "crt-static")));
        assert_eq!(is_static(Path::new("/etc/passwd")), None);
    }
}
