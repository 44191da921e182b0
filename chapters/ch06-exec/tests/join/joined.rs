//! What a process that joins another one has.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use anyhow::Result;
use ch01_pid::spawn::exit_now;
use ch01_pid::{Child, Passage, Spawn};
use ch02_mount::{Propagation, propagation};
use ch06_exec::root::working_directory;
use ch06_exec::{Exec, Join, Kind, Target};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::unistd::Pid;
use testing::{needs, process};

use super::container::{KINDS, all_but_user, container, root, shared, status, wait_for_ever};

crate::tests![
    all_namespaces_are_joined,
    each_kind_is_joined_alone,
    one_by_one_they_are_the_same,
    the_joined_process_has_a_number_in_each_pid_namespace,
    a_child_of_the_joined_process_is_inside_too,
    a_root_below_that_of_the_mount_namespace_is_joined,
    a_root_is_joined_where_the_mount_namespace_is_ours,
    only_the_kept_descriptors_are_open_inside,
    it_ends_with_the_first_process_of_the_pid_namespace,
    its_status_is_not_lost,
    a_working_directory_outside_of_the_root_is_refused,
];

/// Joins and waits for ever.
pub fn join(exec: Exec) -> Child {
    exec.dies_with_parent().start(wait_for_ever).unwrap().release(None).unwrap()
}

fn all_namespaces_are_joined() {
    needs!(Root);
    let container = container(all_but_user(), || Ok(()));
    assert_eq!(shared(container.pid(), Pid::this()), ["user"]);
    let target = Target::open(container.pid()).unwrap();
    let joined = join(Exec::new(&target));
    assert_eq!(shared(joined.pid(), container.pid()), KINDS);
}

fn each_kind_is_joined_alone() {
    needs!(Root);
    let container = container(all_but_user(), || Ok(()));
    let target = Target::open(container.pid()).unwrap();
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::User) {
        let joined = join(Exec::new(&target).only(&[kind]));
        assert_eq!(shared(joined.pid(), container.pid()), ["user", kind.file()]);
        let others: Vec<_> = KINDS.into_iter().filter(|other| *other != kind.file()).collect();
        assert_eq!(shared(joined.pid(), Pid::this()), others);
    }
}

/// Joins as a kernel before 5.8 has it.
pub struct OneByOne<'a>(pub Join<'a>);

impl Passage for OneByOne<'_> {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.0.descriptors()
    }

    fn prepare(&self, _: Pid, _: bool) -> Result<()> {
        Ok(())
    }

    fn enter(&self) -> Result<()> {
        self.0.enter_one_by_one()
    }
}

pub fn join_one_by_one(target: &Target) -> Child {
    let way = OneByOne(Join::of(target, &Kind::ALL).unwrap());
    let held = Spawn::new().dies_with_parent().start_through(&way, wait_for_ever);
    held.unwrap().release(None).unwrap()
}

fn one_by_one_they_are_the_same() {
    needs!(Root);
    let container = container(all_but_user(), || Ok(()));
    let joined = join_one_by_one(&Target::open(container.pid()).unwrap());
    assert_eq!(shared(joined.pid(), container.pid()), KINDS);
}

fn the_joined_process_has_a_number_in_each_pid_namespace() {
    needs!(Root);
    let outer = Spawn::new().namespaces(CloneFlags::CLONE_NEWPID).dies_with_parent().start(|report| {
        let _inner = container(CloneFlags::CLONE_NEWPID, || Ok(()));
        wait_for_ever(report)
    });
    let outer = outer.unwrap().release(None).unwrap();
    let inner = Pid::from_raw(process::children(outer.pid().as_raw())[0]);
    assert_eq!(status(inner, "NSpid").split(' ').count(), 3);

    let joined = join(Exec::new(&Target::open(inner).unwrap()));
    let numbers = status(joined.pid(), "NSpid");
    let numbers: Vec<&str> = numbers.split(' ').collect();
    // The inner namespace has had two processes, and its own first one in the outer namespace is the second there.
    assert_eq!(numbers, [joined.pid().to_string().as_str(), "3", "2"]);
    // It is ours, and not a child of the one that has joined for it.
    assert_eq!(status(joined.pid(), "PPid"), Pid::this().to_string());
}

fn a_child_of_the_joined_process_is_inside_too() {
    needs!(Root);
    let container = container(all_but_user(), || Ok(()));
    let target = Target::open(container.pid()).unwrap();
    let held = Exec::new(&target).dies_with_parent().start(|report| {
        let _child = super::container::container(CloneFlags::empty(), || Ok(()));
        wait_for_ever(report)
    });
    let joined = held.unwrap().release(None).unwrap();
    let child = Pid::from_raw(process::children(joined.pid().as_raw())[0]);
    assert_eq!(shared(child, container.pid()), KINDS);
}

