//! A cgroup is made, entered, frozen, killed and removed; and what is told where that can't be.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use ch04_cgroups::{Bound, Cgroup, Hierarchies, Limits, Place, sweep};
use testing::{needs, poll};

mod cgroup_support;
use cgroup_support::{Made, Waiting, place};

const MOMENT: Duration = Duration::from_secs(10);

#[test]
fn a_cgroup_is_a_directory_in_every_hierarchy_that_is_mounted() {
    needs!(Root);
    let cgroup = Made::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounted = mounts.lines().filter(|line| line.contains(" - cgroup")).count();
    let paths: Vec<_> = cgroup.paths().map(|(_, path)| path.to_path_buf()).collect();
    assert_eq!(paths.len(), mounted, "{paths:?}");
    assert!(paths.iter().all(|path| path.join("cgroup.procs").exists()), "{paths:?}");
    cgroup.remove();
    assert!(!paths.iter().any(|path| path.exists()), "{paths:?}");
}

#[test]
fn a_process_that_entered_is_there_in_every_hierarchy_and_so_are_its_children() {
    needs!(Root);
    let cgroup = Made::new();
    let mut process = Waiting::inside(&cgroup, "sleep 100 & wait");
    let (_, path) = cgroup.paths().next().unwrap();
    let name = path.file_name().unwrap().to_str().unwrap().to_string();
    let elsewhere: Vec<_> = process.cgroups().into_iter().filter(|line| !line.ends_with(&name)).collect();
    // Hierarchies that are known to the kernel, and mounted nowhere.
    assert_eq!(process.cgroups().len() - elsewhere.len(), cgroup.paths().count(), "{elsewhere:?}");
    process.go();
    let processes = poll(MOMENT, || Some(cgroup.processes().unwrap()).filter(|pids| pids.len() == 2));
    assert!(processes.contains(&process.pid()), "{processes:?}");
}

#[test]
fn a_frozen_process_uses_no_time_and_goes_on_when_thawed() {
    needs!(Root);
    let cgroup = Made::new();
    let mut process = Waiting::inside(&cgroup, "while :; do :; done");
    process.go();
    poll(MOMENT, || (process.ticks() > 5).then_some(()));
    cgroup.freeze().unwrap();
    let before = process.ticks();
    sleep(Duration::from_millis(300));
    assert_eq!(process.ticks(), before);
    cgroup.thaw().unwrap();
    poll(MOMENT, || (process.ticks() > before).then_some(()));
}

/// Twenty processes, each of which forks and ends at once, for ever: a list of their pids is never up to date. In a PID
/// namespace, whose init (the shell that sleeps) waits for them all: else the dead would count against pids.max.
const HOPPING: &str = "exec unshare --pid --fork sh -c \
    'hop() { hop & }; for i in 1 2 3 4 5 6 7 8 9 10; do hop; hop; done; sleep 100'";

#[test]
fn processes_that_fork_without_end_are_killed_as_a_whole_even_if_frozen() {
    needs!(Root, Tool("unshare"));
    for is_frozen in [false, true] {
        let cgroup = Made::new();
        cgroup.apply(&Limits { pids: Some(Bound::At(200)), ..Limits::default() }).unwrap();
        let mut process = Waiting::inside(&cgroup, HOPPING);
        process.go();
        poll(MOMENT, || (cgroup.processes().unwrap().len() > 10).then_some(()));
        if is_frozen {
            cgroup.freeze().unwrap();
        }
        cgroup.kill_all().unwrap();
        for (_, path) in cgroup.paths() {
            assert_eq!(fs::read_to_string(path.join("cgroup.procs")).unwrap(), "", "{path:?}");
        }
        process.0.wait().unwrap();
        cgroup.remove();
    }
}

#[test]
fn what_was_made_below_is_removed_too() {
    needs!(Root);
    let place = place("test");
    let cgroup = Made::at(&place);
    drop(Cgroup::create(&place.below("a").below("b")).unwrap());
    let paths: Vec<_> = cgroup.paths().map(|(_, path)| path.to_path_buf()).collect();
    assert!(paths.iter().all(|path| path.join("a/b").exists()), "{paths:?}");
    cgroup.remove();
    assert!(!paths.iter().any(|path| path.exists()), "{paths:?}");
}

#[test]
fn a_cgroup_that_is_in_use_is_not_taken_over() {
    needs!(Root);
    let place = place("test");
    let cgroup = Made::at(&place);
    let error = format!("{:#}", Cgroup::create(&place).unwrap_err());
    assert!(error.contains("owner who is alive"), "{error}");
    let opened = Cgroup::open(&place).unwrap();
    assert_eq!(opened.paths().count(), cgroup.paths().count());
}

