//! Inode numbers.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirEntryExt, MetadataExt, PermissionsExt};
use std::path::Path;

use testing::needs;

use crate::mounted::{Mounted, drop_caches, in_both_ways, write};

fn branches(directory: &Path) {
    for branch in ["lower", "middle"] {
        for number in 0..30 {
            write(directory.join(format!("{branch}/d/{branch}{number}")), "x");
        }
    }
    fs::hard_link(directory.join("lower/d/lower0"), directory.join("lower/link")).unwrap();
}

fn number(path: impl AsRef<Path>) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

fn numbers(union: &Mounted) -> HashMap<String, u64> {
    let mut numbers =
        HashMap::from([("/".into(), number(union.root())), ("d".into(), number(union.path("d")))]);
    for name in crate::mounted::names(union.path("d")) {
        numbers.insert(name.clone(), number(union.path("d").join(name)));
    }
    numbers.insert("link".into(), number(union.path("link")));
    numbers
}

#[test]
fn they_are_the_same_after_the_kernel_has_forgotten_the_nodes_and_after_a_copy_up() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        let before = numbers(union);
        drop_caches();
        assert_eq!(numbers(union), before);
        for name in ["d/lower1", "d/lower0", "d/middle1"] {
            OpenOptions::new().append(true).open(union.path(name)).unwrap();
            fs::set_permissions(union.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::rename(union.path("d/lower2"), union.path("d/renamed")).unwrap();
        fs::rename(union.path("d/renamed"), union.path("d/lower2")).unwrap();
        assert!(union.top("d/lower0").exists());
        assert_eq!(numbers(union), before);
        drop_caches();
        assert_eq!(numbers(union), before);
    });
}

#[test]
fn no_two_files_have_one_and_two_names_of_a_lower_file_are_two_files() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        let numbers = numbers(union);
        let mut once: Vec<u64> = numbers.values().copied().collect();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), numbers.len());
        assert_eq!(fs::metadata(union.path("link")).unwrap().nlink(), 1);
        write(union.path("link"), "changed");
        assert_eq!(crate::mounted::read(union.path("d/lower0")), "x");
    });
}

#[test]
fn readdir_gives_the_numbers_that_stat_gives() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        for _ in 0..3 {
            for directory in [union.root(), union.path("d")] {
                for entry in fs::read_dir(&directory).unwrap() {
                    let entry = entry.unwrap();
                    assert_eq!(entry.ino(), number(entry.path()), "{entry:?}");
                }
            }
            write(union.path("d/another"), "");
            drop_caches();
        }
    });
}

#[test]
fn a_new_file_never_gets_the_number_of_a_deleted_one() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        let mut seen = Vec::new();
        for round in 0..20 {
            write(union.path("f"), &round.to_string());
            assert_eq!(crate::mounted::read(union.path("f")), round.to_string());
            seen.push(number(union.path("f")));
            fs::remove_file(union.path("f")).unwrap();
        }
        let rounds = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), rounds);
    });
}
