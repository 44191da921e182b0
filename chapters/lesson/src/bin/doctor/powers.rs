//! What chapter 7 needs to take powers away: seccomp(2), capabilities(7), time_namespaces(7).

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::prctl::set_no_new_privs;

use crate::examine::{Finding, State};
use crate::machine::{Machine, enter_user_namespace, sysctl};
use lesson::probe::{Refusal, in_child};

/// CLONE_NEWTIME of linux/sched.h, which nix does not name.
const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

/// A filter that allows everything is installed, in a child.
pub(crate) fn seccomp(_: &Machine) -> Finding {
    let answer = in_child(|| {
        set_no_new_privs().map_err(|errno| Refusal::new("prctl(PR_SET_NO_NEW_PRIVS)", errno))?;
        let code = (libc::BPF_RET | libc::BPF_K) as u16;
        let mut filter = [libc::sock_filter { code, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }];
        let program = libc::sock_fprog { len: 1, filter: filter.as_mut_ptr() };
        // SAFETY: the kernel copies the program, and the filter to which it points, before the call returns.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
        Errno::result(result).map_err(|errno| Refusal::new("seccomp(SECCOMP_SET_MODE_FILTER)", errno))?;
        Ok(String::new())
    });
    match answer {
        Ok(_) => {
            let actions = sysctl("kernel.seccomp.actions_avail").unwrap_or_default();
            let can_notify = actions.split_whitespace().any(|action| action == "user_notif");
            let lacking = if can_notify { "" } else { "; no user_notif (5.0): no filter asks a supervisor" };
            Finding::new(State::Ok, format!("installed one{lacking}"))
        }
        Err(refusal) if matches!(refusal.errno, Errno::EINVAL | Errno::ENOSYS) => Finding::new(
            State::Missing,
            format!("{refusal}: the kernel was built without CONFIG_SECCOMP_FILTER"),
        ),
        Err(refusal) => Finding::new(State::Restricted, refusal.to_string()),
    }
}

/// To take a capability away for good takes CAP_SETPCAP. Root has it, or whoever made a user namespace, there.
pub(crate) fn bounding_set(machine: &Machine) -> Finding {
    if !machine.can_isolate() {
        return Finding::new(State::Unknown, "not tried: it takes a user namespace");
    }
    let answer = in_child(|| {
        if !machine.root {
            enter_user_namespace(CloneFlags::empty())?;
        }
        // 16 is CAP_SYS_MODULE.
        // SAFETY: the call takes numbers.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, 16, 0, 0, 0) };
        Errno::result(result).map_err(|errno| Refusal::new("prctl(PR_CAPBSET_DROP)", errno))?;
        Ok(String::new())
    });
    match answer {
        Ok(_) => Finding::new(State::Ok, "took one away, in a child"),
        Err(refusal) => {
            Finding::new(State::Restricted, format!("{refusal}: no CAP_SETPCAP, as in a container"))
        }
    }
}

/// Linux 5.6.
pub(crate) fn time_namespaces(machine: &Machine) -> Finding {
    if !machine.can_isolate() {
        return Finding::new(State::Unknown, "not tried: it takes a user namespace");
    }
    match in_child(|| machine.isolate(CLONE_NEWTIME).map(|()| String::new())) {
        Ok(_) => Finding::new(State::Ok, "made one"),
        Err(refusal) if refusal.errno == Errno::EINVAL => Finding::new(
            State::Missing,
            "unshare(CLONE_NEWTIME): the kernel is older than 5.6, or was built without CONFIG_TIME_NS",
        ),
        Err(refusal) => Finding::new(State::Restricted, refusal.to_string()),
    }
}
