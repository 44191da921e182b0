//! Copy-up: what the copy has of the original.

mod union_stack;

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use ch05_layers::union::xattr;
use nix::errno::Errno;
use union_stack::Stack;

/// A time with nanoseconds, a year ago.
fn long_ago() -> SystemTime {
    SystemTime::now() - Duration::new(365 * 86400, 123_456_789)
}

fn set_modified(path: &Path, time: SystemTime) {
    File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_copy_up_keeps_content_mode_and_times_and_leaves_the_original_alone() {
    let stack = Stack::new(2);
    stack.put(1, "etc/shadow", "secret");
    fs::set_permissions(stack.path(1, "etc/shadow"), fs::Permissions::from_mode(0o4750)).unwrap();
    set_modified(&stack.path(1, "etc/shadow"), long_ago());
    let before = stack.untouchable();
    stack.copy_up("etc/shadow").unwrap();
    let [copy, original] = [0, 1].map(|branch| stack.path(branch, "etc/shadow").metadata().unwrap());
    assert_eq!(stack.untouchable(), before);
    assert_eq!(stack.read("etc/shadow").unwrap(), "secret");
    assert_eq!(copy.mode(), original.mode());
    assert_eq!(copy.modified().unwrap(), original.modified().unwrap());
    assert_eq!(copy.accessed().unwrap(), original.accessed().unwrap());
    assert_eq!((copy.uid(), copy.gid()), (original.uid(), original.gid()));
}

#[test]
fn a_copy_up_keeps_the_owner() {
    testing::needs!(Root);
    let stack = Stack::new(2);
    stack.put(1, "d/f", "");
    symlink("f", stack.path(1, "d/link")).unwrap();
    for (path, user) in [("d", 1001), ("d/f", 1002), ("d/link", 1003)] {
        std::os::unix::fs::lchown(stack.path(1, path), Some(user), Some(user + 1000)).unwrap();
    }
    fs::set_permissions(stack.path(1, "d/f"), fs::Permissions::from_mode(0o6755)).unwrap();
    for path in ["d/f", "d/link"] {
        stack.copy_up(path).unwrap();
    }
    for (path, user) in [("d", 1001), ("d/f", 1002), ("d/link", 1003)] {
        let status = stack.path(0, path).symlink_metadata().unwrap();
        assert_eq!((status.uid(), status.gid()), (user, user + 1000), "{path}");
    }
    assert_eq!(stack.path(0, "d/f").metadata().unwrap().mode() & 0o7777, 0o6755);
}

#[test]
fn the_directories_above_come_up_with_their_mode_and_times_and_nothing_in_them() {
    let stack = Stack::new(2);
    stack.put(1, "a/b/f", "");
    stack.put(1, "a/b/other", "");
    fs::set_permissions(stack.path(1, "a/b"), fs::Permissions::from_mode(0o1775)).unwrap();
    for directory in ["a/b", "a", ""] {
        set_modified(&stack.path(1, directory), long_ago());
        if directory.is_empty() {
            set_modified(&stack.path(0, directory), long_ago());
        }
    }
    let top = stack.path(0, "").metadata().unwrap().modified().unwrap();
    stack.copy_up("a/b/f").unwrap();
    assert_eq!(stack.top(), ["a", "a/b", "a/b/f"]);
    for directory in ["a", "a/b"] {
        let [copy, original] = [0, 1].map(|branch| stack.path(branch, directory).metadata().unwrap());
        assert_eq!(copy.mode(), original.mode());
        assert_eq!(copy.modified().unwrap(), original.modified().unwrap(), "{directory}");
    }
    assert_eq!(
        stack.path(0, "").metadata().unwrap().modified().unwrap(),
        top,
        "nothing changed that one can see"
    );
    assert_eq!(stack.names("a/b").unwrap(), ["f", "other"]);
}

#[test]
fn holes_stay_holes() {
    let stack = Stack::new(2);
    stack.put(1, "sparse", "");
    let file = File::options().write(true).open(stack.path(1, "sparse")).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 64 << 20).unwrap();
    file.set_len(256 << 20).unwrap();
    stack.copy_up("sparse").unwrap();
    let copy = File::open(stack.path(0, "sparse")).unwrap();
    let status = copy.metadata().unwrap();
    assert_eq!(status.len(), 256 << 20);
    assert!(status.blocks() * 512 < 1 << 20, "{} bytes on the disk", status.blocks() * 512);
    let mut text = [0; 8];
    copy.read_exact_at(&mut text, (64 << 20) - 1).unwrap();
    assert_eq!(&text, b"\0middle\0");
}

