//! The time namespace: two of the kernel's clocks.
//!
//! CLOCK_MONOTONIC counts since the start of the machine, CLOCK_BOOTTIME does too and goes on while the
//! machine sleeps. A time namespace adds an *offset* to each. It is there so that a process that is moved to
//! another machine does not see its clock jump back (CRIU). The clock on the wall, CLOCK_REALTIME, has no
//! namespace: who sets it sets it for all.
//!
//! Offsets are written into /proc/PID/timens_offsets, and only until the first process enters: from then on
//! somebody may have looked at the clock. So unshare(2) makes the namespace and does not enter it: it is the
//! one of the caller's *children* (`time_for_children` in /proc/PID/ns). With clone3(2) the child would be in
//! it at once, with offsets of 0 for ever: that is why a runtime does not clone this one. Manual page:
//! time_namespaces(7); Linux 5.6.

use std::fmt;
use std::fs::{self, File};
use std::str::FromStr;

use anyhow::{Context, Error, Result, anyhow, ensure};
use log::info;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

/// CLONE_NEWTIME of linux/sched.h, which nix does not name.
const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

// ANCHOR: offsets
/// What is added to a clock: seconds and nanoseconds. As in the kernel, the nanoseconds count forward: half a
/// second back is -1 and 500000000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds, less than a second.
    pub nanoseconds: u32,
}

/// The offsets of a time namespace; a clock without one stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// CLOCK_MONOTONIC.
    pub monotonic: Option<Offset>,
    /// CLOCK_BOOTTIME.
    pub boottime: Option<Offset>,
}

impl Offsets {
    /// The clocks with the numbers and names that the kernel has for them: clock_gettime(2).
    fn clocks(self) -> [(libc::clockid_t, &'static str, Option<Offset>); 2] {
        [
            (libc::CLOCK_MONOTONIC, "monotonic", self.monotonic),
            (libc::CLOCK_BOOTTIME, "boottime", self.boottime),
        ]
    }

    /// The lines of the file. By number: names are accepted from Linux 5.7 on only.
    fn text(self) -> String {
        let lines = self.clocks().into_iter().filter_map(|(clock, _, offset)| {
            offset.map(|Offset { seconds, nanoseconds }| format!("{clock} {seconds} {nanoseconds}\n"))
        });
        lines.collect()
    }
}
// ANCHOR_END: offsets

// ANCHOR: unshare
/// Makes a time namespace with these offsets for the children of this process. This process itself stays
/// where it is, until it calls [`enter`]; execve(2) takes it along too, from Linux 6.2 on.
///
/// In a new user namespace it must come before the change to its root, which makes the process non-dumpable.
///
/// # Errors
///
/// EPERM without CAP_SYS_ADMIN, or for the offsets without CAP_SYS_TIME, in the process's user namespace.
/// EINVAL: the kernel has no time namespaces. And as for [`write`].
pub fn unshare(offsets: Offsets) -> Result<()> {
    info!(target: "syscall", "unshare(CLONE_NEWTIME)  a time namespace, for the children of this process");
    nix::sched::unshare(CLONE_NEWTIME).map_err(|errno| {
        let hint = match errno {
            Errno::EPERM => " (it takes CAP_SYS_ADMIN, or a user namespace of one's own)",
            Errno::EINVAL => " (this kernel has no time namespaces: Linux 5.6 with CONFIG_TIME_NS)",
            Errno::ENOSPC => " (the limit user.max_time_namespaces is reached)",
            _ => "",
        };
        anyhow!(errno).context(format!("unshare(CLONE_NEWTIME){hint}"))
    })?;
    write_to("self", offsets)
}

/// Writes the offsets of the time namespace of `pid`'s children, which no process has entered yet.
///
/// # Errors
///
/// ERANGE: the clock would be negative, or be after some 146 years. EACCES: a process has entered the
/// namespace, as the first one of the machine has; or `pid` is non-dumpable, and so not ours to write. EPERM
/// without CAP_SYS_TIME in the user namespace to which it belongs. EINVAL: a second has at most 999999999
/// nanoseconds.
pub fn write(pid: Pid, offsets: Offsets) -> Result<()> {
    write_to(&pid.to_string(), offsets)
}

fn write_to(process: &str, offsets: Offsets) -> Result<()> {
    for (_, name, offset) in offsets.clocks() {
        let nanoseconds = offset.unwrap_or_default().nanoseconds;
        ensure!(
            nanoseconds < 1_000_000_000,
            anyhow!(Errno::EINVAL)
                .context(format!("the offset of {name}: {nanoseconds} nanoseconds are a second or more"))
        );
    }
    let (file, text) = (format!("/proc/{process}/timens_offsets"), offsets.text());
    if text.is_empty() {
        return Ok(());
    }
    let shown = text.trim_end().replace('\n', "\\n");
    info!(target: "syscall", "write({file}, \"{shown}\")  clock, seconds, nanoseconds: before anybody enters");
    fs::write(&file, &text).map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
        let hint = match errno {
            Errno::ERANGE => " (the clock would be negative, or later than the kernel's clocks can be)",
            Errno::EACCES => " (a process has entered this time namespace already; or the file is not ours)",
            Errno::EPERM => {
                " (it takes CAP_SYS_TIME in the user namespace to which the time namespace belongs)"
            }
            Errno::ENOENT => " (no such process, or a kernel without time namespaces)",
            _ => "",
        };
        anyhow!(errno).context(format!("write \"{shown}\" to {file:?}{hint}"))
    })
}
// ANCHOR_END: unshare

