//! User namespaces: who one is after joining, and that a plain user joins what is their own.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::Result;
use ch01_pid::{Child, Report, Spawn};
use ch06_exec::{Exec, Join, Kind, Namespace, Target};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_dumpable;
use nix::unistd::{Gid, Pid, getgid, getgroups, getuid, setgroups};
use testing::needs;

use super::container::{
    KINDS, all_but_user, as_plain_user, container, container_with_users, map, namespace, shared, status,
    wait_for_ever,
};
use super::joined::{OneByOne, join, join_one_by_one};

crate::tests![
    root_becomes_the_root_of_the_user_namespace,
    the_groups_of_root_stay_outside_where_the_user_namespace_denies_setgroups,
    a_network_of_the_hosts_is_joined_before_the_user_namespace,
    a_plain_user_joins_their_own_container,
    a_plain_user_joins_their_own_container_one_by_one,
    a_process_of_another_user_is_refused,
    a_user_namespace_without_root_is_refused,
    what_has_the_same_user_namespace_is_joined,
];

/// A number that is nobody's.
const ROOT_OUTSIDE: u32 = 2_000_000;

fn root_becomes_the_root_of_the_user_namespace() {
    needs!(Root);
    let container = container_with_users(all_but_user(), ROOT_OUTSIDE, || Ok(()));
    let target = Target::open(container.pid()).unwrap();
    for joined in [join(Exec::new(&target)), join_one_by_one(&target)] {
        assert_eq!(shared(joined.pid(), container.pid()), KINDS);
        let numbers = vec![ROOT_OUTSIDE.to_string(); 4].join(" ");
        assert_eq!((status(joined.pid(), "Uid"), status(joined.pid(), "Gid")), (numbers.clone(), numbers));
        assert_eq!(status(joined.pid(), "Groups"), "");
        assert_eq!(status(joined.pid(), "CapEff"), status(container.pid(), "CapEff"));
    }
}

/// As a plain user's is. With one of the host's groups a process inside could read the group's files wherever one is
/// mounted there.
fn the_groups_of_root_stay_outside_where_the_user_namespace_denies_setgroups() {
    needs!(Root);
    let spawn = Spawn::new().namespaces(all_but_user() | CloneFlags::CLONE_NEWUSER).dies_with_parent();
    let held = spawn.start(wait_for_ever).unwrap();
    std::fs::write(format!("/proc/{}/setgroups", held.pid()), "deny").unwrap();
    map(held.pid(), ROOT_OUTSIDE);
    let container = held.release(None).unwrap();
    let target = Target::open(container.pid()).unwrap();

    let before = getgroups().unwrap();
    setgroups(&[Gid::from_raw(6)]).unwrap();
    let joined = [join(Exec::new(&target)), join_one_by_one(&target)];
    let groups = joined.each_ref().map(|joined| status(joined.pid(), "Groups"));
    setgroups(&before).unwrap();
    assert_eq!(groups, ["", ""]);
    assert_eq!(status(joined[0].pid(), "Gid").split(' ').next(), Some(ROOT_OUTSIDE.to_string().as_str()));
}

/// A user namespace that was made in a network namespace of the host's root, as with Docker's pods and
/// `--userns-remap`: the user namespace's root has no right to join the network.
fn a_network_of_the_hosts_is_joined_before_the_user_namespace() {
    needs!(Root);
    let (ready, is_ready) = nix::unistd::pipe().unwrap();
    let (go, let_go) = nix::unistd::pipe().unwrap();
    let held = Spawn::new()
        .namespaces(CloneFlags::CLONE_NEWNET)
        .keep([is_ready.as_fd(), go.as_fd()])
        .dies_with_parent()
        .start(|report| {
            unshare(CloneFlags::CLONE_NEWUSER)?;
            report.close();
            nix::unistd::write(&is_ready, b"!")?;
            nix::unistd::read(&go, &mut [0])?;
            wait_for_ever(report)
        });
    let container = held.unwrap().release(None).unwrap();
    nix::unistd::read(&ready, &mut [0]).unwrap();
    map(container.pid(), ROOT_OUTSIDE);
    nix::unistd::write(&let_go, b"!").unwrap();

    let target = Target::open(container.pid()).unwrap();
    let network = Namespace::of(&target, Kind::Network).unwrap();
    let owner = network.owner().unwrap().identity().unwrap();
    assert_eq!(owner, Namespace::own(Kind::User).unwrap().identity().unwrap());
    for joined in [join(Exec::new(&target)), join_one_by_one(&target)] {
        assert_eq!(shared(joined.pid(), container.pid()), KINDS);
        assert_eq!(status(joined.pid(), "Uid").split(' ').next(), Some(ROOT_OUTSIDE.to_string().as_str()));
    }
}