#[test]
fn a_big_file_is_copied_to_the_last_byte() {
    let stack = Stack::new(2);
    let content: Vec<u8> = (0..3_000_001u32).map(|number| (number % 251) as u8).collect();
    stack.put(1, "big", "");
    fs::write(stack.path(1, "big"), &content).unwrap();
    stack.copy_up("big").unwrap();
    assert!(fs::read(stack.path(0, "big")).unwrap() == content);
}

#[test]
fn of_a_file_that_is_about_to_be_truncated_only_the_rest_is_copied() {
    let stack = Stack::new(2);
    stack.put(1, "log", "0123456789");
    let root = stack.union.raise(Path::new("")).unwrap();
    stack.union.prepare(1, Path::new("log"), Some(4)).unwrap().install(&root, OsStr::new("log")).unwrap();
    assert_eq!(stack.read("log").unwrap(), "0123");
}

#[test]
fn a_copy_that_is_not_installed_leaves_nothing() {
    let stack = Stack::new(2);
    stack.put(1, "f", "");
    stack.put(1, "d/f", "");
    for path in ["f", "d"] {
        let prepared = stack.union.prepare(1, Path::new(path), None).unwrap();
        assert_eq!(fs::read_dir(stack.path(0, ".wh..wh.work")).unwrap().count(), 1);
        assert_eq!(stack.top(), [""; 0], "nobody sees it");
        drop(prepared);
        assert_eq!(fs::read_dir(stack.path(0, ".wh..wh.work")).unwrap().count(), 0);
    }
}

#[test]
fn a_copy_never_replaces_what_the_top_branch_has_by_now() {
    let stack = Stack::new(2);
    stack.put(1, "f", "lower");
    let root = stack.union.raise(Path::new("")).unwrap();
    let prepared = stack.union.prepare(1, Path::new("f"), None).unwrap();
    stack.put(0, "f", "newer");
    assert_eq!(prepared.install(&root, OsStr::new("f")), Err(Errno::EEXIST));
    assert_eq!(stack.read("f").unwrap(), "newer");
    assert_eq!(fs::read_dir(stack.path(0, ".wh..wh.work")).unwrap().count(), 0);
}

#[test]
fn extended_attributes_come_up_and_overlayfs_s_own_marks_do_not() {
    let stack = Stack::new(2);
    stack.put(1, "f", "");
    stack.put_directory(1, "d");
    let big = vec![7; 3000];
    let attributes: [(&CStr, &[u8]); 4] =
        [(c"user.note", b"hello"), (c"user.empty", b""), (c"user.big", &big), (c"user.overlay.opaque", b"y")];
    for path in ["f", "d"] {
        let original = File::open(stack.path(1, path)).unwrap();
        for (name, value) in attributes {
            if let Err(errno) = xattr::set(&original, name, value, 0) {
                panic!(
                    "{name:?}: {errno}: the file system of the temporary directory has no extended attributes"
                );
            }
        }
        stack.copy_up(path).unwrap();
        let copy = File::open(stack.path(0, path)).unwrap();
        for (name, value) in &attributes[..3] {
            assert_eq!(xattr::get(&copy, name).unwrap(), *value, "{name:?}");
        }
        assert_eq!(xattr::get(&copy, c"user.overlay.opaque"), Err(Errno::ENODATA));
    }
}

#[test]
fn capabilities_and_trusted_attributes_come_up_and_an_access_list_too() {
    testing::needs!(Root);
    let stack = Stack::new(2);
    stack.put(1, "ping", "");
    let original = File::open(stack.path(1, "ping")).unwrap();
    // Version 2, effective, CAP_NET_RAW permitted: see capabilities(7).
    let capability: Vec<u8> =
        [0x0200_0001u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    // Version 2, then tag, permissions, id: user::rw-, user:77:r--, group::r--, mask::r--, other::---.
    let entries: [(u16, u16, u32); 5] = [(1, 6, !0), (2, 4, 77), (4, 4, !0), (16, 4, !0), (32, 0, !0)];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend(tag.to_le_bytes().into_iter().chain(permissions.to_le_bytes()).chain(id.to_le_bytes()));
    }
    let attributes: [(&CStr, &[u8]); 3] = [
        (c"security.capability", &capability),
        (c"system.posix_acl_access", &list),
        (c"trusted.note", b"root's"),
    ];
    for (name, value) in attributes {
        xattr::set(&original, name, value, 0).unwrap();
    }
    std::os::unix::fs::chown(stack.path(1, "ping"), Some(1), Some(1)).unwrap();
    xattr::set(&original, c"security.capability", &capability, 0).unwrap();
    stack.copy_up("ping").unwrap();
    let copy = File::open(stack.path(0, "ping")).unwrap();
    for (name, value) in attributes {
        assert_eq!(xattr::get(&copy, name).unwrap(), value, "{name:?}");
    }
    assert_eq!(copy.metadata().unwrap().mode() & 0o7777, 0o640);
}

