//! The kernel's version, and the call that makes containers. uname(2), clone3(2).

use nix::errno::Errno;

use crate::examine::{Finding, State};
use crate::machine::Machine;
use crate::machine::sysctl;
use lesson::probe::{Refusal, in_child};

/// What later kernels have and lessons use: version, call, and what happens without it. Without the first,
/// nothing works.
const CALLS: [((u32, u32), &str, &str); 4] = [
    ((5, 6), "openat2", "paths cannot be resolved inside of a root"),
    ((5, 7), "CLONE_INTO_CGROUP", "a child is moved into its cgroup after it was made"),
    ((5, 9), "close_range", "descriptors are closed one by one"),
    ((5, 12), "mount_setattr", "bind mounts are made read-only one by one"),
];

pub(crate) fn version(_: &Machine) -> Finding {
    let Some(release) = sysctl("kernel.osrelease") else {
        return Finding::new(State::Unknown, "/proc/sys/kernel/osrelease is not readable");
    };
    match parse(&release) {
        Some(version) => judge(&release, version),
        None => Finding::new(State::Unknown, format!("the release {release:?} has no version")),
    }
}

fn judge(release: &str, version: (u32, u32)) -> Finding {
    let lacking: Vec<String> = CALLS
        .iter()
        .filter(|(since, ..)| version < *since)
        .map(|((major, minor), call, without)| format!("no {call} ({major}.{minor}): {without}"))
        .collect();
    let (state, minimum) = match CALLS[0].0 {
        minimum if version < minimum => (State::Missing, minimum),
        minimum => (State::Ok, minimum),
    };
    let detail = format!("Linux {release} (at least {}.{})", minimum.0, minimum.1);
    Finding::new(state, [vec![detail], lacking].concat().join("; "))
}

/// `6.12.9-amd64` as (6, 12).
fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(crate) fn clone3(_: &Machine) -> Finding {
    let answer = in_child(|| {
        // SAFETY: a size of 0 is refused before the null pointer is looked at, and no child is made.
        let result = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<libc::clone_args>(), 0usize) };
        match Errno::result(result) {
            Ok(_) => Ok(String::new()),
            // The kernel has the call, and has looked at the size.
            Err(Errno::EINVAL) => Ok(String::new()),
            Err(errno) => Err(Refusal::new("clone3", errno)),
        }
    });
    match answer {
        Ok(_) => Finding::new(State::Ok, "the kernel takes the call"),
        Err(refusal) => Finding::new(
            State::Restricted,
            format!("{refusal}: a seccomp filter forbids it, or the kernel is older than 5.3"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_told_what_it_lacks_and_a_too_old_one_fails() {
        assert_eq!(parse("6.12.9-amd64"), Some((6, 12)));
        assert_eq!(parse("5.15-rc1"), Some((5, 15)));
        assert_eq!(parse("unknown"), None);
        assert_eq!(judge("5.4.0", (5, 4)).state, State::Missing);
        let between = judge("5.10.0", (5, 10));
        assert_eq!(between.state, State::Ok);
        assert!(
            between.detail.contains("mount_setattr") && !between.detail.contains("close_range"),
            "{between:?}"
        );
    }
}
