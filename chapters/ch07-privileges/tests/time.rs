//! Time namespaces: their offsets, and who is in them.

mod forked;

use std::fs;

use ch07_privileges::time::{self, Offset, Offsets};
use forked::Forked;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, getegid, geteuid};
use testing::needs;
use userns::map;

tests! {
    the_clocks_of_children_are_moved_and_the_processs_own_once_it_enters,
    an_offset_can_take_a_clock_back_but_not_below_zero,
    nobody_changes_the_offsets_once_a_process_is_in,
    a_plain_user_moves_the_clocks_of_a_user_namespace,
    the_host_writes_the_offsets_of_a_child_that_waits,
    what_the_kernel_would_not_understand_is_refused_before,
}

fn offset(seconds: i64, nanoseconds: u32) -> Option<Offset> {
    Some(Offset { seconds, nanoseconds })
}

/// The offsets, as the kernel shows them: the lines' numbers.
fn offsets_of(pid: Pid) -> Vec<Vec<i64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/timens_offsets")).unwrap();
    let numbers = |line: &str| line.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
    text.lines().map(numbers).collect()
}

/// The time namespaces of a process and of its children.
fn namespaces_of(pid: Pid) -> (String, String) {
    let link = |name| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string();
    (link("time"), link("time_for_children"))
}

fn seconds(clock: ClockId) -> f64 {
    let now = clock_gettime(clock).unwrap();
    now.tv_sec() as f64 + now.tv_nsec() as f64 / 1e9
}

fn clocks() -> [f64; 3] {
    [ClockId::CLOCK_MONOTONIC, ClockId::CLOCK_BOOTTIME, ClockId::CLOCK_REALTIME].map(seconds)
}

/// How far the clocks that are told by a line are before ours, in whole minutes.
fn ahead(line: &str) -> Vec<i64> {
    let theirs = line.split(' ').map(|word| word.parse::<f64>().unwrap_or_else(|_| panic!("{line}")));
    theirs.zip(clocks()).map(|(theirs, ours)| ((theirs - ours) / 60.0).round() as i64).collect()
}

fn tell(clocks: [f64; 3]) -> String {
    clocks.map(|clock| clock.to_string()).join(" ")
}

fn the_clocks_of_children_are_moved_and_the_processs_own_once_it_enters() {
    needs!(Root, TimeNamespaces);
    let mut inside = Forked::start(|life| {
        time::unshare(Offsets { monotonic: offset(36_000, 0), boottime: offset(60_000, 500_000_000) })?;
        life.say(tell(clocks()));
        life.wait();
        let mut child = Forked::start(|life| {
            life.say(tell(clocks()));
            Ok(())
        });
        life.say(child.pid());
        life.say(child.line());
        life.wait();
        time::enter()?;
        life.say(tell(clocks()));
        life.wait();
        Ok(())
    });
    let (line, host) = (inside.line(), namespaces_of(Pid::this()).0);
    assert_eq!(ahead(&line), [0, 0, 0], "it has not entered");
    let (own, children) = namespaces_of(inside.pid());
    assert!(own == host && children != host, "{own} {children}");
    assert_eq!(offsets_of(inside.pid()), [[36_000, 0], [60_000, 500_000_000]]);
    assert_eq!(
        time::of(inside.pid()).unwrap(),
        Offsets { monotonic: offset(36_000, 0), boottime: offset(60_000, 500_000_000) }
    );
    inside.go();
    let child = Pid::from_raw(inside.line().parse().unwrap());
    assert_eq!(namespaces_of(child), (children.clone(), children.clone()));
    assert_eq!(ahead(&inside.line()), [600, 1000, 0], "monotonic, boottime, and the clock on the wall");
    inside.go();
    assert_eq!(ahead(&inside.line()), [600, 1000, 0]);
    assert_eq!(namespaces_of(inside.pid()), (children.clone(), children));
    inside.go();
}

