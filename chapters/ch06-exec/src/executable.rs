//! Our own program, out of the container's reach.
//!
//! A process that joins a container is one of the container's processes before it has become the command, and what
//! it runs is a file of the host's: `/proc/PID/exe` leads there. Whoever may open that link can write through it.
//! CVE-2019-5736 did so to runc: the container's `/bin/sh` was a script that began with `#!/proc/self/exe`, so `exec`
//! of it ran runc once more, now as the container's process; the container's root opened its `/proc/PID/exe`, waited
//! until runc had ended (a program that runs can't be written: ETXTBSY), and put its own program in runc's place.
//! The host's root ran that the next time.
//!
//! So a program that joins containers first executes itself anew, from a place that nobody can write to:
//!
//! - a *read-only clone* of the mount that the program lies on. It costs no copy. It is safe although a container's
//!   root may change mounts: open_tree(2) puts the clone in a mount namespace of its own (an *anonymous* one), which
//!   ends when the last descriptor of it is closed. exec closes ours. From then on the mount belongs to no
//!   namespace, lives only as long as a process runs from it, and no call changes it any more: they all begin with
//!   the question whether the mount is one of the caller's namespace. While a descriptor is open, `mount_setattr` makes
//!   it writable again; a runtime that keeps one is as open as before.
//! - a *sealed copy* in memory, for who may not clone mounts: a plain user, outside of a user namespace.
//!
//! This keeps the program itself. A program that is linked to libraries leads to those as well
//! (`/proc/PID/map_files`, for who has CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE on the host); one that is linked
//! statically has nothing but itself. Interfaces: execveat(2), open_tree(2), mount_setattr(2), memfd_create(2), the
//! seals in fcntl(2), proc_pid_exe(5).

use std::convert::Infallible;
use std::ffi::{CString, OsStr, c_char};
use std::fmt;
use std::fs::{File, read_link, read_to_string};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ch02_mount::tree::change_mount;
use ch02_mount::{Attributes, Change, Tree};
use log::{Level, info};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};

/// Where the kernel shows what this process runs: proc_pid_exe(5).
const EXE: &str = "/proc/self/exe";

// ANCHOR: protection
/// How our own program is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// It runs from a read-only clone of its mount, which belongs to no mount namespace.
    ReadOnlyClone,
    /// It runs from a copy in memory that is sealed against every change.
    SealedCopy,
}

/// Re-executes this program from where it can't be written to, unless it runs from such a place already: then returns
/// at once, and says which it is. To be called first thing in `main`, with a single thread: the program starts anew,
/// with the same arguments, environment and descriptors.
///
/// Afterwards [`std::env::current_exe`] no longer says where the program lies.
///
/// # Errors
///
/// What kept it from each of the two ways. ENOENT: there is no procfs at /proc.
pub fn protect() -> Result<Protection> {
    protect_by(&[Protection::ReadOnlyClone, Protection::SealedCopy])
}

/// As [`protect`], by one of `ways`: the first that works.
///
/// # Errors
///
/// As for [`protect`].
pub fn protect_by(ways: &[Protection]) -> Result<Protection> {
    let exe = open(EXE, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("open {EXE} (what we run is found by a procfs at /proc)"))?;
    if let Some(protection) = present(exe.as_fd())? {
        keep_name();
        return Ok(protection);
    }
    let mut refusals = Vec::new();
    for way in ways {
        let made = match way {
            Protection::ReadOnlyClone => read_only_clone(exe.as_fd()),
            Protection::SealedCopy => sealed_copy(),
        };
        match made.and_then(|program| execute_anew(program.as_fd())) {
            Ok(never) => match never {},
            Err(error) => refusals.push(format!("{way}: {error:#}")),
        }
    }
    bail!("put our own program out of the container's reach: {}", refusals.join("; "))
}
// ANCHOR_END: protection

// ANCHOR: present
/// How the running program `exe` is protected now. The kernel's own answers alone count: a variable or an argument
/// that says "it is done" could come from anyone, and a wrong one would switch the protection off.
fn present(exe: BorrowedFd) -> Result<Option<Protection>> {
    if is_sealed() {
        return Ok(Some(Protection::SealedCopy));
    }
    // The path of a file that is itself the root of a mount that is attached nowhere.
    if read_link(EXE).with_context(|| format!("readlink {EXE}"))? != Path::new("/") {
        return Ok(None);
    }
    // Asked for what it has already. EINVAL: the mount is in no namespace, so nobody gets another answer. Success: the
    // descriptor of the clone is still open somewhere, and what we may do, others may too.
    let change = Change { set: Attributes::READ_ONLY, ..Change::default() };
    let is_out_of_reach = change_mount(exe, change, false) == Err(Errno::EINVAL);
    Ok((is_out_of_reach && is_read_only(exe)?).then_some(Protection::ReadOnlyClone))
}

/// Whether the file that we run is in memory, and has all the seals.
fn is_sealed() -> bool {
    // A program that can be executed and not read is no copy of ours.
    let Ok(program) = File::open(EXE) else { return false };
    let seals = fcntl(&program, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain);
    // EINVAL: the file is on a disk.
    seals.is_ok_and(|seals| seals.contains(all_seals()))
}