fn a_root_below_that_of_the_mount_namespace_is_joined() {
    needs!(Root);
    let directory = tempfile::tempdir().unwrap();
    let container = container(CloneFlags::CLONE_NEWNS, || ch00_chroot::enter(directory.path()));
    assert_ne!(root(container.pid()), root(Pid::this()));
    let joined = join(Exec::new(&Target::open(container.pid()).unwrap()));
    assert_eq!(root(joined.pid()), root(container.pid()));
    let its_directory = |pid: Pid| std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(its_directory(joined.pid()), its_directory(container.pid()));
}

fn a_root_is_joined_where_the_mount_namespace_is_ours() {
    needs!(Root);
    let directory = tempfile::tempdir().unwrap();
    let container = container(CloneFlags::empty(), || ch00_chroot::enter(directory.path()));
    let joined = join(Exec::new(&Target::open(container.pid()).unwrap()));
    assert_eq!(root(joined.pid()), root(container.pid()));
    // Not with a namespace that has nothing to do with it.
    let joined = join(Exec::new(&Target::open(container.pid()).unwrap()).only(&[Kind::Network]));
    assert_eq!(root(joined.pid()), root(Pid::this()));
}

/// What the descriptors of a process above 2 lead to.
pub fn descriptors(pid: Pid) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let above = entries.filter(|entry| entry.file_name().to_str().unwrap().parse::<i32>().unwrap() > 2);
    let mut links: Vec<String> =
        above.map(|entry| std::fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned()).collect();
    links.sort();
    links
}

fn only_the_kept_descriptors_are_open_inside() {
    needs!(Root);
    let directory = File::open("/").unwrap();
    let kept = File::open("/dev/zero").unwrap();
    let container = container(all_but_user(), || Ok(()));
    let target = Target::open(container.pid()).unwrap();
    let held = Exec::new(&target).keep([kept.as_fd()]).dies_with_parent().start(wait_for_ever).unwrap();
    // At the gate, where it is seen inside, and has run nothing of its own half: what is kept, and two pipes.
    let at_the_gate = descriptors(held.pid());
    assert_eq!(at_the_gate[0], "/dev/zero");
    assert!(at_the_gate.len() == 3 && at_the_gate[1..].iter().all(|link| link.starts_with("pipe:")));
    let joined = held.release(None).unwrap();
    assert_eq!(descriptors(joined.pid()), ["/dev/zero"]);
    drop(directory);
}

fn it_ends_with_the_first_process_of_the_pid_namespace() {
    needs!(Root);
    let mut container = container(all_but_user(), || Ok(()));
    let mut joined = join(Exec::new(&Target::open(container.pid()).unwrap()));
    container.signal(libc::SIGKILL).unwrap();
    assert_eq!(joined.wait().unwrap(), 128 + libc::SIGKILL as u8);
    // Only now: the kernel lets the first process end when nobody else is left in its namespace.
    assert_eq!(container.wait().unwrap(), 128 + libc::SIGKILL as u8);
}

fn its_status_is_not_lost() {
    needs!(Root);
    let container = container(all_but_user(), || Ok(()));
    let target = Target::open(container.pid()).unwrap();
    let mut joined = Exec::new(&target).start(|_| exit_now(7)).unwrap().release(None).unwrap();
    assert_eq!(joined.wait().unwrap(), 7);
    let mut joined = join(Exec::new(&target));
    joined.signal(libc::SIGRTMIN() + 1).unwrap();
    assert_eq!(i32::from(joined.wait().unwrap()), 128 + libc::SIGRTMIN() + 1);
}

fn a_working_directory_outside_of_the_root_is_refused() {
    needs!(Root);
    let host = File::open("/").unwrap();
    let directory = tempfile::tempdir().unwrap();
    // With its own /proc, in which the path of the attack leads to the descriptor.
    let container = container(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID, || {
        propagation::set(Path::new("/"), Propagation::Private, true)?;
        std::fs::create_dir(directory.path().join("proc"))?;
        let proc = directory.path().join("proc");
        mount(Some("proc"), &proc, Some("proc"), MsFlags::empty(), None::<&str>)?;
        ch00_chroot::enter(directory.path())
    });
    let target = Target::open(container.pid()).unwrap();
    let number = host.as_raw_fd();
    let to = |path: String| {
        let exec = Exec::new(&target).keep([host.as_fd()]);
        let held = exec.start(|_| working_directory(path.as_ref()).map(|()| exit_now(0)));
        held.unwrap().release(None).map(|mut child| child.wait().unwrap())
    };
    assert_eq!(to("/proc".into()).unwrap(), 0);
    let refusal = to(format!("/proc/self/fd/{number}")).unwrap_err();
    assert!(refusal.to_string().contains("leads out of the root directory"), "{refusal:#}");
    let refusal = to("/nowhere".into()).unwrap_err();
    assert_eq!(refusal.root_cause().downcast_ref(), Some(&Errno::ENOENT));
}