fn an_offset_can_take_a_clock_back_but_not_below_zero() {
    needs!(Root, TimeNamespaces);
    let mut inside = Forked::start(|life| {
        let error =
            time::unshare(Offsets { monotonic: offset(-4_000_000_000, 0), boottime: None }).unwrap_err();
        anyhow::ensure!(error.downcast_ref() == Some(&Errno::ERANGE), "not ERANGE: {error:?}");
        life.say(format!("{error:#}"));
        // A refusal closes nothing.
        time::write(Pid::this(), Offsets { monotonic: offset(-1, 500_000_000), boottime: None })?;
        life.say("written");
        Ok(())
    });
    assert!(inside.line().contains("the clock would be negative"));
    assert_eq!(inside.line(), "written");
    assert_eq!(offsets_of(inside.pid()), [[-1, 500_000_000], [0, 0]]);
    assert_eq!(time::of(inside.pid()).unwrap().monotonic.unwrap().to_string(), "-0.500000000");
}

fn nobody_changes_the_offsets_once_a_process_is_in() {
    needs!(Root, TimeNamespaces);
    let mut inside = Forked::start(|life| {
        time::unshare(Offsets { monotonic: offset(1, 0), boottime: None })?;
        time::enter()?;
        let error =
            time::write(Pid::this(), Offsets { monotonic: offset(2, 0), boottime: None }).unwrap_err();
        anyhow::ensure!(error.downcast_ref() == Some(&Errno::EACCES), "not EACCES: {error:?}");
        life.say(format!("{error:#}"));
        Ok(())
    });
    assert!(inside.line().contains("a process has entered this time namespace already"));
    assert_eq!(offsets_of(inside.pid()), [[1, 0], [0, 0]]);
}

fn a_plain_user_moves_the_clocks_of_a_user_namespace() {
    needs!(UserNamespaces, TimeNamespaces);
    let mut inside = Forked::as_plain_user(|life| {
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        let error = time::unshare(Offsets::default()).unwrap_err();
        anyhow::ensure!(error.downcast_ref() == Some(&Errno::EPERM), "not EPERM: {error:?}");
        life.say(format!("{error:#}"));
        unshare(CloneFlags::CLONE_NEWUSER)?;
        map::write_single(user, group)?;
        time::unshare(Offsets { monotonic: None, boottime: offset(60_000, 0) })?;
        time::enter()?;
        life.say(tell(clocks()));
        Ok(())
    });
    assert!(inside.line().contains("a user namespace of one's own"));
    assert_eq!(ahead(&inside.line()), [0, 1000, 0]);
    assert_eq!(offsets_of(inside.pid()), [[0, 0], [60_000, 0]]);
}

fn the_host_writes_the_offsets_of_a_child_that_waits() {
    needs!(Root, TimeNamespaces);
    let mut inside = Forked::start(|life| {
        time::unshare(Offsets::default())?;
        life.say("made");
        life.wait();
        time::enter()?;
        life.say(tell(clocks()));
        Ok(())
    });
    assert_eq!(inside.line(), "made");
    time::write(inside.pid(), Offsets { monotonic: offset(36_000, 0), boottime: offset(36_000, 0) }).unwrap();
    inside.go();
    assert_eq!(ahead(&inside.line()), [600, 600, 0]);
}

fn what_the_kernel_would_not_understand_is_refused_before() {
    let error = time::write(Pid::this(), Offsets { monotonic: offset(0, 1_000_000_000), boottime: None })
        .unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&Errno::EINVAL));
    let old: Offsets = "1 5 6\n7 -8 9\n".parse().unwrap();
    assert_eq!(old, Offsets { monotonic: offset(5, 6), boottime: offset(-8, 9) });
    for text in ["monotonic 1\n", "realtime 1 2\n", "monotonic a 2\n"] {
        assert!(text.parse::<Offsets>().is_err(), "{text}");
    }
}