/// Who may not write to a file may not set an attribute of it: not even its owner, unless that is root.
#[test]
fn a_plain_user_s_read_only_file_comes_up_with_its_attributes() {
    let as_plain_user = || {
        // To a file system, this thread is another user's, without root's capabilities.
        if nix::unistd::geteuid().is_root() {
            nix::unistd::setfsgid(1234.into());
            nix::unistd::setfsuid(1234.into());
        }
        let stack = Stack::new(2);
        stack.put(1, "f", "");
        let file = File::open(stack.path(1, "f")).unwrap();
        xattr::set(&file, c"user.note", b"kept", 0).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o444)).unwrap();
        stack.copy_up("f").unwrap();
        let copy = File::open(stack.path(0, "f")).unwrap();
        assert_eq!(xattr::get(&copy, c"user.note").unwrap(), b"kept");
        assert_eq!(copy.metadata().unwrap().mode() & 0o777, 0o444);
    };
    std::thread::spawn(as_plain_user).join().unwrap();
}

/// The work directory is made in the top branch's root, and must not pass on what that one passes on.
#[test]
fn a_copy_inherits_nothing_from_the_root_of_the_top_branch() {
    testing::needs!(Root);
    let stack = Stack::new(2);
    stack.put(1, "f", "");
    std::os::unix::fs::chown(stack.path(0, ""), None, Some(4321)).unwrap();
    fs::set_permissions(stack.path(0, ""), fs::Permissions::from_mode(0o2775)).unwrap();
    let entries: [(u16, u16, u32); 5] = [(1, 7, !0), (2, 7, 77), (4, 5, !0), (16, 7, !0), (32, 5, !0)];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend(tag.to_le_bytes().into_iter().chain(permissions.to_le_bytes()).chain(id.to_le_bytes()));
    }
    xattr::set(File::open(stack.path(0, "")).unwrap(), c"system.posix_acl_default", &list, 0).unwrap();
    stack.copy_up("f").unwrap();
    let [copy, original] = [0, 1].map(|branch| stack.path(branch, "f"));
    let names = xattr::list(File::open(&copy).unwrap()).unwrap();
    assert!(!names.windows(9).any(|name| name == b"posix_acl"), "{}", String::from_utf8_lossy(&names));
    assert_eq!(copy.metadata().unwrap().gid(), original.metadata().unwrap().gid());
}

#[test]
fn symlinks_fifos_and_sockets_come_up_as_what_they_are() {
    let stack = Stack::new(2);
    symlink("/nowhere", stack.path(1, "link")).unwrap();
    nix::unistd::mkfifo(&stack.path(1, "fifo"), nix::sys::stat::Mode::from_bits_truncate(0o640)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(stack.path(1, "socket")).unwrap();
    for name in ["link", "fifo", "socket"] {
        stack.copy_up(name).unwrap();
        let [copy, original] = [0, 1].map(|branch| stack.path(branch, name).symlink_metadata().unwrap());
        assert_eq!(
            (copy.mode(), copy.modified().unwrap()),
            (original.mode(), original.modified().unwrap()),
            "{name}"
        );
    }
    assert_eq!(fs::read_link(stack.path(0, "link")).unwrap(), Path::new("/nowhere"));
}

#[test]
fn a_device_comes_up_with_its_number() {
    testing::needs!(Root);
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let stack = Stack::new(2);
    mknod(&stack.path(1, "null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3)).unwrap();
    stack.copy_up("null").unwrap();
    let status = stack.path(0, "null").metadata().unwrap();
    assert_eq!((status.rdev(), status.mode() & libc::S_IFMT), (makedev(1, 3), libc::S_IFCHR));
}
