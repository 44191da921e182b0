//! Copy-up of files that somebody has open.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use testing::{Program, needs};

use crate::mounted::{Mounted, errno, in_both_ways, read, write};

fn branches(directory: &Path) {
    write(directory.join("lower/d/f"), "old content");
}

fn text(file: &mut File) -> String {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// As on overlayfs, whose lower files are read in the same way.
#[test]
fn with_passthrough_who_has_a_lower_file_open_keeps_it_and_all_others_see_the_change() {
    needs!(Root, Fuse);
    let union = Mounted::new(&[], branches);
    if !has_passthrough() {
        fn here() {}
        return testing::skip(here, testing::Need::Fuse, "this kernel has no FUSE passthrough (Linux 6.9)");
    }
    let mut old = File::open(union.path("d/f")).unwrap();
    let number = old.metadata().unwrap().ino();
    let flags = (libc::PROT_READ, libc::MAP_PRIVATE);
    // SAFETY: a new mapping of an open file, at a place of the kernel's choice.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), 11, flags.0, flags.1, old.as_raw_fd(), 0) };
    assert_ne!(memory, libc::MAP_FAILED);

    OpenOptions::new().write(true).open(union.path("d/f")).unwrap().write_all(b"new").unwrap();
    assert_eq!(text(&mut old), "old content");
    // SAFETY: 11 bytes are mapped there, until munmap.
    let mapped = unsafe { std::slice::from_raw_parts(memory.cast::<u8>(), 11) };
    assert_eq!(mapped, b"old content");
    assert_eq!(read(union.path("d/f")), "new content");
    assert_eq!(read(union.top("d/f")), "new content");
    assert_eq!(read(union.lower("d/f")), "old content");
    assert_eq!(fs::metadata(union.path("d/f")).unwrap().ino(), number, "it is the same file still");
    assert_eq!(old.metadata().unwrap().ino(), number);

    // What is not its content is one for both.
    old.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fs::metadata(union.path("d/f")).unwrap().mode() & 0o777, 0o600);
    fs::set_permissions(union.path("d/f"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(old.metadata().unwrap().mode() & 0o777, 0o640);

    // The old one is read by path no more, and the new one can be replaced and removed.
    write(union.path("d/g"), "another");
    fs::rename(union.path("d/g"), union.path("d/f")).unwrap();
    assert_eq!((read(union.path("d/f")).as_str(), text(&mut old).as_str()), ("another", "old content"));
    // SAFETY: mapped above, and not used any more.
    unsafe { libc::munmap(memory, 11) };
}

#[test]
fn without_passthrough_who_has_a_lower_file_open_sees_the_change() {
    needs!(Root, Fuse);
    let union = Mounted::new(&["--no-passthrough"], branches);
    let mut old = File::open(union.path("d/f")).unwrap();
    assert_eq!(text(&mut old), "old content");
    OpenOptions::new().write(true).open(union.path("d/f")).unwrap().write_all(b"new").unwrap();
    assert_eq!(text(&mut old), "new content");
    fs::remove_file(union.path("d/f")).unwrap();
    assert_eq!(text(&mut old), "new content");
}

#[test]
fn every_way_to_change_the_content_works_while_the_file_is_read() {
    needs!(Root, Fuse);
    let changes: [(&str, Change); 5] = [
        ("", |path| drop(File::create(path).unwrap())),
        ("old", |path| nix::unistd::truncate(path, 3).unwrap()),
        ("old content+", |path| OpenOptions::new().append(true).open(path).unwrap().write_all(b"+").unwrap()),
        ("OLD content", |path| {
            OpenOptions::new().read(true).write(true).open(path).unwrap().write_all_at(b"OLD", 0).unwrap();
        }),
        ("other", |path| fs::write(path, "other").unwrap()),
    ];
    for (content, change) in changes {
        in_both_ways(branches, |union| {
            let open = File::open(union.path("d/f")).unwrap();
            let number = open.metadata().unwrap().ino();
            change(&union.path("d/f"));
            assert_eq!(read(union.path("d/f")), content);
            let after = fs::metadata(union.path("d/f")).unwrap();
            assert_eq!((after.ino(), after.len()), (number, content.len() as u64));
            // A second time, now that it is in the top branch.
            let again = File::open(union.path("d/f")).unwrap();
            change(&union.path("d/f"));
            drop((open, again));
            assert_eq!(fs::metadata(union.path("d/f")).unwrap().ino(), number);
            assert_eq!(read(union.lower("d/f")), "old content");
        });
    }
}

#[test]
fn a_change_of_mode_or_owner_or_times_or_xattrs_copies_up_under_who_reads() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        let mut open = File::open(union.path("d/f")).unwrap();
        let before = open.metadata().unwrap();
        fs::set_permissions(union.path("d/f"), fs::Permissions::from_mode(0o400)).unwrap();
        std::os::unix::fs::chown(union.path("d/f"), Some(7), Some(8)).unwrap();
        let after = open.metadata().unwrap();
        assert_eq!(
            (after.ino(), after.mode() & 0o777, after.uid(), after.gid()),
            (before.ino(), 0o400, 7, 8)
        );
        assert_eq!((after.mtime(), after.mtime_nsec()), (before.mtime(), before.mtime_nsec()));
        assert_eq!(text(&mut open), "old content");
        assert_eq!(read(union.top("d/f")), "old content");
        assert_eq!(fs::metadata(union.lower("d/f")).unwrap().mode() & 0o777, 0o644);
        // And then to write is still possible.
        OpenOptions::new().append(true).open(union.path("d/f")).unwrap().write_all(b"!").unwrap();
        assert_eq!(read(union.path("d/f")), "old content!");
    });
}

