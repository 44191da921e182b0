//! Data of files.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::thread;

use nix::fcntl::{FallocateFlags, OFlag, fallocate, open};
use nix::sys::stat::Mode;
use nix::unistd::{Whence, lseek64};
use testing::{Program, needs};

use crate::mounted::{errno, in_both_ways, read, write};

#[test]
fn what_is_written_is_read_back_and_is_in_the_top_branch() {
    needs!(Root, Fuse);
    in_both_ways(
        |_| (),
        |union| {
            let content = vec![b'x'; 3_000_001];
            fs::write(union.path("new"), &content).unwrap();
            assert_eq!(fs::read(union.path("new")).unwrap(), content);
            assert_eq!(fs::read(union.top("new")).unwrap(), content);
            assert_eq!(fs::metadata(union.path("new")).unwrap().len(), 3_000_001);
        },
    );
}

#[test]
fn append_truncate_and_positioned_writes_do_what_they_do_on_a_plain_directory() {
    needs!(Root, Fuse);
    in_both_ways(
        |directory| write(directory.join("lower/f"), "0123456789"),
        |union| {
            OpenOptions::new().append(true).open(union.path("f")).unwrap().write_all(b"abc").unwrap();
            assert_eq!(read(union.path("f")), "0123456789abc");
            let file = OpenOptions::new().read(true).write(true).open(union.path("f")).unwrap();
            file.write_all_at(b"XY", 3).unwrap();
            file.set_len(6).unwrap();
            assert_eq!((read(union.path("f")).as_str(), file.metadata().unwrap().len()), ("012XY5", 6));
            file.set_len(8).unwrap();
            assert_eq!(read(union.path("f")), "012XY5\0\0");
            File::create(union.path("f")).unwrap();
            assert_eq!(read(union.path("f")), "");
            assert_eq!(read(union.lower("f")), "0123456789");
        },
    );
}

#[test]
fn a_shared_mapping_writes_to_the_file() {
    needs!(Root, Fuse);
    in_both_ways(
        |directory| write(directory.join("lower/f"), &"-".repeat(8192)),
        |union| {
            let file = OpenOptions::new().read(true).write(true).open(union.path("f")).unwrap();
            let before = file.metadata().unwrap().mtime_nsec();
            thread::sleep(std::time::Duration::from_millis(20));
            let flags = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            // SAFETY: a new mapping of an open file, at a place of the kernel's choice.
            let memory =
                unsafe { libc::mmap(std::ptr::null_mut(), 8192, flags.0, flags.1, file.as_raw_fd(), 0) };
            assert_ne!(memory, libc::MAP_FAILED);
            drop(file);
            // SAFETY: 8192 bytes are mapped there, and nobody else has the address.
            unsafe {
                memory.cast::<u8>().add(5000).write(b'!');
                assert_eq!(libc::msync(memory, 8192, libc::MS_SYNC), 0);
                assert_eq!(libc::munmap(memory, 8192), 0);
            }
            let changed = format!("{}!{}", "-".repeat(5000), "-".repeat(3191));
            assert_eq!(read(union.path("f")), changed);
            assert_eq!(read(union.top("f")), changed);
            assert_ne!(
                fs::metadata(union.path("f")).unwrap().mtime_nsec(),
                before,
                "the change is seen in the times"
            );
        },
    );
}

#[test]
fn fallocate_reserves_and_punches_and_lseek_finds_the_hole() {
    needs!(Root, Fuse);
    in_both_ways(
        |_| (),
        |union| {
            let file =
                OpenOptions::new().read(true).write(true).create_new(true).open(union.path("f")).unwrap();
            fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 1 << 20);
            assert!(file.metadata().unwrap().blocks() >= 2048);
            file.write_all_at(&vec![1; 1 << 20], 0).unwrap();
            let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(&file, punch, 1 << 16, 1 << 16).unwrap();
            file.sync_all().unwrap();
            assert_eq!(lseek64(&file, 0, Whence::SeekHole).unwrap(), 1 << 16);
            assert_eq!(lseek64(&file, 1 << 16, Whence::SeekData).unwrap(), 2 << 16);
            let mut byte = [9];
            file.read_exact_at(&mut byte, 1 << 16).unwrap();
            assert_eq!(byte, [0]);
        },
    );
}

#[test]
fn a_lock_of_one_process_keeps_another_one_out() {
    needs!(Root, Fuse, Tool("flock"));
    in_both_ways(
        |directory| write(directory.join("lower/f"), "x"),
        |union| {
            let try_lock =
                || Program::new("flock").args(["-n", "-x"]).arg(union.path("f")).arg("true").run().code;
            let file = File::open(union.path("f")).unwrap();
            // SAFETY: the call takes numbers.
            assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
            assert_eq!(try_lock(), Some(1));
            drop(file);
            assert_eq!(try_lock(), Some(0));

            let file = OpenOptions::new().write(true).open(union.path("f")).unwrap();
            // SAFETY: the structure is plain data, of which zero is a value.
            let mut lock: libc::flock = unsafe { std::mem::zeroed() };
            lock.l_type = libc::F_WRLCK as i16;
            // SAFETY: the structure lives through the call.
            assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &lock) }, 0);
            let locks = Program::new("cat").arg("/proc/locks").run().stdout;
            let inode = format!(":{} ", file.metadata().unwrap().ino());
            assert!(locks.lines().any(|line| line.contains("POSIX") && line.contains(&inode)), "{locks}");
        },
    );
}

