//! The cgroup of the process that is joined.

use std::cell::RefCell;
use std::fs;
use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use ch01_pid::{Child, Passage, Spawn};
use ch04_cgroups::{Cgroup, Hierarchies, Limits, Place};
use ch06_exec::{Exec, Kind, Target};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use testing::{needs, poll, process};

use super::container::{all_but_user, cgroup, container, status, wait_for_ever};
use super::joined::join;

crate::tests![
    the_joined_process_is_in_the_cgroup_on_version_1,
    the_joined_process_is_in_the_cgroup_on_version_2,
    it_is_born_in_a_cgroup_of_version_2,
    a_cgroup_with_cgroups_below_is_entered_below,
    without_its_namespace_or_on_demand_the_cgroup_stays_ours,
    a_frozen_cgroup_is_refused,
    a_frozen_cgroup_is_entered_on_demand,
    a_cgroup_that_is_frozen_on_the_way_does_not_hold_the_parent,
    a_full_cgroup_is_told,
    a_child_that_the_kernel_kills_at_birth_is_born_outside,
];

/// A cgroup with a container in it; both go when it is dropped.
struct Contained {
    cgroup: ManuallyDrop<Cgroup>,
    container: Option<Child>,
}

impl Contained {
    fn new() -> Contained {
        let hierarchies = Hierarchies::find().unwrap();
        // What a test that was killed has left under such a name, the next sandbox removes.
        let place =
            Place::at(&hierarchies, Path::new(&format!("/hull-test-{}-join", std::process::id()))).unwrap();
        let cgroup = Cgroup::create(&place).unwrap();
        let container = container(all_but_user(), || Ok(()));
        cgroup.enter(container.pid()).unwrap();
        Contained { cgroup: ManuallyDrop::new(cgroup), container: Some(container) }
    }

    fn pid(&self) -> Pid {
        self.container.as_ref().unwrap().pid()
    }

    fn target(&self) -> Target {
        Target::open(self.pid()).unwrap()
    }

    /// Where it is on disk, in the hierarchy of version 2.
    fn directory(&self) -> PathBuf {
        self.cgroup.paths().find(|(hierarchy, _)| hierarchy == "v2").unwrap().1.into()
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        self.container = None;
        self.cgroup.kill_all().unwrap();
        // SAFETY: nobody uses it any more.
        unsafe { ManuallyDrop::take(&mut self.cgroup) }.remove().unwrap();
    }
}

fn the_joined_process_is_in_the_cgroup() {
    let contained = Contained::new();
    assert_ne!(cgroup(contained.pid()), cgroup(Pid::this()));
    let joined = join(Exec::new(&contained.target()));
    assert_eq!(cgroup(joined.pid()), cgroup(contained.pid()));
}

fn the_joined_process_is_in_the_cgroup_on_version_1() {
    needs!(Root, CgroupV1);
    the_joined_process_is_in_the_cgroup();
}

fn the_joined_process_is_in_the_cgroup_on_version_2() {
    needs!(Root, CgroupV2);
    the_joined_process_is_in_the_cgroup();
}

fn it_is_born_in_a_cgroup_of_version_2() {
    needs!(Root, CgroupV2);
    let contained = Contained::new();
    let target = contained.target();
    // To the freezer, which has no say in births, a process is in the cgroup or it is not: at the gate it is.
    let held = Exec::new(&target).dies_with_parent().start(wait_for_ever).unwrap();
    assert_eq!(cgroup(held.pid()), cgroup(contained.pid()));
    drop(held);
}

fn a_cgroup_with_cgroups_below_is_entered_below() {
    needs!(Root, CgroupV2);
    let contained = Contained::new();
    let leaf = contained.directory().join("init");
    fs::create_dir(&leaf).unwrap();
    fs::write(leaf.join("cgroup.procs"), contained.pid().to_string()).unwrap();
    fs::write(contained.directory().join("cgroup.subtree_control"), "+pids").unwrap();
    // The whole of it takes no process, neither by clone nor by a write.
    let target = contained.target();
    let joined = join(Exec::new(&target).cgroup(&contained.cgroup));
    assert!(cgroup(contained.pid()).trim_end().ends_with("/init"));
    assert_eq!(cgroup(joined.pid()), cgroup(contained.pid()));
}

