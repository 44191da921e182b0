//! Session keyrings, by `/proc/keys` and by what becomes of a key.

#[macro_use]
mod forked;
mod subject;

use std::fs;

use anyhow::Result;
use ch07_privileges::keyring::{Joined, Searcher, Serial, join_named, join_new, let_search, list, session};
use nix::errno::Errno;
use subject::{Subject, Who, answer};

tests! {
    root_leaves_the_keys_that_it_inherited,
    a_plain_user_leaves_the_keys_that_they_inherited,
    root_of_a_user_namespace_leaves_the_keys_that_it_inherited,
    a_named_keyring_is_shared_once_it_may_be_searched,
    the_kernels_own_names_are_refused,
    where_keys_are_hidden_there_is_nothing_to_leave,
    a_user_with_too_many_keys_gets_none_and_hears_why,
    the_keys_that_may_be_viewed_are_listed_as_the_kernel_lists_them,
    keys_are_listed_whatever_others_have_called_theirs_and_whoever_they_are,
}

/// Adds a key to the session keyring: add_key(2).
fn add_key(name: &str, payload: &[u8]) -> nix::Result<i64> {
    let name = std::ffi::CString::new(name).unwrap();
    // SAFETY: two strings that end in 0, and as many bytes as are told; all live until the call returns.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            name.as_ptr(),
            payload.as_ptr(),
            payload.len(),
            libc::KEY_SPEC_SESSION_KEYRING,
        )
    })
}

/// Reads a key by its number: keyctl(2), KEYCTL_READ.
fn read_key(serial: i64) -> nix::Result<i64> {
    let mut buffer = [0u8; 64];
    // SAFETY: the kernel writes at most as many bytes as the buffer has, which lives until the call returns.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_READ, serial, buffer.as_mut_ptr(), buffer.len())
    })
}

fn joined(joined: Joined) -> Result<Serial> {
    match joined {
        Joined::Keyring(serial) => Ok(serial),
        Joined::NoKeys => anyhow::bail!("there are no keys"),
    }
}

/// The line of a key in `/proc/keys`, as this process sees it.
fn line(serial: &str) -> Option<String> {
    // Who makes a key may have named it in any bytes.
    let keys = String::from_utf8_lossy(&fs::read("/proc/keys").unwrap()).into_owned();
    keys.lines().find(|line| line.starts_with(serial)).map(String::from)
}

fn what_was_inherited_cannot_be_read_any_more(who: Who) {
    let mut subject = Subject::start(who, |_| {
        // Played: the keyring of whoever starts the container, and a secret in it.
        let outer = joined(join_new()?)?;
        let key = add_key("hull-test", b"secret")?;
        let before = answer(read_key(key));
        let inner = joined(join_new()?)?;
        anyhow::ensure!(inner != outer && session()? == Some(inner), "the keyring is not ours");
        Ok(format!("{before} {} {inner}", answer(read_key(key))))
    });
    let word = subject.word();
    let words: Vec<&str> = word.split(' ').collect();
    assert_eq!(words[..2], ["ok", "EACCES"], "{word}");
}

fn root_leaves_the_keys_that_it_inherited() {
    testing::needs!(Root);
    what_was_inherited_cannot_be_read_any_more(Who::Ourselves);
}

fn a_plain_user_leaves_the_keys_that_they_inherited() {
    testing::needs!(PlainUser);
    what_was_inherited_cannot_be_read_any_more(Who::PlainUser);
}

fn root_of_a_user_namespace_leaves_the_keys_that_it_inherited() {
    testing::needs!(UserNamespaces);
    what_was_inherited_cannot_be_read_any_more(Who::RootOfNamespace);
}

fn a_named_keyring_is_shared_once_it_may_be_searched() {
    let name = format!("_hull.test.{}", std::process::id());
    let start = |searcher: Option<Searcher>| {
        let mut subject = Subject::start(Who::Ourselves, |_| {
            let serial = joined(join_named(&name)?)?;
            if let Some(searcher) = searcher {
                let_search(serial, searcher)?;
            }
            Ok(serial.to_string())
        });
        (subject.word(), subject)
    };
    // Nobody may search it: a second one gets one of its own.
    let (first, _first) = start(None);
    let (second, second_subject) = start(Some(Searcher::Owner));
    assert_ne!(first, second);
    let listed = line(&second).unwrap();
    assert!(listed.contains(&name), "{listed}");
    let permissions = listed.split_whitespace().nth(4).unwrap();
    assert_eq!(u32::from_str_radix(permissions, 16).unwrap() & 0x0008_0008, 0x0008_0000, "{listed}");
    let (third, _third) = start(Some(Searcher::Anyone));
    assert_eq!(second, third);
    let permissions = line(&second).unwrap().split_whitespace().nth(4).unwrap().to_string();
    assert_eq!(u32::from_str_radix(&permissions, 16).unwrap() & 0x0008_0008, 0x0008_0008);
    drop(second_subject);
}

