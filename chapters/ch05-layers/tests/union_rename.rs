//! Renaming: what is written to the top branch, and that nothing else is.

mod union_stack;

use nix::errno::Errno;
use union_stack::Stack;

#[test]
fn a_renamed_lower_file_leaves_a_whiteout_and_keeps_its_content() {
    let stack = Stack::new(2);
    stack.put(1, "a", "lower");
    let before = stack.untouchable();
    stack.rename("a", "b", 0).unwrap();
    assert_eq!(stack.top(), [".wh.a", "b"]);
    assert_eq!((stack.read("b").unwrap().as_str(), stack.read("a")), ("lower", Err(Errno::ENOENT)));
    stack.rename("b", "a", 0).unwrap();
    assert_eq!(stack.top(), ["a"], "the whiteout goes with a new file of the name, and `b` was never below");
    assert_eq!(stack.untouchable(), before);
}

#[test]
fn a_rename_over_a_lower_file_hides_it() {
    let stack = Stack::new(2);
    stack.put(1, "a", "a");
    stack.put(1, "d/b", "b");
    assert_eq!(stack.rename("a", "d/b", libc::RENAME_NOREPLACE), Err(Errno::EEXIST));
    stack.rename("a", "d/b", 0).unwrap();
    assert_eq!(stack.read("d/b").unwrap(), "a");
    assert_eq!(stack.top(), [".wh.a", "d", "d/b"]);
}

#[test]
fn a_directory_that_a_lower_branch_has_a_part_in_is_another_file_system_to_rename() {
    let stack = Stack::new(2);
    stack.put(0, "both/f", "");
    stack.put(1, "both/g", "");
    stack.put(1, "lower/f", "");
    for name in ["both", "lower"] {
        assert_eq!(stack.rename(name, "new", 0), Err(Errno::EXDEV));
        stack.mkdir("other").unwrap();
        assert_eq!(stack.rename("other", name, libc::RENAME_EXCHANGE), Err(Errno::EXDEV));
        stack.rmdir("other").unwrap();
    }
    assert_eq!(stack.names("").unwrap(), ["both", "lower"]);
}

#[test]
fn an_exchange_that_is_refused_copies_nothing_up() {
    let stack = Stack::new(2);
    stack.put(1, "file", "");
    stack.put(1, "directory/f", "");
    for (name, other) in [("file", "directory"), ("directory", "file")] {
        assert_eq!(stack.rename(name, other, libc::RENAME_EXCHANGE), Err(Errno::EXDEV));
        assert!(stack.top().is_empty(), "{name} and {other}: {:?}", stack.top());
    }
}

#[test]
fn a_directory_moved_to_where_a_lower_one_was_deleted_is_opaque() {
    let stack = Stack::new(2);
    stack.put(1, "old/lower", "");
    stack.remove("old/lower").unwrap();
    stack.rmdir("old").unwrap();
    stack.mkdir("new").unwrap();
    stack.create("new/file").unwrap();
    stack.rename("new", "old", 0).unwrap();
    assert_eq!(stack.names("old").unwrap(), ["file"]);
    assert_eq!(stack.top(), ["old", "old/.wh..wh..opq", "old/file"]);
}

#[test]
fn a_directory_moved_over_one_that_the_union_shows_empty_takes_its_place() {
    let stack = Stack::new(2);
    stack.put(1, "old/lower", "");
    stack.mkdir("new").unwrap();
    stack.create("new/file").unwrap();
    assert_eq!(stack.rename("new", "old", 0), Err(Errno::ENOTEMPTY));
    stack.remove("old/lower").unwrap();
    stack.rename("new", "old", 0).unwrap();
    assert_eq!(stack.names("old").unwrap(), ["file"]);
    assert_eq!(stack.top(), ["old", "old/.wh..wh..opq", "old/file"]);
}

#[test]
fn files_and_directories_do_not_replace_each_other() {
    let stack = Stack::new(2);
    stack.put(1, "f", "");
    stack.put_directory(1, "d");
    stack.mkdir("new").unwrap();
    assert_eq!(stack.rename("f", "d", 0), Err(Errno::EISDIR));
    assert_eq!(stack.rename("new", "f", 0), Err(Errno::ENOTDIR));
    assert_eq!(stack.rename("f", "f", 0), Ok(()));
    assert_eq!(stack.rename("f", "g", libc::RENAME_WHITEOUT), Err(Errno::EINVAL));
}

#[test]
fn an_exchange_swaps_two_names_and_needs_no_whiteout() {
    let stack = Stack::new(2);
    stack.put(1, "a", "was a");
    stack.put(1, "d/b", "was b");
    stack.rename("a", "d/b", libc::RENAME_EXCHANGE).unwrap();
    assert_eq!((stack.read("a").unwrap().as_str(), stack.read("d/b").unwrap().as_str()), ("was b", "was a"));
    assert_eq!(stack.top(), ["a", "d", "d/b"]);
    assert_eq!(stack.rename("a", "none", libc::RENAME_EXCHANGE), Err(Errno::ENOENT));
}

#[test]
fn an_exchanged_directory_does_not_merge_with_what_is_below_its_new_place() {
    let stack = Stack::new(2);
    stack.put(1, "f", "a file");
    stack.put(1, "d/lower", "");
    stack.remove("d/lower").unwrap();
    stack.rmdir("d").unwrap();
    stack.mkdir("d").unwrap();
    stack.mkdir("e").unwrap();
    stack.create("e/new").unwrap();
    stack.rename("d", "e", libc::RENAME_EXCHANGE).unwrap();
    assert_eq!(stack.names("d").unwrap(), ["new"]);
    assert_eq!(stack.names("e").unwrap(), [""; 0]);
    stack.rename("f", "e", libc::RENAME_EXCHANGE).unwrap();
    assert_eq!((stack.read("e").unwrap().as_str(), stack.names("f").unwrap().len()), ("a file", 0));
}