fn without_its_namespace_or_on_demand_the_cgroup_stays_ours() {
    needs!(Root);
    let contained = Contained::new();
    let target = contained.target();
    let joined = join(Exec::new(&target).without_cgroup());
    assert_eq!(cgroup(joined.pid()), cgroup(Pid::this()));
    let joined = join(Exec::new(&target).only(&[Kind::Network]));
    assert_eq!(cgroup(joined.pid()), cgroup(Pid::this()));
}

fn a_frozen_cgroup_is_refused() {
    needs!(Root);
    let contained = Contained::new();
    contained.cgroup.freeze().unwrap();
    let refusal = Exec::new(&contained.target()).start(wait_for_ever).map(drop).unwrap_err().to_string();
    contained.cgroup.thaw().unwrap();
    assert!(refusal.contains("is frozen"), "{refusal}");
}

fn a_frozen_cgroup_is_entered_on_demand() {
    needs!(Root);
    let contained = Contained::new();
    contained.cgroup.freeze().unwrap();
    let held = Exec::new(&contained.target()).even_if_frozen().start(wait_for_ever).unwrap();
    assert_eq!(cgroup(held.pid()), cgroup(contained.pid()));
    contained.cgroup.thaw().unwrap();
    let joined = held.release(None).unwrap();
    poll(Duration::from_secs(10), || status(joined.pid(), "State").starts_with('S').then_some(()));
}

/// Somebody pauses the container after we have looked: the process in the middle stands still in there.
struct FrozenOnTheWay<'a>(&'a Cgroup);

impl Passage for FrozenOnTheWay<'_> {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    fn prepare(&self, middle: Pid, _: bool) -> Result<()> {
        self.0.enter(middle)?;
        self.0.freeze()
    }

    fn enter(&self) -> Result<()> {
        Ok(())
    }

    fn check(&self) -> Result<()> {
        ensure!(!self.0.is_frozen()?, "it is frozen");
        Ok(())
    }
}

fn a_cgroup_that_is_frozen_on_the_way_does_not_hold_the_parent() {
    needs!(Root);
    let contained = Contained::new();
    let way = FrozenOnTheWay(&contained.cgroup);
    let refusal = Spawn::new().start_through(&way, wait_for_ever).map(drop).unwrap_err().to_string();
    assert_eq!(refusal, "it is frozen");
    contained.cgroup.thaw().unwrap();
    // On version 1 SIGKILL has waited for that, and we have not.
    let other = |pid: &i32| *pid != contained.pid().as_raw();
    poll(Duration::from_secs(10), || {
        let left: Vec<i32> = process::children(Pid::this().as_raw()).into_iter().filter(other).collect();
        for pid in &left {
            _ = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
        }
        left.is_empty().then_some(())
    });
}

fn a_full_cgroup_is_told() {
    needs!(Root, CgroupV2);
    let contained = Contained::new();
    let limits = Limits { pids: Some("1".parse().unwrap()), ..Default::default() };
    contained.cgroup.apply(&limits).unwrap();
    let refusal = Exec::new(&contained.target()).start(wait_for_ever).map(drop).unwrap_err();
    assert!(format!("{refusal:#}").contains("a limit on processes"), "{refusal:#}");
}

/// What the middle is told of the cgroup.
struct Told(RefCell<Vec<bool>>);

impl Passage for Told {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    fn prepare(&self, _: Pid, in_cgroup: bool) -> Result<()> {
        self.0.borrow_mut().push(in_cgroup);
        Ok(())
    }

    fn enter(&self) -> Result<()> {
        Ok(())
    }
}

/// Some kernels kill a child that is cloned into a cgroup to whose `cgroup.kill` was written once, and not to ours.
fn a_child_that_the_kernel_kills_at_birth_is_born_outside() {
    needs!(Root);
    let contained = Contained::new();
    if contained.cgroup.directory().is_none() {
        return;
    }
    // That of version 2 alone, which may be one of many.
    fs::write(contained.directory().join("cgroup.kill"), "1").unwrap();
    let told = Told(RefCell::default());
    let spawn = Spawn::new().dies_with_parent().cgroup(contained.cgroup.directory().unwrap());
    let held = spawn.start_through(&told, wait_for_ever).unwrap();
    let path = contained.directory().file_name().unwrap().to_str().unwrap().to_string();
    let is_in = cgroup(held.pid()).lines().any(|line| line.starts_with("0::") && line.ends_with(&path));
    let told = told.0.into_inner();
    assert_eq!(told.last(), Some(&is_in));
    assert!(told == [true] || told == [true, false], "{told:?}");
}