fn the_kernels_own_names_are_refused() {
    let error = join_named(".hull").unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "keyctl(KEYCTL_JOIN_SESSION_KEYRING, \".hull\") (the kernel keeps names that begin with a dot for itself): \
         EPERM: Operation not permitted"
    );
}

/// A filter that answers keyctl(2) with `errno`, as an outer container's does.
fn hide_keys(errno: Errno) -> Result<()> {
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_keyctl as u32, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    nix::sys::prctl::set_no_new_privs()?;
    // SAFETY: the call takes numbers and a pointer to a program that lives through it.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
    Errno::result(result)?;
    Ok(())
}

fn where_keys_are_hidden_there_is_nothing_to_leave() {
    for errno in [Errno::EPERM, Errno::ENOSYS] {
        let mut subject = Subject::start(Who::Ourselves, |_| {
            hide_keys(errno)?;
            Ok(format!("{:?} {:?} {:?}", join_new()?, join_named("hull")?, session()?))
        });
        assert_eq!(subject.word(), "NoKeys NoKeys None", "{errno}");
    }
    // Another errno is none that a filter of an outer container gives: it is told.
    let mut subject = Subject::start(Who::Ourselves, |_| {
        hide_keys(Errno::ENOMEM)?;
        Ok(format!("{:?}", join_new()?))
    });
    assert!(subject.word().starts_with("failed: keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL): ENOMEM"));
}

fn a_user_with_too_many_keys_gets_none_and_hears_why() {
    testing::needs!(Root);
    // The keys are counted for each user, so this is one of whom no other test has heard.
    let uid = 0x7000_0000 + std::process::id();
    let mut subject = Subject::start(Who::Ourselves, |_| {
        nix::unistd::setresuid(uid.into(), uid.into(), uid.into())?;
        joined(join_new()?)?;
        let refusal = (0..).find_map(|number| add_key(&number.to_string(), b"x").err());
        anyhow::ensure!(refusal == Some(Errno::EDQUOT), "{refusal:?}");
        Ok(format!("{:?}", join_new()?))
    });
    assert_eq!(
        subject.word(),
        "failed: keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL) (the user has too many keys: see /proc/key-users and \
         /proc/sys/kernel/keys/maxkeys): EDQUOT: Quota exceeded"
    );
}

fn the_keys_that_may_be_viewed_are_listed_as_the_kernel_lists_them() {
    let mut subject = Subject::start(Who::Ourselves, |_| {
        joined(join_named("_hull test")?)?;
        add_key("hull test key", b"secret")?;
        let keys = list()?;
        let key = keys.iter().find(|key| key.description.starts_with("hull test key"));
        let key = key.ok_or_else(|| anyhow::anyhow!("it is not listed: {keys:?}"))?;
        let session = session()?;
        anyhow::ensure!(keys.iter().any(|key| Some(key.serial) == session), "the session keyring is missing");
        Ok(format!("{};{:08x};{};{};{}", key.serial, key.permissions, key.uid, key.kind, key.description))
    });
    let word = subject.word();
    let fields: Vec<&str> = word.split(';').collect();
    let line = line(fields[0]).unwrap_or_else(|| panic!("{word}"));
    let expected = format!(" {} {:>5} ", fields[1], fields[2]);
    assert!(
        line.contains(&expected) && line.contains(fields[3]) && line.contains("hull test key: 6"),
        "{line}"
    );
    assert_eq!((fields[3], fields[4]), ("user", "hull test key: 6"));
}

fn keys_are_listed_whatever_others_have_called_theirs_and_whoever_they_are() {
    testing::needs!(Root);
    const FAR: u32 = 4_000_000_000;
    let mut subject = Subject::start(Who::Ourselves, |_| {
        let named = join_raw(c"a\xff\nb")?;
        nix::unistd::setresuid(FAR.into(), FAR.into(), FAR.into())?;
        let kept = format!("{named:08x}");
        let found = list()?.into_iter().find(|key| key.serial.to_string() == kept);
        let mine = joined(join_new()?)?;
        let uid = list()?.into_iter().find(|key| key.serial == mine).map(|key| key.uid);
        Ok(format!("{:?} {uid:?}", found.map(|key| key.description)))
    });
    assert_eq!(subject.word(), "Some(\"a\u{fffd}\") Some(4000000000)");
}

/// As [`join_named`], with any bytes.
fn join_raw(name: &std::ffi::CStr) -> nix::Result<i64> {
    // SAFETY: a string that ends in 0 and lives until the call returns.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr())
    })
}