#[test]
fn an_unlinked_file_stays_with_who_has_it_open() {
    needs!(Root, Fuse);
    in_both_ways(
        |directory| write(directory.join("lower/lower"), "old"),
        |union| {
            write(union.path("new"), "new");
            for (name, content) in [("lower", "old"), ("new", "new")] {
                let mut file = File::open(union.path(name)).unwrap();
                fs::remove_file(union.path(name)).unwrap();
                assert!(!union.path(name).exists());
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                assert_eq!(text, content);
                assert_eq!(
                    (file.metadata().unwrap().nlink(), file.metadata().unwrap().len()),
                    (0, 3),
                    "{name}"
                );
            }
            let file =
                OpenOptions::new().read(true).write(true).create_new(true).open(union.path("f")).unwrap();
            fs::remove_file(union.path("f")).unwrap();
            file.write_all_at(b"still there", 0).unwrap();
            file.set_len(5).unwrap();
            file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 5);
            assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        },
    );
}

#[test]
fn a_file_without_a_name_is_refused_cleanly() {
    needs!(Root, Fuse);
    in_both_ways(
        |_| (),
        |union| {
            let result = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(union.root());
            assert_eq!(errno(result), libc::EOPNOTSUPP);
        },
    );
}

#[test]
fn synchronous_and_direct_writes_reach_the_branch() {
    needs!(Root, Fuse);
    in_both_ways(
        |_| (),
        |union| {
            let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_SYNC;
            let mut file =
                File::from(open(&union.path("f"), flags, Mode::from_bits_truncate(0o644)).unwrap());
            file.write_all(b"one").unwrap();
            assert_eq!(read(union.top("f")), "one");
            file.seek(SeekFrom::Start(1)).unwrap();
            file.write_all(b"two").unwrap();
            file.sync_data().unwrap();
            assert_eq!(read(union.top("f")), "otwo");
            // O_DIRECT: from memory to the disk, both in whole blocks.
            let layout = std::alloc::Layout::from_size_align(4096, 4096).unwrap();
            // SAFETY: the layout has a size.
            let block = unsafe { std::alloc::alloc_zeroed(layout) };
            // SAFETY: it has been checked, is that large, and is used by nobody else.
            let bytes = unsafe { std::slice::from_raw_parts(block, 4096) };
            assert!(!block.is_null());
            let direct = OFlag::O_WRONLY | OFlag::O_DIRECT;
            let file = File::from(open(&union.path("f"), direct, Mode::empty()).unwrap());
            file.write_all_at(bytes, 4096).unwrap();
            assert_eq!(fs::metadata(union.top("f")).unwrap().len(), 8192);
        },
    );
}

#[test]
fn copy_file_range_copies_within_the_mount() {
    needs!(Root, Fuse);
    in_both_ways(
        |directory| write(directory.join("lower/f"), "0123456789"),
        |union| {
            let (from, to) = (File::open(union.path("f")).unwrap(), File::create(union.path("g")).unwrap());
            let mut offset = 2;
            let length = nix::fcntl::copy_file_range(&from, Some(&mut offset), &to, None, 5).unwrap();
            assert_eq!((length, read(union.path("g")).as_str()), (5, "23456"));
        },
    );
}

#[test]
fn two_threads_write_and_read_at_once() {
    needs!(Root, Fuse);
    in_both_ways(
        |directory| (0..20).for_each(|number| write(directory.join(format!("lower/f{number}")), "lower")),
        |union| {
            thread::scope(|scope| {
                for thread in 0..4_usize {
                    scope.spawn(move || {
                        for round in 0..50 {
                            let text = format!("{thread} {round} ").repeat(1000);
                            let path = union.path(&format!("f{}", thread * 5 + round % 5));
                            fs::write(&path, &text).unwrap();
                            assert_eq!(read(&path), text);
                        }
                    });
                }
            });
        },
    );
}

#[test]
fn a_file_is_no_terminal_and_is_always_ready() {
    needs!(Root, Fuse);
    in_both_ways(
        |directory| write(directory.join("lower/f"), "x"),
        |union| {
            let file = File::open(union.path("f")).unwrap();
            assert_eq!(nix::unistd::isatty(&file), Ok(false));
            let mut sources =
                [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&file), nix::poll::PollFlags::POLLIN)];
            assert_eq!(nix::poll::poll(&mut sources, nix::poll::PollTimeout::NONE), Ok(1));
        },
    );
}
