//! Where joining fails: it says why, and leaves nothing. (That no process is left is asked after every test here.)

use std::path::Path;
use std::time::Duration;

use ch01_pid::Spawn;
use ch01_pid::spawn::exit_now;
use ch06_exec::{Exec, Join, Kind, Namespace, Target};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use testing::{needs, poll, process};

use super::container::{all_but_user, container, wait_for_ever};

crate::tests![
    a_process_that_is_not_there_is_named,
    a_zombie_is_no_process_to_join,
    a_process_that_has_ended_since_it_was_opened_is_told,
    a_namespace_above_ours_is_refused_with_the_reason,
    a_proc_that_counts_in_another_pid_namespace_is_refused,
];

fn a_process_that_is_not_there_is_named() {
    let gone = container(CloneFlags::empty(), || Ok(())).pid();
    let refusal = Target::open(gone).unwrap_err();
    assert_eq!(refusal.root_cause().downcast_ref(), Some(&Errno::ESRCH));
    assert!(refusal.to_string().contains(&gone.to_string()), "{refusal:#}");
}

fn a_zombie_is_no_process_to_join() {
    let container = container(CloneFlags::empty(), || Ok(()));
    kill(container.pid(), Signal::SIGKILL).unwrap();
    poll(Duration::from_secs(10), || {
        process::status(container.pid().as_raw(), "State")?.starts_with('Z').then_some(())
    });
    let refusal = Target::open(container.pid()).unwrap_err();
    assert!(refusal.to_string().contains("has ended"), "{refusal:#}");
}

fn a_process_that_has_ended_since_it_was_opened_is_told() {
    needs!(Root);
    let container = container(all_but_user(), || Ok(()));
    let target = Target::open(container.pid()).unwrap();
    drop(container);
    for kinds in [&Kind::ALL[..], &[Kind::Network], &[Kind::Cgroup]] {
        let refusal = Exec::new(&target).only(kinds).start(wait_for_ever).map(drop).unwrap_err();
        assert!(format!("{refusal:#}").contains("has ended"), "{refusal:#}");
    }
    assert!(target.ensure_alive().is_err());
}

fn a_namespace_above_ours_is_refused_with_the_reason() {
    needs!(Root);
    // Its children are born in a namespace of their own, and joining goes down only.
    // SAFETY: this process has a single thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            // /proc stays that of the namespace above.
            let path = format!("/proc/{}/ns/pid", Pid::this());
            unshare(CloneFlags::CLONE_NEWPID).unwrap();
            let inner = Spawn::new().dies_with_parent().start(|_| {
                let above = Namespace::open(Kind::Pid, Path::new(&path))?;
                let join = Join::paths(vec![above])?;
                Err(Spawn::new().start_through(&join, wait_for_ever).map(drop).unwrap_err())
            });
            let refusal = format!("{:#}", inner.unwrap().release(None).map(drop).unwrap_err());
            let is_told = refusal.contains("one can go down only");
            if !is_told {
                eprintln!("{refusal}");
            }
            exit_now(u8::from(!is_told))
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).unwrap();
            assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
        }
    }
}

/// As after `unshare --pid --fork` without `--mount-proc`: the pidfd would be of one process, the rest of another.
fn a_proc_that_counts_in_another_pid_namespace_is_refused() {
    needs!(Root);
    let inner = Spawn::new().namespaces(CloneFlags::CLONE_NEWPID).dies_with_parent();
    let held = inner.start(|_| Err(Target::open(Pid::this()).map(drop).unwrap_err()));
    let refusal = held.unwrap().release(None).map(drop).unwrap_err().to_string();
    assert!(refusal.contains("/proc is of another PID namespace"), "{refusal}");
}
