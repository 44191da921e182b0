//! What exec gives, and what it gives no more: setuid files, files with capabilities.

#[macro_use]
mod forked;
mod subject;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use ch07_privileges::capabilities::{Capability, CapabilitySet, Sets};
use ch07_privileges::no_new_privs;
use ch07_privileges::user::{User, become_user};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;
use subject::{Subject, Who, become_plain_user, exec};
use testing::PlainUser;

tests! {
    a_setuid_program_gains_nothing_under_no_new_privs,
    a_file_with_capabilities_gives_none_under_no_new_privs,
    a_file_gives_no_capability_that_has_left_the_bounding_set,
    a_containers_user_gains_nothing_by_a_files_inheritable_set,
    root_takes_back_nothing_by_exec_under_no_new_privs,
    a_process_that_is_not_there_has_no_bit,
}

const NET_RAW: u64 = 1 << 13;

const PROGRAM: &str = "/mnt/sleep";

/// A file system of our own at /mnt, on which setuid counts: /tmp is often mounted with nosuid. It ends with
/// us.
fn own_file_system() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::MS_NODEV, Some("mode=0755"))?;
    fs::copy("/bin/sleep", PROGRAM)?;
    Ok(())
}

fn set_mode(mode: u32) -> Result<()> {
    Ok(fs::set_permissions(PROGRAM, Permissions::from_mode(mode))?)
}

/// Gives a file capabilities, as setcap(8) does: `struct vfs_cap_data` of linux/capability.h, revision 2.
fn set_capabilities(permitted: u64, inheritable: u64) -> Result<()> {
    // With the bit VFS_CAP_FLAGS_EFFECTIVE: what exec gives is effective at once.
    let words = [
        0x0200_0001,
        permitted as u32,
        inheritable as u32,
        (permitted >> 32) as u32,
        (inheritable >> 32) as u32,
    ];
    let data: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let file = std::ffi::CString::new(PROGRAM)?;
    // SAFETY: two strings that end in 0, and as many bytes as are told; all live until the call returns.
    let result = unsafe {
        libc::setxattr(file.as_ptr(), c"security.capability".as_ptr(), data.as_ptr().cast(), data.len(), 0)
    };
    Errno::result(result)?;
    Ok(())
}

/// The plain user executes a file of root's that has been made special, with `no_new_privs` or without.
fn executed(special: impl FnOnce() -> Result<()>, forbidden: bool) -> Subject {
    let user = PlainUser::get();
    let mut process = Subject::start(Who::Ourselves, |_| {
        own_file_system()?;
        special()?;
        become_plain_user(&user)?;
        if forbidden {
            no_new_privs::set()?;
        }
        exec(PROGRAM, &["1000"])
    });
    process.sleeps();
    assert_eq!(process.status("NoNewPrivs"), if forbidden { "1" } else { "0" });
    assert_eq!(no_new_privs::of(Pid::from_raw(process.pid)).unwrap(), forbidden);
    process
}

fn a_setuid_program_gains_nothing_under_no_new_privs() {
    testing::needs!(Root, PlainUser);
    let setuid = || set_mode(0o4755);
    let effective = |process: &Subject| process.status("Uid").split_whitespace().nth(1).unwrap().to_string();
    let free = executed(setuid, false);
    assert_eq!(effective(&free), "0");
    assert_ne!(free.set("CapEff"), 0);
    let forbidden = executed(setuid, true);
    assert_eq!(effective(&forbidden), PlainUser::get().uid.to_string());
    assert_eq!((forbidden.set("CapPrm"), forbidden.set("CapEff")), (0, 0));
}

fn a_file_with_capabilities_gives_none_under_no_new_privs() {
    testing::needs!(Root, PlainUser);
    let special = || set_capabilities(NET_RAW, 0);
    assert_eq!(executed(special, false).set("CapEff"), NET_RAW);
    assert_eq!(executed(special, true).set("CapEff"), 0);
}

/// A container's process with these sets, which is not root, executes a file with these capabilities.
fn executed_in_container(sets: Sets, permitted: u64, inheritable: u64) -> Subject {
    Subject::start(Who::Ourselves, |_| {
        own_file_system()?;
        set_capabilities(permitted, inheritable)?;
        sets.before_user_change()?;
        become_user(&User { uid: 65534, gid: 65534, ..User::default() })?;
        sets.apply()?;
        exec(PROGRAM, &["1000"])
    })
}

fn a_file_gives_no_capability_that_has_left_the_bounding_set() {
    testing::needs!(Root);
    let run =
        |bounding: CapabilitySet| executed_in_container(Sets { bounding, ..Sets::default() }, NET_RAW, 0);
    let mut process = run(CapabilitySet::DEFAULT);
    process.sleeps();
    assert_eq!(process.set("CapEff"), NET_RAW);
    // A file whose capabilities are effective at once is not executed with less: it would not know what it
    // lacks.
    let mut process = run(CapabilitySet::DEFAULT.without(Capability::NET_RAW));
    let word = process.word();
    assert!(word.ends_with("EPERM: Operation not permitted"), "{word}");
    assert_eq!(process.set("CapEff"), 0);
}

fn a_containers_user_gains_nothing_by_a_files_inheritable_set() {
    testing::needs!(Root);
    let run = |sets: Sets| {
        let mut process = executed_in_container(sets, 0, NET_RAW);
        process.sleeps();
        process.set("CapEff")
    };
    let sets = Sets::bounded_by(CapabilitySet::DEFAULT);
    assert_eq!(run(sets), 0);
    // As it was before CVE-2022-24769 and CVE-2022-29162.
    assert_eq!(run(Sets { inheritable: CapabilitySet::DEFAULT, ..sets }), NET_RAW);
}

fn root_takes_back_nothing_by_exec_under_no_new_privs() {
    testing::needs!(UserNamespaces);
    let run = |forbidden: bool| {
        let mut process = Subject::start(Who::RootOfNamespace, |_| {
            Sets { bounding: CapabilitySet::all()?, ..Sets::default() }.apply()?;
            if forbidden {
                no_new_privs::set()?;
            }
            exec("sleep", &["1000"])
        });
        process.sleeps();
        process.set("CapEff")
    };
    assert_ne!(run(false), 0);
    assert_eq!(run(true), 0);
}

fn a_process_that_is_not_there_has_no_bit() {
    let error = no_new_privs::of(Pid::from_raw(i32::MAX)).unwrap_err();
    assert_eq!(error.to_string(), format!("read \"/proc/{}/status\"", i32::MAX));
}
