//! `diff`: the lines that `docker diff` prints. The cases are those of moby's own tests
//! (pkg/archive/changes_test.go), and what its users meet.

mod layers_support;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use ch05_layers::layers::diff;
use ch05_layers::overlay::{Form, Marks};
use ch05_layers::{Branch, Mode, Union};
use layers_support::{Sample, in_mount_namespace, make, set_attribute};
use testing::needs;

fn sample() -> Sample {
    Sample::new(Form::Aufs)
}

#[test]
fn a_container_without_changes_has_no_diff() {
    assert_eq!(sample().diff(), [""; 0]);
}

#[test]
fn added_changed_and_deleted_files_are_listed_with_the_directories_above_them() {
    let sample = sample();
    let change = sample.change();
    change.write("dir1/file1", "changed");
    change.remove("dir1/file2");
    change.write("dir1/sub/new", "new");
    assert_eq!(
        sample.diff(),
        ["C /dir1", "C /dir1/file1", "D /dir1/file2", "C /dir1/sub", "A /dir1/sub/new"]
    );
}

/// What `TestChangesDirsMutated` does to a tree, and the lines that it expects.
const MUTATED: [&str; 13] = [
    "D /dir1",
    "C /dir2",
    "A /dirnew",
    "C /etc",
    "D /etc/motd",
    "D /file1",
    "C /file2",
    "C /file3",
    "C /file4",
    "C /file5",
    "A /filenew",
    "C /link2",
    "A /linknew",
];

#[test]
fn a_mutated_tree_has_the_lines_of_docker_s_own_test() {
    let sample = sample();
    let change = sample.change();
    change.remove("file1");
    change.remove_all("dir1");
    change.write("file2", "fileNN\n");
    change.remove("file3");
    change.write("file3", "fileMM\n");
    let touched = File::open(change.copy_up("file4")).unwrap();
    touched.set_modified(SystemTime::now() + Duration::from_secs(1)).unwrap();
    change.remove("file5");
    change.make_directory("file5");
    change.write("filenew", "filenew\n");
    change.make_directory("dirnew");
    change.symlink("linknew", "targetnew");
    change.remove("link2");
    change.symlink("link2", "target2change");
    change.remove_all("dir2");
    change.write("dir2", "dir2\n");
    change.remove("etc/motd");
    assert_eq!(sample.diff(), MUTATED);
}

#[test]
fn overlayfs_s_marks_give_the_same_lines() {
    needs!(Root);
    in_mount_namespace(|| {
        let sample = Sample::new(Form::Overlay(Marks::Trusted));
        let place = sample.mount("one");
        assert!(!place.join("gone").exists() && !place.join(".wh.gone").exists());
        let at = |path: &str| place.join(path);
        fs::remove_file(at("file1")).unwrap();
        fs::remove_dir_all(at("dir1")).unwrap();
        fs::write(at("file2"), "fileNN\n").unwrap();
        fs::remove_file(at("file3")).unwrap();
        fs::write(at("file3"), "fileMM\n").unwrap();
        File::options().write(true).open(at("file4")).unwrap().set_modified(SystemTime::now()).unwrap();
        fs::remove_file(at("file5")).unwrap();
        fs::create_dir(at("file5")).unwrap();
        fs::write(at("filenew"), "filenew\n").unwrap();
        fs::create_dir(at("dirnew")).unwrap();
        symlink("targetnew", at("linknew")).unwrap();
        fs::remove_file(at("link2")).unwrap();
        symlink("target2change", at("link2")).unwrap();
        fs::remove_dir_all(at("dir2")).unwrap();
        fs::write(at("dir2"), "dir2\n").unwrap();
        fs::remove_file(at("etc/motd")).unwrap();
        // An init file, changed: not listed.
        fs::write(at("etc/hosts"), "127.0.0.1 one\n").unwrap();
        assert_eq!(sample.diff(), MUTATED);
        // A directory made anew.
        fs::create_dir(at("dir1")).unwrap();
        fs::write(at("dir1/file1"), "another").unwrap();
        let again = ["C /dir1", "C /dir1/file1", "D /dir1/file2", "D /dir1/sub"];
        assert_eq!(sample.diff()[..4], again);
        assert!(sample.layers.remove("one").is_err(), "it is still mounted");
    });
}

