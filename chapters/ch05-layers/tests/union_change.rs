//! Making and deleting: what is written to the top branch, and that nothing else is.

mod union_stack;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use ch05_layers::union::Make;
use ch05_layers::{Branch, Mode, Union};
use nix::errno::Errno;
use union_stack::Stack;

#[test]
fn a_deletion_of_a_lower_file_is_a_whiteout_in_the_top_branch() {
    let stack = Stack::new(2);
    stack.put(1, "etc/motd", "lower");
    let before = stack.untouchable();
    stack.remove("etc/motd").unwrap();
    assert_eq!(stack.names("etc").unwrap(), [""; 0]);
    let whiteout = stack.path(0, "etc/.wh.motd").metadata().unwrap();
    assert!(whiteout.is_file() && whiteout.len() == 0);
    assert_eq!(stack.untouchable(), before);
    assert_eq!(stack.remove("etc/motd"), Err(Errno::ENOENT));
}

#[test]
fn a_deletion_of_a_file_of_the_top_branch_alone_leaves_no_whiteout() {
    let stack = Stack::new(2);
    stack.put(0, "etc/new", "");
    stack.put_directory(1, "etc");
    stack.remove("etc/new").unwrap();
    assert_eq!(stack.top(), ["etc"]);
}

#[test]
fn a_deletion_of_a_file_that_both_have_removes_the_one_and_hides_the_other() {
    let stack = Stack::new(2);
    stack.put(0, "f", "upper");
    stack.put(1, "f", "lower");
    stack.remove("f").unwrap();
    assert_eq!(stack.top(), [".wh.f"]);
    assert_eq!(stack.read("f"), Err(Errno::ENOENT));
}

#[test]
fn what_a_middle_branch_has_deleted_needs_no_whiteout() {
    let stack = Stack::new(3);
    stack.put(0, "f", "");
    stack.put(1, ".wh.f", "");
    stack.put(2, "f", "");
    stack.remove("f").unwrap();
    assert_eq!(stack.top(), [""; 0]);
    assert_eq!(stack.read("f"), Err(Errno::ENOENT));
}

#[test]
fn a_file_made_over_a_deleted_one_takes_its_whiteout_away() {
    let stack = Stack::new(2);
    stack.put(1, "f", "lower");
    stack.remove("f").unwrap();
    stack.create("f").unwrap();
    assert_eq!(stack.top(), ["f"]);
    assert_eq!(stack.read("f").unwrap(), "");
}

#[test]
fn a_directory_made_over_a_deleted_one_is_opaque() {
    let stack = Stack::new(2);
    stack.put(1, "d/lower", "");
    let before = stack.untouchable();
    stack.remove("d/lower").unwrap();
    stack.rmdir("d").unwrap();
    assert_eq!(stack.top(), [".wh.d"]);
    stack.mkdir("d").unwrap();
    assert_eq!(stack.top(), ["d", "d/.wh..wh..opq"]);
    assert_eq!(stack.names("d").unwrap(), [""; 0]);
    stack.create("d/lower").unwrap();
    stack.remove("d/lower").unwrap();
    assert_eq!(stack.top(), ["d", "d/.wh..wh..opq"], "an opaque directory needs no whiteouts");
    assert_eq!(stack.untouchable(), before);
}

#[test]
fn a_directory_made_where_there_was_none_is_not_opaque() {
    let stack = Stack::new(2);
    stack.mkdir("d").unwrap();
    assert_eq!(stack.top(), ["d"]);
}

#[test]
fn a_directory_that_the_union_shows_empty_can_be_removed_with_its_whiteouts() {
    let stack = Stack::new(2);
    stack.put(1, "d/one", "");
    stack.put(1, "d/two", "");
    stack.put(0, "d/three", "");
    for name in ["one", "two"] {
        assert_eq!(stack.rmdir("d"), Err(Errno::ENOTEMPTY));
        stack.remove(&format!("d/{name}")).unwrap();
    }
    assert_eq!(stack.rmdir("d"), Err(Errno::ENOTEMPTY));
    stack.remove("d/three").unwrap();
    assert_eq!(stack.top(), ["d", "d/.wh.one", "d/.wh.two"]);
    stack.rmdir("d").unwrap();
    assert_eq!(stack.top(), [".wh.d"]);
}

#[test]
fn unlink_refuses_directories_and_rmdir_refuses_files() {
    let stack = Stack::new(2);
    stack.put(1, "d/f", "");
    assert_eq!(stack.remove("d"), Err(Errno::EISDIR));
    assert_eq!(stack.rmdir("d/f"), Err(Errno::ENOTDIR));
    assert_eq!(stack.rmdir("none"), Err(Errno::ENOENT));
}

#[test]
fn a_name_that_any_branch_shows_can_t_be_made_again() {
    let stack = Stack::new(2);
    stack.put(1, "f", "");
    for what in [Make::Directory, Make::Symlink("target".into())] {
        assert_eq!(stack.make("f", &what, 0o755), Err(Errno::EEXIST));
    }
    assert_eq!(stack.create("f"), Err(Errno::EEXIST));
}

