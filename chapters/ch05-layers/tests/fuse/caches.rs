//! What the kernel keeps is right after a change, and is kept as long as there is none.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use testing::{Program, needs};

use crate::mounted::{Mounted, drop_caches, in_both_ways, read, write};

fn branches(directory: &Path) {
    write(directory.join("lower/d/f"), "content");
    write(directory.join("middle/d/g"), "other");
}

/// The attributes as the kernel shows them now, and as it is told when it has forgotten all.
#[track_caller]
fn assert_fresh(union: &Mounted, name: &str) {
    let seen = |path: &Path| {
        let seen = fs::symlink_metadata(path).unwrap();
        let times = (seen.mtime(), seen.mtime_nsec(), seen.ctime(), seen.ctime_nsec());
        (seen.ino(), seen.mode(), seen.nlink(), seen.uid(), seen.gid(), seen.len(), times, seen.blocks())
    };
    let kept = seen(&union.path(name));
    drop_caches();
    assert_eq!(kept, seen(&union.path(name)), "{name}: what was kept, and what is true");
}

#[test]
fn attributes_are_right_after_each_kind_of_change() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        let f = union.path("d/f");
        let changes: [(&str, &dyn Fn()); 12] = [
            ("append", &|| OpenOptions::new().append(true).open(&f).unwrap().write_all(b"more").unwrap()),
            ("write", &|| OpenOptions::new().write(true).open(&f).unwrap().write_all_at(b"x", 1).unwrap()),
            ("truncate", &|| nix::unistd::truncate(&f, 2).unwrap()),
            ("overwrite", &|| fs::write(&f, "a").unwrap()),
            ("link", &|| fs::hard_link(&f, union.path("d/h")).unwrap()),
            ("unlink", &|| fs::remove_file(union.path("d/h")).unwrap()),
            ("rename over", &|| {
                write(union.path("new"), "replaced");
                fs::rename(union.path("new"), &f).unwrap();
            }),
            ("chown", &|| std::os::unix::fs::chown(&f, Some(5), Some(6)).unwrap()),
            ("fallocate", &|| {
                let file = OpenOptions::new().write(true).open(&f).unwrap();
                nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, 50_000).unwrap();
                file.sync_all().unwrap();
            }),
            ("copy_file_range", &|| {
                let file = OpenOptions::new().write(true).open(&f).unwrap();
                let from = File::open(union.path("d/g")).unwrap();
                nix::fcntl::copy_file_range(&from, None, &file, None, 5).unwrap();
            }),
            ("mkdir", &|| fs::create_dir(union.path("d/sub")).unwrap()),
            ("rmdir", &|| fs::remove_dir(union.path("d/sub")).unwrap()),
        ];
        for (name, change) in changes {
            eprintln!("{name}");
            for object in ["d/f", "d", ""] {
                fs::symlink_metadata(union.path(object)).unwrap();
            }
            sleep(Duration::from_millis(10));
            change();
            for object in ["d/f", "d"] {
                assert_fresh(union, object);
            }
        }
    });
}

#[test]
fn a_tree_that_was_seen_is_seen_again_without_a_request() {
    needs!(Root, Fuse, Tool("strace"));
    in_both_ways(branches, |union| {
        let look = || {
            fs::symlink_metadata(union.path("d/f")).unwrap();
            fs::symlink_metadata(union.path("d/missing")).unwrap_err();
            assert_eq!(crate::mounted::names(union.path("d")), ["f", "g"]);
        };
        // The first readdir of a directory that was looked into asks for more than names; the second one keeps them.
        look();
        look();
        let requests = || {
            let held = union.holder().pid();
            let children = fs::read_to_string(format!("/proc/{held}/task/{held}/children")).unwrap();
            let server: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
            // A request is read in one system call: those that the server's threads made so far.
            fs::read_dir(format!("/proc/{server}/task"))
                .unwrap()
                .map(|task| fs::read_to_string(task.unwrap().path().join("io")).unwrap())
                .map(|io| {
                    io.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse::<u64>().unwrap()
                })
                .sum::<u64>()
        };
        let before = requests();
        (0..100).for_each(|_| look());
        let after = requests();
        assert!(after - before < 10, "{} requests for what the kernel knew", after - before);
    });
}

#[test]
fn a_program_that_was_replaced_runs_in_its_new_form() {
    needs!(Root, Fuse);
    in_both_ways(
        |directory| {
            write(directory.join("lower/run"), "#!/bin/sh\necho old\n");
            fs::set_permissions(
                directory.join("lower/run"),
                std::os::unix::fs::PermissionsExt::from_mode(0o755),
            )
            .unwrap();
        },
        |union| {
            let run = || Program::new(union.path("run")).run().stdout;
            assert_eq!(run(), "old\n");
            fs::write(union.path("run"), "#!/bin/sh\necho new\n").unwrap();
            assert_eq!(run(), "new\n");
            assert_eq!(read(union.lower("run")), "#!/bin/sh\necho old\n");
        },
    );
}
