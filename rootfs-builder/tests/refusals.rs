//! Claims about where a root file system is built, and where not.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use common::{build, builder, expect_code, expect_error, names, shared_directory};
use testing::{PlainUser, needs};

#[test]
fn a_second_build_changes_nothing() {
    let directory = shared_directory();
    let root = directory.path().join("root");
    expect_code(&build("host", &root).run(), 0);
    let before = fs::metadata(&root).unwrap();
    let second = build("auto", &root).run();
    expect_code(&second, 0);
    assert_eq!(second.stdout, format!("{}\n", root.display()));
    assert!(second.stderr.contains("already there"), "{second:?}");
    let after = fs::metadata(&root).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
}

#[test]
fn an_empty_directory_and_a_link_to_one_are_used() {
    let directory = shared_directory();
    fs::create_dir(directory.path().join("empty")).unwrap();
    symlink("empty", directory.path().join("link")).unwrap();
    expect_code(&build("host", &directory.path().join("link")).run(), 0);
    assert!(directory.path().join("empty/bin/sh").exists());
    assert_eq!(names(directory.path()), ["empty", "link"]);
}

#[test]
fn a_relative_name_is_built_in_the_working_directory() {
    let directory = shared_directory();
    expect_code(&build("host", Path::new("root")).current_dir(directory.path()).run(), 0);
    assert!(directory.path().join("root/etc/passwd").exists());
}

#[test]
fn a_directory_with_files_is_not_touched() {
    let directory = shared_directory();
    let precious = directory.path().join("home");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("thesis"), "long work").unwrap();
    expect_error(&build("host", &precious).run(), &["home\" is not empty"]);
    assert_eq!(fs::read_to_string(precious.join("thesis")).unwrap(), "long work");
    assert_eq!(names(directory.path()), ["home"]);
}

#[test]
fn a_root_from_another_source_is_not_replaced() {
    needs!(Tool("busybox"));
    let directory = shared_directory();
    let root = directory.path().join("root");
    expect_code(&build("host", &root).run(), 0);
    expect_error(&build("busybox", &root).run(), &["from host, not from busybox"]);
}

#[test]
fn a_root_that_lost_its_shell_is_named_and_kept() {
    let directory = shared_directory();
    let root = directory.path().join("root");
    expect_code(&build("host", &root).run(), 0);
    fs::remove_file(fs::canonicalize(root.join("bin")).unwrap().join("sh")).unwrap();
    expect_error(&build("host", &root).run(), &["lost its /bin/sh"]);
    assert!(root.join("etc/passwd").exists());
}

#[test]
fn a_file_is_no_place_for_a_root() {
    let directory = shared_directory();
    let file = directory.path().join("file");
    fs::write(&file, "text").unwrap();
    expect_error(&build("host", &file).run(), &["file\": Not a directory (ENOTDIR)"]);
    expect_error(&build("host", &file.join("below")).run(), &["Not a directory (ENOTDIR)"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "text");
}

#[test]
fn a_missing_parent_directory_is_named() {
    let directory = shared_directory();
    let root = directory.path().join("missing/root");
    expect_error(&build("host", &root).run(), &["missing\": No such file or directory (ENOENT)"]);
    assert_eq!(names(directory.path()), [""; 0]);
}

#[test]
fn a_link_to_nowhere_and_the_hosts_root_are_refused() {
    let directory = shared_directory();
    symlink("nowhere", directory.path().join("link")).unwrap();
    expect_error(&build("host", &directory.path().join("link")).run(), &["leads nowhere"]);
    expect_error(&build("host", Path::new("/")).run(), &["/ is the host's own root"]);
}

#[test]
fn what_a_plain_user_may_not_read_or_write_is_named() {
    needs!(Root, PlainUser);
    let directory = shared_directory();
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    let permission = "Permission denied (EACCES)";
    let inside = build("host", &closed.join("root")).as_plain_user().run();
    expect_error(&inside, &["closed", permission]);
    expect_error(&build("host", &closed).as_plain_user().run(), &["closed", permission]);
    expect_error(&build("host", &directory.path().join("root")).as_plain_user().run(), &[permission]);
    expect_error(&builder().arg("check").arg(&closed).as_plain_user().run(), &["closed\"", permission]);
    assert_eq!(names(directory.path()), ["closed"]);
}

#[test]
fn an_unknown_source_is_named() {
    let output = build("ubuntu", Path::new("/nonexistent")).run();
    expect_code(&output, 2);
    assert!(output.stderr.contains("\"ubuntu\" is no source"), "{output:?}");
}

#[test]
fn the_default_place_is_found_by_cargos_tag_and_listed() {
    // A copy of the program, in what looks like a target directory.
    let target = shared_directory();
    let program = target.path().join("debug/rootfs-builder");
    fs::create_dir(target.path().join("debug")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_rootfs-builder"), &program).unwrap();
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n# ... created by cargo.\n";
    fs::write(target.path().join("CACHEDIR.TAG"), tag).unwrap();
    let root = target.path().join("rootfs/host");
    let program = testing::Program::new(&program).env("HOME", target.path());
    let built = program.clone().args(["build", "--from", "host"]).run();
    expect_code(&built, 0);
    assert_eq!(built.stdout, format!("{}\n", root.display()));
    let list = program.arg("list").run();
    expect_code(&list, 0);
    let words: Vec<_> = list.stdout.split_whitespace().collect();
    assert_eq!((words[0], words[2], words[3]), ("host", "MiB", root.to_str().unwrap()));
    assert_eq!(list.stdout.lines().count(), 1);
}

#[test]
fn without_a_target_directory_the_users_cache_is_the_place() {
    needs!(PlainUser);
    let home = testing::plain_user_directory();
    let cache = home.path().join("cache");
    let program = home.path().join("rootfs-builder");
    fs::copy(env!("CARGO_BIN_EXE_rootfs-builder"), &program).unwrap();
    // Through env(1), since XDG_CACHE_HOME is one of the variables that a plain user gets anew.
    let output = testing::Program::new("env")
        .arg(format!("XDG_CACHE_HOME={}", cache.display()))
        .arg(&program)
        .args(["build", "--from", "host"])
        .as_plain_user()
        .run();
    expect_code(&output, 0);
    let root = cache.join("hull/rootfs/host");
    assert_eq!(output.stdout, format!("{}\n", root.display()));
    assert_eq!(fs::metadata(&root).unwrap().uid(), PlainUser::get().uid.as_raw());
}
