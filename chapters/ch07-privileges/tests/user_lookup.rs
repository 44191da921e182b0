//! Whom a container's files mean by a name. The files are the image's, and may be anything.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ch02_mount::resolve::Root;
use ch07_privileges::user::{User, group, look_up};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use tempfile::TempDir;

fn user(uid: u32, gid: u32, additional_gids: &[u32]) -> User {
    User { uid, gid, additional_gids: additional_gids.into(), umask: None }
}

const PASSWD: &str = "\
# a comment
root:x:0:0:root:/root:/bin/sh
broken
worse:x:zero:0::/:/bin/sh
minus:x:-1:-1::/:/bin/sh
app:x:1000:1001:An App:/srv/app:/bin/sh
1000:x:7:7::/seven:/bin/sh
later:x:1000:9:the same number:/later:
homeless:x:1002:1002
max:x:4294967295:0::/:
";

const GROUP: &str = "\
root:x:0:
wheel:x:10:root,app
audio:x:11:somebody, app
staff:x:1001:
broken:x:
none:x:4294967295:app
last:x:12:app,
";

/// A root file system with these two files.
fn root_with(passwd: &str, group: &str) -> (TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("etc")).unwrap();
    fs::write(directory.path().join("etc/passwd"), passwd).unwrap();
    fs::write(directory.path().join("etc/group"), group).unwrap();
    let root = Root::open(directory.path()).unwrap();
    (directory, root)
}

#[test]
fn a_name_is_looked_up_as_docker_does_it() {
    let (_directory, root) = root_with(PASSWD, GROUP);
    for (text, name, home, found) in [
        ("", Some("root"), "/root", user(0, 0, &[10])),
        ("root", Some("root"), "/root", user(0, 0, &[10])),
        ("app", Some("app"), "/srv/app", user(1000, 1001, &[10, 11, 12])),
        ("1000", Some("app"), "/srv/app", user(1000, 1001, &[10, 11, 12])),
        ("app:wheel", Some("app"), "/srv/app", user(1000, 10, &[])),
        ("app:10", Some("app"), "/srv/app", user(1000, 10, &[])),
        ("app:4000", Some("app"), "/srv/app", user(1000, 4000, &[])),
        ("5000", None, "/", user(5000, 0, &[])),
        ("5000:5001", None, "/", user(5000, 5001, &[])),
        ("homeless", Some("homeless"), "/", user(1002, 1002, &[])),
        ("4294967294", None, "/", user(4_294_967_294, 0, &[])),
    ] {
        let account = look_up(&root, text).unwrap();
        let found = User {
            additional_gids: if text.is_empty() { vec![10] } else { found.additional_gids.clone() },
            ..found
        };
        assert_eq!((account.name.as_deref(), account.home.to_str()), (name, Some(home)), "{text:?}");
        assert_eq!(account.user, found, "{text:?}");
    }
    assert_eq!((group(&root, "audio").unwrap(), group(&root, "4000").unwrap()), (11, 4000));
}

