//! User namespaces: the maps that are written for a child, by each of the ways, and a namespace that is held
//! by a descriptor alone.

mod forked;

use std::fs;
use std::os::fd::AsRawFd;

use ch07_privileges::user_namespace;
use forked::{Forked, waiting_in};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use proptest::prelude::*;
use testing::{PlainUser, Program, needs, process};
use userns::map::{self, IdMap, Ids, write_for};

tests! {
    what_is_refused_before_the_write_is_what_the_kernel_refuses,
    any_map_is_refused_before_the_write_exactly_where_the_kernel_refuses_it,
    root_maps_many_ranges_for_a_child_and_its_groups_can_still_be_set,
    nothing_is_written_where_one_of_the_maps_is_wrong,
    a_plain_user_maps_the_own_id_and_gives_up_setgroups_for_it,
    without_newuidmap_a_plain_user_is_told_what_to_install,
    a_plain_user_maps_the_ranges_that_were_set_aside_and_setgroups_stays,
    a_range_of_somebody_elses_is_refused_with_the_line_that_is_missing,
    an_id_that_does_not_exist_in_the_parent_namespace_is_named,
    a_namespace_that_is_held_by_a_descriptor_has_its_maps_and_no_process,
    the_owner_is_who_made_it_and_the_parent_is_not_seen_from_inside,
}

fn range(inside: u32, outside: u32, count: u32) -> IdMap {
    IdMap { inside, outside, count }
}

/// A file of a process's, as the kernel shows it, with single blanks.
fn file(pid: impl std::fmt::Display, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join(", ")
}

/// What the kernel says to a map: nothing of ours in between.
fn kernel_takes(maps: &[IdMap]) -> bool {
    let child = waiting_in(CloneFlags::CLONE_NEWUSER);
    let text: Vec<String> = maps.iter().map(ToString::to_string).collect();
    let text = if text.is_empty() { "\n".into() } else { text.join("\n") };
    match fs::write(format!("/proc/{}/uid_map", child.pid()), text) {
        Ok(()) => true,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => false,
        Err(error) => panic!("{maps:?}: {error}"),
    }
}

fn what_is_refused_before_the_write_is_what_the_kernel_refuses() {
    needs!(Root);
    let lines = |count: u32, first: u32| -> Vec<IdMap> {
        (0..count).map(|number| range(first + number * 2, first + number * 2, 1)).collect()
    };
    for maps in [
        vec![],
        lines(340, 0),
        lines(341, 0),
        // Each has 24 bytes with the end of its line: 170 are less than a page of 4096, 171 are not.
        lines(170, 4_000_000_000),
        lines(171, 4_000_000_000),
        vec![range(0, 0, u32::MAX)],
        vec![range(1, 0, u32::MAX)],
        vec![range(0, u32::MAX, 1)],
        vec![range(u32::MAX - 1, u32::MAX - 1, 1)],
    ] {
        let (ours, kernels) = (map::check(Ids::Users, &maps), kernel_takes(&maps));
        assert_eq!(ours.is_ok(), kernels, "{} ranges: {ours:?}", maps.len());
    }
}

fn any_map_is_refused_before_the_write_exactly_where_the_kernel_refuses_it() {
    needs!(Root);
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(numbers in prop::collection::vec((edge(), edge(), count()), 1..5))| {
        let maps = numbers.into_iter().map(|(inside, outside, count)| range(inside, outside, count));
        let maps: Vec<IdMap> = maps.collect();
        prop_assert_eq!(map::check(Ids::Users, &maps).is_ok(), kernel_takes(&maps), "{:?}", maps);
    });
}

/// Numbers at which something changes.
fn edge() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0..24_u32, 1 => (u32::MAX - 12)..=u32::MAX]
}

/// Small, so that two ranges often touch, or share one number.
fn count() -> impl Strategy<Value = u32> {
    prop_oneof![20 => 1..6_u32, 1 => 0..1_u32, 2 => edge()]
}