fn own_container() -> Child {
    let (user, group) = (getuid().as_raw(), getgid().as_raw());
    assert!(user != 0 && user == group, "the plain user's group has another number");
    container_with_users(all_but_user(), user, || Ok(()))
}

/// What exec does: from then on its user may look at it.
fn visible(report: &mut Report) -> Result<Infallible> {
    set_dumpable(true)?;
    wait_for_ever(report)
}

fn a_plain_user_joins_their_own_container() {
    needs!(UserNamespaces);
    as_plain_user(|| {
        let container = own_container();
        let target = Target::open(container.pid()).unwrap();
        let joined = Exec::new(&target).dies_with_parent().start(visible).unwrap().release(None).unwrap();
        assert_eq!(shared(joined.pid(), container.pid()), KINDS);
        assert_eq!(shared(joined.pid(), Pid::this()), [""; 0]);
        assert_eq!(status(joined.pid(), "CapEff"), status(container.pid(), "CapEff"));
    });
}

fn a_plain_user_joins_their_own_container_one_by_one() {
    needs!(UserNamespaces);
    as_plain_user(|| {
        let container = own_container();
        let target = Target::open(container.pid()).unwrap();
        let way = OneByOne(Join::of(&target, &Kind::ALL).unwrap());
        let held = Spawn::new().dies_with_parent().start_through(&way, visible);
        let joined = held.unwrap().release(None).unwrap();
        assert_eq!(shared(joined.pid(), container.pid()), KINDS);
    });
}

fn a_process_of_another_user_is_refused() {
    needs!(Root, PlainUser);
    let container = container(CloneFlags::CLONE_NEWUTS, || Ok(()));
    let pid = container.pid();
    as_plain_user(|| {
        let refusal = Target::open(pid).unwrap_err();
        assert_eq!(refusal.root_cause().downcast_ref(), Some(&Errno::EACCES), "{refusal:#}");
        assert!(refusal.to_string().contains("another user's"), "{refusal:#}");
    });
}

fn a_user_namespace_without_root_is_refused() {
    needs!(Root);
    let held = Spawn::new().namespaces(CloneFlags::CLONE_NEWUSER).dies_with_parent().start(wait_for_ever);
    let held = held.unwrap();
    for file in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{}/{file}", held.pid()), "1000 1000 1").unwrap();
    }
    let container = held.release(None).unwrap();
    let target = Target::open(container.pid()).unwrap();
    let refusal = Exec::new(&target).start(wait_for_ever).map(drop).unwrap_err();
    assert_eq!(refusal.root_cause().downcast_ref(), Some(&Errno::EINVAL));
    assert!(refusal.to_string().contains("maps no group 0"), "{refusal:#}");
}

/// Two containers of the same user namespace, as in a pod: its root joins the other.
fn what_has_the_same_user_namespace_is_joined() {
    needs!(Root);
    let (mut here, there) = UnixStream::pair().unwrap();
    let spawn = Spawn::new().keep([there.as_fd()]).dies_with_parent();
    let held = spawn.namespaces(CloneFlags::CLONE_NEWUSER).start(|report| -> Result<_> {
        set_dumpable(true)?;
        let first = container(CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC, || Ok(()));
        let joined = join(Exec::new(&Target::open(first.pid())?));
        write!(&there, "{} {}", first.pid(), joined.pid())?;
        wait_for_ever(report)
    });
    let held = held.unwrap();
    map(held.pid(), ROOT_OUTSIDE);
    let _pod = held.release(None).unwrap();
    let mut pids = [0; 64];
    let length = here.read(&mut pids).unwrap();
    let pids = String::from_utf8_lossy(&pids[..length]).into_owned();
    let (first, joined) = pids.split_once(' ').unwrap();
    let (first, joined) = (Pid::from_raw(first.parse().unwrap()), Pid::from_raw(joined.parse().unwrap()));
    assert_eq!(shared(first, joined), KINDS);
    assert_ne!(namespace(joined, "uts"), namespace(Pid::this(), "uts"));
}