// ANCHOR: enter
/// Takes this process into the time namespace of its children. From here on the offsets can't be changed.
///
/// # Errors
///
/// EUSERS: this process has several threads. EPERM without CAP_SYS_ADMIN.
pub fn enter() -> Result<()> {
    let file = "/proc/self/ns/time_for_children";
    info!(target: "syscall", "setns(open({file:?}), CLONE_NEWTIME)  and this process too");
    let namespace = File::open(file).with_context(|| format!("open {file:?}"))?;
    setns(namespace, CLONE_NEWTIME).with_context(|| format!("setns to {file:?}"))
}
// ANCHOR_END: enter

// ANCHOR: of
/// The offsets of the time namespace into which the children of `pid` are born.
///
/// # Errors
///
/// ENOENT: no such process, or the kernel has no time namespaces.
pub fn of(pid: Pid) -> Result<Offsets> {
    let file = format!("/proc/{pid}/timens_offsets");
    fs::read_to_string(&file).with_context(|| format!("read {file:?}"))?.parse().with_context(|| file)
}

impl FromStr for Offsets {
    type Err = Error;

    /// Reads the file's text.
    fn from_str(text: &str) -> Result<Offsets> {
        let mut offsets = Offsets::default();
        for line in text.lines() {
            let strange = || format!("a line of three fields was expected: {line:?}");
            let words: Vec<&str> = line.split_whitespace().collect();
            let [clock, seconds, nanoseconds] = words[..] else { Err(Error::msg(strange()))? };
            let offset = Offset {
                seconds: seconds.parse().with_context(strange)?,
                nanoseconds: nanoseconds.parse().with_context(strange)?,
            };
            match clock {
                "monotonic" | "1" => offsets.monotonic = Some(offset),
                "boottime" | "7" => offsets.boottime = Some(offset),
                _ => Err(Error::msg(format!("a clock that this program does not know: {line:?}")))?,
            }
        }
        Ok(offsets)
    }
}
// ANCHOR_END: of

impl fmt::Display for Offset {
    /// In seconds: `-0.500000000`.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let total = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds);
        let (sign, size) = if total < 0 { ("-", -total) } else { ("", total) };
        write!(formatter, "{sign}{}.{:09}", size / 1_000_000_000, size % 1_000_000_000)
    }
}
