//! Hard links, which do not cross branches; symbolic links, through which nothing is set.

mod union_stack;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use ch05_layers::union::{attributes, xattr};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::time::TimeSpec;
use union_stack::Stack;

#[test]
fn a_copy_up_parts_two_names_of_one_lower_file() {
    let stack = Stack::new(2);
    stack.put(1, "one", "same");
    fs::hard_link(stack.path(1, "one"), stack.path(1, "two")).unwrap();
    stack.copy_up("one").unwrap();
    fs::write(stack.path(0, "one"), "changed").unwrap();
    assert_eq!(stack.read("two").unwrap(), "same");
    stack.copy_up("two").unwrap();
    assert_eq!(stack.path(0, "two").metadata().unwrap().nlink(), 1);
}

#[test]
fn a_link_made_in_the_union_is_a_true_one() {
    let stack = Stack::new(2);
    stack.put(1, "lower", "content");
    stack.put(1, "gone", "");
    stack.remove("gone").unwrap();
    let before = stack.untouchable();
    stack.link("lower", "gone").unwrap();
    let status = stack.path(0, "gone").metadata().unwrap();
    assert_eq!((status.nlink(), status.ino()), (2, stack.path(0, "lower").metadata().unwrap().ino()));
    assert_eq!(stack.top(), ["gone", "lower"]);
    assert_eq!(stack.link("lower", "gone"), Err(Errno::EEXIST));
    stack.put_directory(1, "d");
    assert_eq!(stack.link("d", "new"), Err(Errno::EPERM));
    fs::remove_dir(stack.path(1, "d")).unwrap();
    assert_eq!(stack.untouchable().keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
}

#[test]
fn attributes_can_be_set_on_any_object_and_never_through_a_link() {
    let stack = Stack::new(1);
    symlink(stack.outside().join("secret"), stack.path(0, "link")).unwrap();
    stack.put(0, "f", "");
    let before = stack.untouchable();
    let time = |seconds| TimeSpec::new(seconds, 5);
    let link = stack.union.open(0, Path::new("link"), OFlag::O_PATH).unwrap();
    attributes::set_times(&link, time(1), time(2)).unwrap();
    assert_eq!(attributes::set_mode(&link, 0o777), Err(Errno::EOPNOTSUPP));
    let myself = union_stack::myself();
    attributes::set_owner(&link, Some(myself.user), Some(myself.group)).unwrap();
    // The kernel has no user.* for links, and says so: it did not follow it to the file.
    assert_eq!(xattr::set(&link, c"user.note", b"x", 0), Err(Errno::EPERM));
    let status = stack.path(0, "link").symlink_metadata().unwrap();
    assert_eq!((status.atime(), status.mtime(), status.mtime_nsec()), (1, 2, 5));
    assert_eq!(stack.untouchable(), before);

    let file = stack.union.open(0, Path::new("f"), OFlag::O_PATH).unwrap();
    attributes::set_mode(&file, 0o4601).unwrap();
    attributes::set_times(&file, TimeSpec::UTIME_OMIT, time(7)).unwrap();
    let status = stack.path(0, "f").metadata().unwrap();
    assert_eq!((status.mode() & 0o7777, status.mtime()), (0o4601, 7));
    xattr::set(&file, c"user.note", b"x", libc::XATTR_CREATE).unwrap();
    assert_eq!(xattr::set(&file, c"user.note", b"x", libc::XATTR_CREATE), Err(Errno::EEXIST));
    assert_eq!(xattr::list(&file).unwrap(), b"user.note\0");
    xattr::remove(&file, c"user.note").unwrap();
    assert_eq!(xattr::get(&file, c"user.note"), Err(Errno::ENODATA));
}