#[test]
fn who_is_not_there_is_refused_by_name() {
    let (_directory, root) = root_with(PASSWD, GROUP);
    for (text, refusal) in [
        ("nobody", r#"the container's /etc/passwd has no user "nobody""#),
        ("-1", r#"the container's /etc/passwd has no user "-1""#),
        ("4294967295", r#"the container's /etc/passwd has no user "4294967295""#),
        // As a number of 64 bits it would end in 0.
        ("4294967296", r#"the container's /etc/passwd has no user "4294967296""#),
        ("+5", r#"the container's /etc/passwd has no user "+5""#),
        // Lines whose numbers are none.
        ("worse", r#"the container's /etc/passwd has no user "worse""#),
        ("minus", r#"the container's /etc/passwd has no user "minus""#),
        ("max", r#"the container's /etc/passwd has no user "max""#),
        ("app:nogroup", r#"the container's /etc/group has no group "nogroup""#),
        ("app:broken", r#"the container's /etc/group has no group "broken""#),
        ("app:-1", r#"the container's /etc/group has no group "-1""#),
    ] {
        let error = look_up(&root, text).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.downcast_ref()), (refusal, Some(&Errno::ENOENT)));
    }
}

#[test]
fn a_root_file_system_needs_none_of_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::open(directory.path()).unwrap();
    assert_eq!(look_up(&root, "").unwrap().user, user(0, 0, &[]));
    assert_eq!(look_up(&root, "33:34").unwrap().user, user(33, 34, &[]));
    assert!(look_up(&root, "www-data").is_err());
    // An image may have anything in the place of a directory.
    fs::write(directory.path().join("etc"), "").unwrap();
    assert_eq!(look_up(&root, "33").unwrap().user, user(33, 0, &[]));
}

#[test]
fn a_file_that_is_none_is_refused_at_once() {
    let (directory, root) = root_with("", "");
    let passwd = directory.path().join("etc/passwd");
    let refused = |what: &str| {
        let start = Instant::now();
        let error = format!("{:#}", look_up(&root, "app").unwrap_err());
        assert!(error.contains(what), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
        fs::remove_file(&passwd).or_else(|_| fs::remove_dir(&passwd)).unwrap();
    };
    fs::remove_file(&passwd).unwrap();
    mkfifo(&passwd, Mode::from_bits_truncate(0o666)).unwrap();
    refused("is no regular file");
    fs::create_dir(&passwd).unwrap();
    refused("is no regular file");
    symlink("passwd", &passwd).unwrap();
    refused("ELOOP");
    // A hole of a terabyte.
    File::create(&passwd).unwrap().set_len(1 << 40).unwrap();
    refused("is larger than 16 MiB");
    if nix::unistd::geteuid().is_root() {
        // /dev/zero never ends.
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&passwd, SFlag::S_IFCHR, mode, makedev(1, 5)).unwrap();
        refused("is no regular file");
    }
}

#[test]
fn what_takes_the_files_place_while_it_is_read_is_not_opened() {
    let (directory, root) = root_with(PASSWD, GROUP);
    let (passwd, other) = (directory.path().join("etc/passwd"), directory.path().join("other"));
    // It stands for a device, which would do something when it is opened.
    mkfifo(&other, Mode::from_bits_truncate(0o666)).unwrap();
    let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
    watch.add_watch(&other, AddWatchFlags::IN_OPEN).unwrap();

    let done = AtomicBool::new(false);
    let [mut files, mut fifos] = [0, 0];
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &passwd, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        for _ in 0..10_000 {
            match look_up(&root, "app") {
                Ok(account) => files += usize::from(account.user.uid == 1000),
                Err(_) => fifos += 1,
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(files > 0 && fifos > 0, "there was no race: {files} times the file, {fifos} times the FIFO");
    let opened = watch.read_events().map_or(0, |events| events.len());
    assert_eq!(opened, 0, "the FIFO was opened");
}

#[test]
fn a_link_leads_nowhere_out_of_the_container() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("passwd"), "app:x:0:0::/:").unwrap();
    let (directory, root) = root_with("", "");
    let passwd = directory.path().join("etc/passwd");
    for target in [
        outside.path().join("passwd"),
        format!("../../../../../../../../..{}/passwd", outside.path().display()).into(),
    ] {
        fs::remove_file(&passwd).unwrap();
        symlink(target, &passwd).unwrap();
        assert!(look_up(&root, "app").unwrap_err().to_string().contains("has no user"));
    }
    // The same link in a container that has such a file is a good one.
    let inside = directory.path().join(outside.path().strip_prefix("/").unwrap());
    fs::create_dir_all(&inside).unwrap();
    fs::write(inside.join("passwd"), "app:x:5:6::/:").unwrap();
    assert_eq!(look_up(&root, "app").unwrap().user, user(5, 6, &[]));
}