fn root_maps_many_ranges_for_a_child_and_its_groups_can_still_be_set() {
    needs!(Root);
    let users: Vec<IdMap> = (0..100).map(|number| range(number * 10, 200_000 + number * 20, 10)).collect();
    let groups = [range(0, 300_000, 5), range(5, 400_000, 1)];
    let mut child = Forked::start(|life| {
        unshare(CloneFlags::CLONE_NEWUSER)?;
        life.say("ready");
        life.wait();
        nix::unistd::setgroups(&[5.into()])?;
        nix::unistd::setresgid(4.into(), 4.into(), 4.into())?;
        nix::unistd::setresuid(995.into(), 995.into(), 995.into())?;
        life.say("changed");
        Ok(())
    });
    assert_eq!(child.line(), "ready");
    write_for(child.pid(), &users, &groups).unwrap();
    let expected: Vec<String> = users.iter().map(ToString::to_string).collect();
    assert_eq!(file(child.pid(), "uid_map"), expected.join(", "));
    assert_eq!(file(child.pid(), "gid_map"), "0 300000 5, 5 400000 1");
    assert_eq!(file(child.pid(), "setgroups"), "allow");
    child.go();
    assert_eq!(child.line(), "changed");
    let pid = child.pid().as_raw();
    let outside = map::to_outside(&users, 995).unwrap();
    assert_eq!(process::status(pid, "Uid").unwrap(), [outside; 4].map(|id| id.to_string()).join(" "));
    assert_eq!(process::status(pid, "Gid").unwrap(), "300004 300004 300004 300004");
    assert_eq!(process::status(pid, "Groups").unwrap(), "400000");
    assert_eq!(map::of(child.pid(), Ids::Users).unwrap(), users);

    // Each file can be written once.
    let error = write_for(child.pid(), &users, &groups).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&Errno::EPERM));
    assert!(format!("{error:#}").contains("it has a map already"), "{error:#}");
}

fn nothing_is_written_where_one_of_the_maps_is_wrong() {
    needs!(Root);
    let child = waiting_in(CloneFlags::CLONE_NEWUSER);
    for (users, groups, why) in [
        ([range(0, 200_000, 10)], [range(0, 200_000, 0)], "the gid_map: the range \"0 200000 0\" is empty"),
        ([range(0, 200_000, 10)], [range(1, 200_000, 1)], "the gid_map: no range has the id 0"),
        ([range(1, 200_000, 10)], [range(0, 200_000, 1)], "the uid_map: no range has the id 0"),
    ] {
        let error = write_for(child.pid(), &users, &groups).unwrap_err();
        assert!(format!("{error:#}").contains(why), "{error:#}");
        assert_eq!(file(child.pid(), "uid_map"), "");
    }
}

fn a_plain_user_maps_the_own_id_and_gives_up_setgroups_for_it() {
    needs!(UserNamespaces);
    let mut parent = Forked::as_plain_user(|life| {
        let child = waiting_in(CloneFlags::CLONE_NEWUSER);
        write_for(child.pid(), &[range(0, geteuid().as_raw(), 1)], &[range(0, getegid().as_raw(), 1)])?;
        life.say(child.pid());
        life.wait();
        Ok(())
    });
    let (child, user) = (parent.line(), PlainUser::get());
    assert_eq!(file(&child, "uid_map"), format!("0 {} 1", user.uid));
    assert_eq!(file(&child, "gid_map"), format!("0 {} 1", user.gid));
    assert_eq!(file(&child, "setgroups"), "deny");
    parent.go();
}

/// What a plain user is told who asks for these maps for a child.
fn refusal_of(users: &[IdMap], groups: &[IdMap], prepare: impl FnOnce()) -> String {
    let mut parent = Forked::as_plain_user(|life| {
        prepare();
        let child = waiting_in(CloneFlags::CLONE_NEWUSER);
        let error = write_for(child.pid(), users, groups).unwrap_err();
        drop(child);
        anyhow::ensure!(error.downcast_ref() == Some(&Errno::EPERM), "not EPERM: {error:?}");
        life.say(format!("{error:#}").replace('\n', " "));
        Ok(())
    });
    parent.line()
}

fn without_newuidmap_a_plain_user_is_told_what_to_install() {
    needs!(UserNamespaces);
    let user = PlainUser::get();
    let users = [range(0, user.uid.as_raw(), 1), range(1, 100_000, 10)];
    let refusal = refusal_of(&users, &users, || {
        // SAFETY: this copy of the process has a single thread.
        unsafe { std::env::set_var("PATH", "/nowhere") };
    });
    assert!(refusal.contains("newuidmap and newgidmap, which are not installed"), "{refusal}");
}

fn a_plain_user_maps_the_ranges_that_were_set_aside_and_setgroups_stays() {
    needs!(UserNamespaces, Newuidmap);
    let mut parent = Forked::as_plain_user(|life| {
        let ranges = userns::subordinate::Ranges::of_user(geteuid().as_raw())?;
        let ((user, _), (group, _)) = (ranges.users[0], ranges.groups[0]);
        let child = waiting_in(CloneFlags::CLONE_NEWUSER);
        // Two ranges out of one line of the file, and the user's own number.
        let users = [range(0, geteuid().as_raw(), 1), range(1, user, 100), range(500, user + 100, 50)];
        let groups = [range(0, group, 10), range(10, getegid().as_raw(), 1)];
        write_for(child.pid(), &users, &groups)?;
        life.say(child.pid());
        life.say(format!("{user} {group}"));
        life.wait();
        Ok(())
    });
    let (child, numbers, user) = (parent.line(), parent.line(), PlainUser::get());
    let (first, group) = numbers.split_once(' ').unwrap_or_else(|| panic!("{child} {numbers}"));
    let second = first.parse::<u32>().unwrap() + 100;
    assert_eq!(file(&child, "uid_map"), format!("0 {} 1, 1 {first} 100, 500 {second} 50", user.uid));
    assert_eq!(file(&child, "gid_map"), format!("0 {group} 10, 10 {} 1", user.gid));
    assert_eq!(file(&child, "setgroups"), "allow");
    parent.go();
}