/// Whether the mount that `file` was opened through is read-only.
fn is_read_only(file: BorrowedFd) -> Result<bool> {
    let status = fstatvfs(file).context("fstatvfs of our own program")?;
    Ok(status.flags().contains(FsFlags::ST_RDONLY))
}
// ANCHOR_END: present

// ANCHOR: read_only_clone
/// A second mount of the file alone, read-only from its first moment that anyone can see.
fn read_only_clone(exe: BorrowedFd) -> Result<OwnedFd> {
    // A clone that is not protected is one that somebody holds; a clone of it would be no better for long.
    ensure!(read_link(EXE)? != Path::new("/"), "we run from a clone already that somebody else can change");
    let mut clone = Tree::copy_at(exe, Path::new(""), false, Level::Info)?;
    clone.add(Attributes::READ_ONLY, false)?;
    // A kernel before 5.12 can't set it before the mount is attached, and this one never is.
    ensure!(is_read_only(clone.as_fd())?, "the kernel has no mount_setattr(2): Linux 5.12");
    Ok(clone.into())
}
// ANCHOR_END: read_only_clone

// ANCHOR: sealed_copy
/// A copy in memory that nobody can change, not by any of its descriptors: seals hold for the file.
fn sealed_copy() -> Result<OwnedFd> {
    let link = read_link(EXE)?;
    ensure!(!link.starts_with("/memfd:"), "we run from {link:?} already, and it has no seals");
    let mut program = File::open(EXE).with_context(|| format!("open {EXE} to copy it"))?;
    info!(target: "syscall", "memfd_create(\"program\", MFD_ALLOW_SEALING | MFD_EXEC)  a file that is only in memory");
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Linux 6.3 wants to be told that it is to be executed, and an older one does not know the flag.
    let executable = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let copy = match memfd_create(c"program", flags | executable) {
        Err(Errno::EINVAL) => memfd_create(c"program", flags),
        result => result,
    };
    let copy = copy.map_err(memfd_error)?;
    let mut copy = File::from(copy);
    std::io::copy(&mut program, &mut copy).context("copy our own program to memory")?;
    info!(target: "syscall", "fcntl(F_ADD_SEALS, WRITE | GROW | SHRINK | SEAL)  it stays as it is, whoever opens it");
    fcntl(&copy, FcntlArg::F_ADD_SEALS(all_seals())).context("fcntl(F_ADD_SEALS)")?;
    Ok(copy.into())
}

fn all_seals() -> SealFlag {
    SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL
}

fn memfd_error(errno: Errno) -> anyhow::Error {
    let sysctl = "/proc/sys/vm/memfd_noexec";
    let hint = match (errno, read_to_string(sysctl).as_deref().map(str::trim)) {
        (Errno::EACCES, Ok("2")) => format!(" ({sysctl} is 2: nothing in memory may be executed)"),
        _ => String::new(),
    };
    anyhow!(errno).context(format!("memfd_create{hint}"))
}
// ANCHOR_END: sealed_copy

// ANCHOR: execute_anew
/// Executes `program` with what this process was given.
fn execute_anew(program: BorrowedFd) -> Result<Infallible> {
    unsafe extern "C" {
        /// environ(7): as it was given, with what is no `NAME=VALUE` too.
        static environ: *const *const c_char;
    }
    let arguments: Vec<CString> = std::env::args_os()
        .map(|argument| CString::new(argument.into_vec()).expect("the kernel ends arguments by NUL"))
        .collect();
    let mut pointers: Vec<*const c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(std::ptr::null());
    info!(target: "syscall", "execveat(fd, \"\", argv, environ, AT_EMPTY_PATH)  this program anew, from there");
    let (descriptor, empty, arguments) = (program.as_raw_fd(), c"".as_ptr(), pointers.as_ptr());
    // SAFETY: the path is a static C string; the list of arguments ends with null, and the strings in it live through
    // the call; `environ` is the C library's list of the same form, which no other thread changes: there is none.
    let result = unsafe {
        libc::syscall(libc::SYS_execveat, descriptor, empty, arguments, environ, libc::AT_EMPTY_PATH)
    };
    match Errno::result(result) {
        Err(errno) => Err(anyhow!(errno).context("execveat of our own program")),
        Ok(_) => unreachable!("execveat returns only where it failed"),
    }
}

/// Gives the process its name back. After execveat(2) on a descriptor, ps(1) would show the descriptor's number
/// (before Linux 6.14).
fn keep_name() {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or(OsStr::new("")).as_bytes();
    if let Ok(name) = CString::new(name) {
        // It is shown to people alone; without it nothing is lost.
        nix::sys::prctl::set_name(&name).unwrap_or_default();
    }
}
// ANCHOR_END: execute_anew

impl fmt::Display for Protection {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Protection::ReadOnlyClone => "a read-only clone of its mount",
            Protection::SealedCopy => "a sealed copy in memory",
        })
    }
}
