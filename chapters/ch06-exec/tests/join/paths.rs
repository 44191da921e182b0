//! Namespaces that are given by path.

use std::path::Path;

use ch01_pid::{Child, Spawn};
use ch06_exec::{Exec, Join, Kind, Namespace, Target};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use testing::needs;

use super::container::{
    all_but_user, container, container_with_users, namespace, shared, status, wait_for_ever,
};

crate::tests![
    some_are_joined_by_path_and_others_are_new,
    a_path_takes_the_place_of_the_targets,
    a_user_namespace_is_joined_by_path,
    a_path_of_our_own_is_not_joined,
    a_namespace_of_another_kind_is_refused,
    what_is_no_namespace_is_refused,
    a_pid_namespace_without_its_first_process_is_refused,
    an_unknown_kind_is_refused_by_name,
];

fn by_path(pid: Pid, kind: Kind) -> Namespace {
    Namespace::open(kind, Path::new(&format!("/proc/{pid}/ns/{kind}"))).unwrap()
}

fn start(join: &Join, new: CloneFlags) -> Child {
    let spawn = Spawn::new().namespaces(new).dies_with_parent();
    spawn.start_through(join, wait_for_ever).unwrap().release(None).unwrap()
}

fn some_are_joined_by_path_and_others_are_new() {
    needs!(Root);
    let pod = container(all_but_user(), || Ok(()));
    let join = Join::paths([Kind::Network, Kind::Ipc].map(|kind| by_path(pod.pid(), kind)).into()).unwrap();
    let new = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWNS;
    let child = start(&join, new);
    assert_eq!(shared(child.pid(), pod.pid()), ["user", "net", "ipc"]);
    assert_eq!(shared(child.pid(), Pid::this()), ["user", "cgroup", "time"]);
    assert!(status(child.pid(), "NSpid").ends_with(" 1"));
}

fn a_path_takes_the_place_of_the_targets() {
    needs!(Root);
    let (one, other) = (container(all_but_user(), || Ok(())), container(all_but_user(), || Ok(())));
    let target = Target::open(one.pid()).unwrap();
    let join = Join::of(&target, &Kind::ALL).unwrap();
    let join = join.and(vec![by_path(other.pid(), Kind::Uts)]).unwrap();
    let child = start(&join, CloneFlags::empty());
    assert_eq!(shared(child.pid(), other.pid()), ["user", "uts"]);
    assert_eq!(shared(child.pid(), one.pid()), ["user", "mnt", "pid", "net", "ipc", "cgroup", "time"]);
}

fn a_user_namespace_is_joined_by_path() {
    needs!(Root);
    let holder = container_with_users(CloneFlags::empty(), 2_000_000, || Ok(()));
    let join = Join::paths(vec![by_path(holder.pid(), Kind::User)]).unwrap();
    // The new ones belong to it.
    let child = start(&join, CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS);
    assert_eq!(namespace(child.pid(), "user"), namespace(holder.pid(), "user"));
    let network = by_path(child.pid(), Kind::Network);
    assert_eq!(network.owner().unwrap().to_string(), namespace(holder.pid(), "user"));
    assert_eq!(status(child.pid(), "Uid").split(' ').next(), Some("2000000"));
}

fn a_path_of_our_own_is_not_joined() {
    let own = Kind::ALL.map(|kind| by_path(Pid::this(), kind));
    assert_eq!(Join::paths(own.into()).unwrap().kinds(), []);
}

fn a_namespace_of_another_kind_is_refused() {
    let refusal = Namespace::open(Kind::Mount, Path::new("/proc/self/ns/net")).unwrap_err().to_string();
    assert!(refusal.contains("is a namespace of net, and should be one of mnt"), "{refusal}");
}

fn what_is_no_namespace_is_refused() {
    let refusal = Namespace::open(Kind::Network, Path::new("/proc/self/status")).unwrap_err().to_string();
    assert!(refusal.contains("/proc/self/status\" is no namespace"), "{refusal}");
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let refusal = Namespace::open(Kind::Network, &fifo).unwrap_err().to_string();
    assert!(refusal.contains("is no namespace"), "{refusal}");
    let refusal = Namespace::open(Kind::Network, &directory.path().join("nothing")).unwrap_err();
    assert_eq!(refusal.root_cause().downcast_ref(), Some(&Errno::ENOENT));
}

fn a_pid_namespace_without_its_first_process_is_refused() {
    needs!(Root);
    let holder = container(CloneFlags::CLONE_NEWPID, || Ok(()));
    let join = Join::paths(vec![by_path(holder.pid(), Kind::Pid)]).unwrap();
    drop(holder);
    let refusal = Spawn::new().start_through(&join, wait_for_ever).map(drop).unwrap_err();
    assert_eq!(refusal.root_cause().downcast_ref(), Some(&Errno::ENOMEM));
    assert!(refusal.to_string().contains("has no PID 1 any more"), "{refusal:#}");
}

fn an_unknown_kind_is_refused_by_name() {
    for kind in Kind::ALL {
        assert_eq!(kind.file().parse::<Kind>().unwrap(), kind);
    }
    assert_eq!(
        ("mount".parse::<Kind>().unwrap(), "network".parse::<Kind>().unwrap()),
        (Kind::Mount, Kind::Network)
    );
    let refusal = "nets".parse::<Kind>().unwrap_err().to_string();
    assert!(refusal.contains("\"nets\"") && refusal.contains("cgroup"), "{refusal}");
    // Those of a process that is no container are our own.
    let target = Target::open(Pid::this()).unwrap();
    assert!(!Join::of(&target, &Kind::ALL).unwrap().needs_fork());
    drop(Exec::new(&target));
}