#[test]
fn names_of_aufs_s_own_can_be_neither_made_nor_deleted() {
    let stack = Stack::new(2);
    stack.put(0, ".wh.gone", "");
    stack.put(1, "gone", "");
    stack.put(1, "f", "");
    for name in [".wh.gone", ".wh.f", ".wh.", ".wh..", ".wh..wh..opq", ".wh..wh.work"] {
        assert_eq!(stack.create(name), Err(Errno::EPERM), "{name}");
        assert_eq!(stack.link("f", name), Err(Errno::EPERM), "{name}");
        assert_eq!(stack.rename("f", name, 0), Err(Errno::EPERM), "{name}");
        assert_eq!(stack.remove(name), Err(Errno::ENOENT), "{name}");
        assert_eq!(stack.rename(name, "g", 0), Err(Errno::ENOENT), "{name}");
    }
    assert_eq!(stack.top(), [".wh.gone"]);
}

#[test]
fn each_kind_of_object_is_made_as_asked() {
    let stack = Stack::new(2);
    stack.make("link", &Make::Symlink("/nowhere".into()), 0).unwrap();
    stack.make("fifo", &Make::Node(0), libc::S_IFIFO | 0o640).unwrap();
    stack.make("whiteout", &Make::Node(0), libc::S_IFCHR | 0o600).unwrap();
    stack.make("file", &Make::File(nix::fcntl::OFlag::O_RDWR), 0o600).unwrap();
    assert_eq!(fs::read_link(stack.path(0, "link")).unwrap(), Path::new("/nowhere"));
    let mode = |name| stack.path(0, name).metadata().unwrap().mode();
    assert_eq!(mode("fifo"), libc::S_IFIFO | 0o640);
    assert_eq!(mode("whiteout"), libc::S_IFCHR | 0o600);
    assert_eq!(mode("file"), libc::S_IFREG | 0o600);
    assert_eq!(
        stack.names("").unwrap(),
        ["fifo", "file", "link", "whiteout"],
        "overlayfs's whiteout is none here"
    );
}

#[test]
fn what_is_made_in_a_set_group_id_directory_belongs_to_its_group() {
    testing::needs!(Root);
    let stack = Stack::new(1);
    stack.mkdir("d").unwrap();
    std::os::unix::fs::chown(stack.path(0, "d"), None, Some(4321)).unwrap();
    fs::set_permissions(stack.path(0, "d"), fs::Permissions::from_mode(0o2755)).unwrap();
    let (parent, name) = stack.place("d/file").unwrap();
    let owner = ch05_layers::union::Owner { user: 1234, group: 1234 };
    let what = Make::File(nix::fcntl::OFlag::O_WRONLY);
    stack.union.make(&parent, name, &what, 0o4711, owner).unwrap();
    let status = stack.path(0, "d/file").metadata().unwrap();
    assert_eq!((status.uid(), status.gid(), status.mode() & 0o7777), (1234, 4321, 0o4711));
}

#[test]
fn a_union_whose_top_branch_is_ro_refuses_each_change() {
    let stack = Stack::new(2);
    stack.put(1, "f", "");
    let open = |branch| Branch::open(&stack.path(branch, ""), Mode::ReadOnly).unwrap();
    let union = Union::new(vec![open(0), open(1)]).unwrap();
    let root = union.root().unwrap();
    let f = std::ffi::OsStr::new("f");
    assert_eq!(union.remove(&root, f), Err(Errno::EROFS));
    assert_eq!(union.copy_up(&root, f), Err(Errno::EROFS));
    assert_eq!(union.raise(Path::new("")), Err(Errno::EROFS));
    let made = union.make(&root, std::ffi::OsStr::new("g"), &Make::Directory, 0o755, union_stack::myself());
    assert_eq!(made.unwrap_err(), Errno::EROFS);
    assert_eq!(union.rename(&root, f, &root, std::ffi::OsStr::new("g"), 0), Err(Errno::EROFS));
    assert_eq!(stack.top(), [""; 0]);
}

#[test]
fn a_branch_has_one_writer_and_any_number_of_readers() {
    let stack = Stack::new(2);
    stack.put(1, "f", "");
    let mut other = Stack::new(2);
    other.union = Union::new(vec![
        Branch::open(&stack.path(0, ""), Mode::ReadWrite).unwrap(),
        Branch::open(&stack.path(1, ""), Mode::ReadOnly).unwrap(),
    ])
    .unwrap();
    stack.remove("f").unwrap();
    assert_eq!(other.names("").unwrap(), [""; 0]);
    assert_eq!(other.create("g"), Err(Errno::EBUSY));
    drop(stack.union);
    other.claim();
    assert_eq!(other.create("g"), Ok(()));
}

#[test]
fn what_a_crash_left_in_the_work_directory_is_removed_by_the_next_writer() {
    let mut stack = Stack::new(2);
    stack.put(0, ".wh..wh.work/0", "half a copy");
    stack.put(0, ".wh..wh.work/1/.wh.gone", "");
    stack.put(1, "f", "");
    assert_eq!(stack.names("").unwrap(), ["f"]);
    assert!(stack.has(0, ".wh..wh.work/0"), "a reader changes nothing");
    stack.union.claim().unwrap();
    assert!(!stack.has(0, ".wh..wh.work"));
    stack.copy_up("f").unwrap();
    assert!(stack.has(0, ".wh..wh.work"));
    stack.reopen();
    assert!(!stack.has(0, ".wh..wh.work"), "the writer removes its work directory");
}