#[test]
fn a_directory_that_was_made_anew_shows_what_it_no_longer_has() {
    let sample = sample();
    let change = sample.change();
    change.remove_all("dir1");
    change.make_directory("dir1");
    change.write("dir1/file1", "another");
    change.write("dir1/more", "");
    assert!(sample.path("one", "dir1/.wh..wh..opq").exists());
    assert_eq!(sample.diff(), ["C /dir1", "C /dir1/file1", "D /dir1/file2", "A /dir1/more", "D /dir1/sub"]);
}

#[test]
fn a_deleted_directory_is_one_line() {
    let sample = sample();
    sample.change().remove_all("dir1");
    assert_eq!(sample.diff(), ["D /dir1"]);
}

#[test]
fn a_file_that_was_added_and_deleted_is_no_change() {
    let sample = sample();
    let change = sample.change();
    change.write("new", "");
    change.remove("new");
    assert_eq!(sample.diff(), [""; 0]);
}

#[test]
fn a_file_that_a_layer_of_the_image_deletes_is_new_when_it_is_made_again() {
    let sample = sample();
    sample.change().write("gone", "back");
    assert_eq!(sample.diff(), ["A /gone"]);
}

#[test]
fn a_copy_that_differs_in_nothing_is_no_change_and_one_in_mode_or_attributes_is() {
    let sample = sample();
    let change = sample.change();
    change.copy_up("file1");
    change.copy_up("dir2/file1");
    assert_eq!(sample.diff(), [""; 0]);
    fs::set_permissions(change.copy_up("file2"), fs::Permissions::from_mode(0o4755)).unwrap();
    set_attribute(&change.copy_up("dir1"), "user.note", b"1");
    fs::set_permissions(change.copy_up("dir2"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(sample.diff(), ["C /dir1", "C /dir2", "C /file2"]);
}

#[test]
fn init_files_are_left_out_though_changed_replaced_or_deleted() {
    let sample = sample();
    let change = sample.change();
    change.write("etc/hosts", "127.0.0.1 one\n");
    change.remove("etc/hostname");
    change.remove("etc/resolv.conf");
    change.make_directory("etc/resolv.conf");
    change.write("etc/resolv.conf/file", "");
    change.remove(".dockerenv");
    assert!(sample.path("one", "etc/hosts").exists() && sample.path("one", ".wh..dockerenv").exists());
    assert_eq!(sample.diff(), [""; 0]);
    change.write("etc/passwd", "root and one\n");
    change.write("dev/file", "");
    assert_eq!(sample.diff(), ["C /dev", "A /dev/file", "C /etc", "C /etc/passwd"]);
}

#[test]
fn the_lines_stand_in_the_order_of_a_walk() {
    let sample = sample();
    let change = sample.change();
    change.write("dir1.txt", "");
    change.write("dir1/zeta", "");
    change.remove("dir1/file1");
    change.write("dir1/alpha", "");
    // By bytes alone, "/dir1.txt" would stand before "/dir1/alpha".
    assert_eq!(sample.diff(), ["C /dir1", "A /dir1/alpha", "D /dir1/file1", "A /dir1/zeta", "A /dir1.txt"]);
}

#[test]
fn a_file_beside_its_own_whiteout_replaces_what_is_below() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    make(&at("top"), &["dir/new=", ".wh.dir=", "file=", ".wh.file=", ".wh.nothing="]);
    make(&at("bottom"), &["dir/old=", "file=1"]);
    let open = |name: &str, mode| Branch::open(&at(name), mode).unwrap();
    let union = Union::new(vec![open("top", Mode::ReadWrite), open("bottom", Mode::ReadOnly)]).unwrap();
    let lines: Vec<String> = diff(&union, Form::Aufs).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["C /dir", "A /dir/new", "D /dir/old", "C /file"]);
}

#[test]
fn a_stack_without_a_store_has_a_diff_too_and_a_single_branch_is_all_new() {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path(), &["dir/file="]);
    let branch = Branch::open(directory.path(), Mode::ReadOnly).unwrap();
    let changes = diff(&Union::new(vec![branch]).unwrap(), Form::Aufs).unwrap();
    assert_eq!(changes[1].path, Path::new("/dir/file"));
    assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["A /dir", "A /dir/file"]);
}