#[test]
fn a_big_copy_up_makes_nobody_else_wait() {
    needs!(Root, Fuse);
    in_both_ways(
        |directory| {
            branches(directory);
            fs::write(directory.join("lower/big"), vec![7; BIG]).unwrap();
        },
        |union| {
            let is_copying =
                || fs::read_dir(union.top(".wh..wh.work")).is_ok_and(|mut names| names.next().is_some());
            write(union.path("d/new"), "x");
            thread::scope(|scope| {
                let copy = scope.spawn(|| {
                    let started = Instant::now();
                    OpenOptions::new().append(true).open(union.path("big")).unwrap().write_all(b"x").unwrap();
                    started.elapsed()
                });
                let mut done_meanwhile = 0;
                while !copy.is_finished() {
                    let before = is_copying();
                    fs::rename(union.path("d/new"), union.path("d/newer")).unwrap();
                    fs::rename(union.path("d/newer"), union.path("d/new")).unwrap();
                    assert_eq!(read(union.path("d/f")), "old content");
                    done_meanwhile += usize::from(before && is_copying());
                }
                let copied = copy.join().unwrap();
                // Where the branch's file system shares blocks, it is over at once.
                assert!(
                    done_meanwhile > 0 || copied < Duration::from_millis(20),
                    "all waited for {copied:?}"
                );
            });
            assert_eq!(fs::metadata(union.path("big")).unwrap().len(), BIG as u64 + 1);
        },
    );
}

#[test]
fn a_file_that_is_renamed_or_removed_while_it_is_copied_up_is_not_brought_back() {
    needs!(Root, Fuse);
    in_both_ways(
        |directory| fs::write(directory.join("lower/big"), vec![7; BIG]).unwrap(),
        |union| {
            thread::scope(|scope| {
                let copy = scope.spawn(|| OpenOptions::new().append(true).open(union.path("big")).map(drop));
                thread::sleep(Duration::from_millis(5));
                fs::remove_file(union.path("big")).unwrap();
                // Either it came first, or the file was gone.
                let result = copy.join().unwrap();
                assert!(result.is_ok() || crate::mounted::errno(result) == libc::ENOENT);
            });
            assert!(!union.path("big").exists());
            assert!(!union.top("big").exists());
            let left = || fs::read_dir(union.top(".wh..wh.work")).map_or(0, |names| names.count());
            assert_eq!(left(), 0, "the unfinished copy is removed");
        },
    );
}

type Change = fn(&Path);

/// The size of a file whose copy takes a while.
const BIG: usize = 64 << 20;

/// A reader that has opened the old file while it was copied up must not make it the one that is written to.
#[test]
fn readers_and_writers_that_open_files_at_once_leave_the_lower_branch_alone() {
    needs!(Root, Fuse);
    let name = |number: usize| format!("f{number}");
    in_both_ways(
        |directory| (0..300).for_each(|number| write(directory.join("lower").join(name(number)), "old")),
        |union| {
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| (0..300).for_each(|number| drop(File::open(union.path(&name(number))))));
                }
                scope.spawn(|| {
                    for number in 0..300 {
                        let mut file =
                            OpenOptions::new().write(true).open(union.path(&name(number))).unwrap();
                        file.write_all(b"new").unwrap();
                    }
                });
            });
            for number in 0..300 {
                assert_eq!(read(union.lower(&name(number))), "old");
                assert_eq!(read(union.path(&name(number))), "new");
                assert_eq!(read(union.top(&name(number))), "new");
            }
        },
    );
}

/// Whether this kernel offers it.
fn has_passthrough() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 9)
}

#[test]
fn a_copy_up_without_room_fails_and_leaves_the_file_as_it_was() {
    needs!(Root, Fuse);
    in_both_ways(
        |directory| {
            fs::write(directory.join("lower/big"), vec![7; 4 << 20]).unwrap();
            let flags = MsFlags::empty();
            mount(Some("tmpfs"), &directory.join("top"), Some("tmpfs"), flags, Some("size=1m")).unwrap();
        },
        |union| {
            let mode = fs::Permissions::from_mode(0o600);
            assert_eq!(errno(fs::set_permissions(union.path("big"), mode)), libc::ENOSPC);
            let opened = OpenOptions::new().append(true).open(union.path("big"));
            assert_eq!(errno(opened), libc::ENOSPC);
            assert!(fs::read(union.path("big")).unwrap() == vec![7; 4 << 20]);
            assert_eq!(fs::metadata(union.path("big")).unwrap().permissions().mode() & 0o777, 0o644);
            assert_eq!(fs::read_dir(union.top(".wh..wh.work")).map_or(0, Iterator::count), 0);
            umount2(&union.top(""), MntFlags::MNT_DETACH).unwrap();
        },
    );
}

/// A lock belongs to the kernel's inode, and the second node of a file has another one. Beside what the reader
/// reads, this is what passthrough costs.
#[test]
fn a_lock_of_who_reads_keeps_a_writer_out_though_he_copies_up_but_not_in_passthrough() {
    needs!(Root, Fuse, Tool("flock"));
    for (options, status) in [(&["--no-passthrough"][..], 1), (&[], 0)] {
        let union = Mounted::new(options, branches);
        let file = File::open(union.path("d/f")).unwrap();
        // SAFETY: the call takes numbers, and the descriptor is open.
        assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
        let script = r#"exec 3>>"$0" && flock -n 3"#;
        let output = Program::new("sh").args(["-c", script]).arg(union.path("d/f")).run();
        assert_eq!(output.code, Some(status), "{options:?}: {output}");
    }
}
