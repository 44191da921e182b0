//! Layers that nobody made with good intentions, and branches that go away, under a live mount.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, mknod};
use testing::needs;

use crate::mounted::{errno, in_both_ways, names, read, write};

/// What fails must say that the branch is gone.
#[track_caller]
fn assert_gone(result: io::Result<()>) {
    let number = errno(result);
    assert!([libc::ENOENT, libc::ESTALE].contains(&number), "errno {number}");
}

#[test]
fn a_branch_that_is_removed_while_mounted_is_an_error_and_no_other_is_changed() {
    needs!(Root, Fuse);
    in_both_ways(
        |directory| {
            write(directory.join("lower/f"), "f");
            write(directory.join("lower/d/one"), "1");
            write(directory.join("middle/d/two"), "2");
            write(directory.join("outside/secret"), "the host's");
        },
        |union| {
            let beside = |name: &str| union.root().with_file_name(name);
            let mut open = File::open(union.path("f")).unwrap();
            assert_eq!(read(union.path("d/one")), "1");
            fs::remove_dir_all(beside("lower")).unwrap();
            let mut text = String::new();
            open.read_to_string(&mut text).unwrap();
            assert_eq!(text, "f", "who has it open keeps it");
            assert_gone(fs::write(union.path("f"), "x"));
            assert_gone(fs::read(union.path("d/one")).map(drop));
            assert_gone(fs::rename(union.path("f"), union.path("g")));
            assert_eq!(read(union.path("d/two")), "2");

            fs::remove_dir_all(beside("top")).unwrap();
            assert_gone(fs::write(union.path("new"), "x"));
            assert_gone(fs::create_dir(union.path("new")));
            assert_gone(symlink("x", union.path("new")));
            assert_gone(fs::remove_file(union.path("d/two")));
            assert_eq!(read(union.path("d/two")), "2");
            assert_eq!(names(beside("middle/d")), ["two"]);
            assert_eq!(read(beside("outside/secret")), "the host's");
            nix::sys::statvfs::statvfs(&union.root()).expect("the server answers");
        },
    );
}

#[test]
fn what_no_layer_may_have_is_an_error_of_its_directory_and_changes_nothing() {
    needs!(Root, Fuse);
    let kinds: [fn(&Path); 3] = [
        |path| fs::write(path, "").unwrap(),
        |path| fs::create_dir(path).unwrap(),
        // overlayfs's own whiteout, under AuFS's name.
        |path| mknod(path, SFlag::S_IFCHR, Mode::S_IRUSR, 0).unwrap(),
    ];
    // The last one is a whiteout where it is a file.
    let marks = [".wh.", ".wh..", ".wh...", ".wh.f"];
    let cases = || {
        let pairs = (0..kinds.len()).flat_map(|kind| marks.iter().map(move |mark| (kind, *mark)));
        pairs.filter(|case| *case != (0, ".wh.f"))
    };
    in_both_ways(
        |directory| {
            write(directory.join("outside/secret"), "the host's");
            symlink(directory.join("outside"), directory.join("middle/link")).unwrap();
            write(directory.join("lower/link/secret"), "");
            for (number, (kind, mark)) in cases().enumerate() {
                write(directory.join(format!("lower/d{number}/f")), "f");
                kinds[kind](&directory.join(format!("lower/d{number}/{mark}")));
            }
        },
        |union| {
            let list = |path: &Path| fs::read_dir(path)?.collect::<io::Result<Vec<_>>>();
            for (number, (_, mark)) in cases().enumerate() {
                let directory = union.path(&format!("d{number}"));
                assert_eq!(errno(list(&directory)), libc::EIO, "{mark}");
                assert_eq!(errno(fs::remove_dir(&directory)), libc::EIO, "{mark}");
                assert_eq!(errno(fs::symlink_metadata(directory.join(mark))), libc::ENOENT, "{mark}");
                assert_eq!(errno(fs::write(directory.join(mark), "")), libc::EPERM, "{mark}");
            }
            assert_eq!(fs::read_link(union.path("link")).unwrap(), union.root().with_file_name("outside"));
            fs::remove_file(union.path("link")).unwrap();
            assert_eq!(names(union.root().with_file_name("outside")), ["secret"]);
            assert_eq!(names(union.root()).len(), cases().count());
            let long = union.path(&"n".repeat(4000));
            assert_eq!(errno(fs::write(&long, "")), libc::ENAMETOOLONG);
            assert_eq!(errno(fs::rename(union.path("d0"), long)), libc::ENAMETOOLONG);
        },
    );
}