#[test]
fn a_cgroup_without_processes_and_without_an_owner_is_made_anew() {
    needs!(Root, CgroupController("pids"));
    let place = place("test");
    let old = Cgroup::create(&place).unwrap();
    old.apply(&Limits { pids: Some(Bound::At(5)), ..Limits::default() }).unwrap();
    let below = Cgroup::create(&place.below("a")).unwrap();
    drop(old);
    let old_process = Waiting::inside(&below, "sleep 100");
    // A test beside this one may just fork: its child has our descriptors until it calls exec.
    poll(MOMENT, || {
        let error = format!("{:#}", Cgroup::create(&place).unwrap_err());
        error.contains(&format!("has processes: {{{}}}", old_process.pid())).then_some(())
    });
    below.kill_all().unwrap();
    drop(below);
    Cgroup::open(&place).unwrap().freeze().unwrap();
    let new = poll(MOMENT, || Cgroup::create(&place).ok().map(Made::from));
    let process = Waiting::inside(&new, "exit 3");
    poll(MOMENT, || {
        testing::process::status(process.pid().as_raw(), "State").filter(|state| state.starts_with('S'))
    });
    assert_eq!(new.limits().unwrap().pids, Some(Bound::Max));
    assert!(!new.paths().any(|(_, path)| path.join("a").exists()));
}

#[test]
fn who_stands_in_version_1_alone_is_killed_too() {
    needs!(Root, CgroupV1);
    let cgroup = Made::new();
    let mut process = Waiting::new("sleep 100");
    for (_, path) in cgroup.paths().filter(|(hierarchy, _)| hierarchy != "v2") {
        fs::write(path.join("cgroup.procs"), process.pid().to_string()).unwrap();
    }
    cgroup.kill_all().unwrap();
    assert!(!process.0.wait().unwrap().success());
}

#[test]
fn a_sweep_takes_the_dead_with_their_processes_and_leaves_the_living() {
    needs!(Root);
    let (dead, living) = (place("sweep"), place("sweep"));
    let _living = Made::at(&living);
    let cgroup = Cgroup::create(&dead).unwrap();
    let paths: Vec<_> = cgroup.paths().map(|(_, path)| path.to_path_buf()).collect();
    let mut process = Waiting::inside(&cgroup, "sleep 100");
    // The owner is dead when its descriptors are closed.
    drop(cgroup);
    // A test beside this one may just fork: its child has our descriptors until it calls exec.
    poll(MOMENT, || {
        sweep::sweep(&living, &format!("sweep-{}-", std::process::id())).unwrap();
        (!paths.iter().any(|path| path.exists())).then_some(())
    });
    assert!(!process.0.wait().unwrap().success());
    assert!(Cgroup::open(&living).unwrap().paths().all(|(_, path)| path.exists()));
}

#[test]
fn a_path_that_leads_up_is_refused() {
    let Ok(hierarchies) = Hierarchies::find() else { return };
    for path in ["relative", "/a/../b"] {
        let error = Place::at(&hierarchies, Path::new(path)).unwrap_err().to_string();
        assert!(error.contains(path), "{error}");
    }
}

#[test]
fn a_controller_that_is_not_handed_down_is_told_with_the_cgroup_at_which_it_ends() {
    needs!(Root, CgroupV2);
    let outer = place("test");
    let made = Made::at(&outer);
    // Made by hand: the library would hand the controllers down.
    let (_, path) = made.paths().next().unwrap();
    fs::create_dir(path.join("inner")).unwrap();
    let inner = Cgroup::open(&outer.below("inner")).unwrap();
    let error = inner.apply(&Limits { pids: Some(Bound::At(5)), ..Limits::default() }).unwrap_err();
    let error = format!("{error:#}");
    for words in
        ["pids.max", "ENOENT", "is not enabled in", path.join("cgroup.subtree_control").to_str().unwrap()]
    {
        assert!(error.contains(words), "{words} in {error}");
    }
    let _process = Waiting::inside(&made, "true");
    let error = inner.apply(&Limits { pids: Some(Bound::At(5)), ..Limits::default() }).unwrap_err();
    assert!(format!("{error:#}").contains("rule of no internal processes"), "{error:#}");
}

#[test]
fn who_enters_a_cgroup_that_hands_controllers_down_joins_the_first_process_below() {
    needs!(Root, CgroupV2);
    let outer = place("test");
    let made = Made::at(&outer);
    let inner = Cgroup::create(&outer.below("inner")).unwrap();
    let late = Waiting::new("true");
    let error = format!("{:#}", made.enter(late.pid()).unwrap_err());
    assert!(error.contains("EBUSY") && error.contains("rule of no internal processes"), "{error}");
    let _first = Waiting::inside(&inner, "sleep 100");
    made.enter(late.pid()).unwrap();
    assert!(late.cgroups()[0].ends_with("/inner"), "{:?}", late.cgroups());
}
