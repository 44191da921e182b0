//! A plain user's lesson is root in a user namespace of its own: what the kernel says of its maps.

use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use testing::{PlainUser, Program, Running, needs, poll, process};

fn lesson() -> Program {
    Program::new(env!("CARGO_BIN_EXE_ch00-chroot")).as_plain_user().args(["--", "sleep", "30"])
}

/// The maps of the lesson once it has become the command: a line a range.
fn maps(lesson: &Running) -> (Vec<String>, Vec<String>) {
    poll(Duration::from_secs(30), || (process::status(lesson.pid(), "Name")? == "sleep").then_some(()));
    let read = |kind: &str| {
        let map = fs::read_to_string(format!("/proc/{}/{kind}_map", lesson.pid())).expect("read a map");
        map.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    (read("uid"), read("gid"))
}

#[test]
fn with_newuidmap_root_is_the_user_and_the_subordinate_ranges_follow() {
    needs!(UserNamespaces, Newuidmap);
    let running = lesson().spawn();
    let (users, groups) = maps(&running);
    let user = PlainUser::get();
    assert_eq!(users[0], format!("0 {} 1", user.uid));
    assert_eq!(groups[0], format!("0 {} 1", user.gid));
    assert!(users[1].starts_with("1 ") && groups[1].starts_with("1 "), "{users:?} {groups:?}");
}

#[test]
fn without_newuidmap_root_is_the_user_and_nobody_else_exists() {
    needs!(UserNamespaces);
    // Any filter goes with no_new_privs, which takes the setuid program newuidmap its power.
    let running = lesson().deny(libc::SYS_acct, Errno::EPERM).spawn();
    let user = PlainUser::get();
    assert_eq!(maps(&running), (vec![format!("0 {} 1", user.uid)], vec![format!("0 {} 1", user.gid)]));
    assert_eq!(fs::read_to_string(format!("/proc/{}/setgroups", running.pid())).unwrap(), "deny\n");
    running.signal(libc::SIGKILL);
    let output = running.wait();
    assert!(output.stderr.contains("only one user and one group exist in it: "), "{output}");
}

#[test]
fn the_process_is_a_plain_user_s_outside() {
    needs!(UserNamespaces);
    let running = lesson().spawn();
    maps(&running);
    let user = PlainUser::get();
    let uid = user.uid.to_string();
    assert_eq!(process::status(running.pid(), "Uid"), Some([uid.as_str(); 4].join(" ")));
}