fn a_range_of_somebody_elses_is_refused_with_the_line_that_is_missing() {
    needs!(UserNamespaces, Newuidmap);
    let user = PlainUser::get();
    let users = [range(0, user.uid.as_raw(), 1), range(1, 7, 5)];
    let refusal = refusal_of(&users, &users, || ());
    let line = format!("/etc/subuid would have to say {}:7:5, and has {}:", user.name, user.name);
    assert!(refusal.contains("the range \"1 7 5\"") && refusal.contains(&line), "{refusal}");
}

fn an_id_that_does_not_exist_in_the_parent_namespace_is_named() {
    needs!(UserNamespaces);
    let mut parent = Forked::as_plain_user(|life| {
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        unshare(CloneFlags::CLONE_NEWUSER)?;
        map::write_single(user, group)?;
        let child = waiting_in(CloneFlags::CLONE_NEWUSER);
        let error = write_for(child.pid(), &[range(0, 0, 1), range(1, 5, 2)], &[range(0, 0, 1)]).unwrap_err();
        life.say(format!("{error:#}"));
        // Root in a namespace with one user may give that one on.
        let child = waiting_in(CloneFlags::CLONE_NEWUSER);
        write_for(child.pid(), &[range(0, 0, 1)], &[range(0, 0, 1)])?;
        life.say(child.pid());
        life.wait();
        Ok(())
    });
    let refusal = parent.line();
    let expected = "the range \"1 5 2\" names ids outside that do not exist in this user namespace: see /proc/self/uid_map";
    assert!(refusal.contains(expected), "{refusal}");
    let grandchild = parent.line();
    assert_eq!(file(&grandchild, "uid_map"), format!("0 {} 1", PlainUser::get().uid));
    parent.go();
}

fn a_namespace_that_is_held_by_a_descriptor_has_its_maps_and_no_process() {
    needs!(Root, Tool("nsenter"));
    let mut holder = Forked::start(|life| {
        let namespace =
            user_namespace::with_maps(&[range(1, 200_000, 10)], &[range(0, 300_000, 5), range(7, 8, 1)])?;
        life.say(namespace.as_raw_fd());
        life.say(user_namespace::owner(&namespace)?);
        let parent = user_namespace::parent(&namespace)?;
        life.say(fs::read_link(format!("/proc/self/fd/{}", parent.as_raw_fd()))?.display());
        life.wait();
        Ok(())
    });
    let link = format!("/proc/{}/fd/{}", holder.pid(), holder.line());
    assert_eq!(holder.line(), "0", "its owner");
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    assert_eq!(holder.line(), own.display().to_string(), "its parent");
    let shown = fs::read_link(&link).unwrap();
    assert!(shown.display().to_string().starts_with("user:[") && shown != own, "{shown:?}");
    assert_eq!(process::children(holder.pid().as_raw()), [], "the child that made it is gone");
    let script = "cat /proc/self/uid_map /proc/self/gid_map";
    let joined = Program::new("nsenter").args([
        &format!("--user={link}"),
        "--preserve-credentials",
        "sh",
        "-c",
        script,
    ]);
    let output = joined.run();
    let words = output.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words, "1 200000 10 0 300000 5 7 8 1", "{output}");
    holder.go();
}

fn the_owner_is_who_made_it_and_the_parent_is_not_seen_from_inside() {
    needs!(UserNamespaces);
    let mut holder = Forked::as_plain_user(|life| {
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        let namespace = user_namespace::with_maps(&[range(7, user, 1)], &[range(7, group, 1)])?;
        life.say(user_namespace::owner(&namespace)?);
        nix::sched::setns(&namespace, CloneFlags::CLONE_NEWUSER)?;
        let error = user_namespace::parent(fs::File::open("/proc/self/ns/user")?).unwrap_err();
        anyhow::ensure!(error.downcast_ref() == Some(&Errno::EPERM), "not EPERM: {error:?}");
        life.say(format!("{error:#}"));
        life.wait();
        Ok(())
    });
    assert_eq!(holder.line(), PlainUser::get().uid.to_string());
    assert!(holder.line().contains("not visible from our own user namespace"));
    assert_eq!(file(holder.pid(), "uid_map"), format!("7 {} 1", PlainUser::get().uid));
    holder.go();
}
