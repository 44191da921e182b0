//! Changes of names, and that what the kernel keeps of them is right afterwards.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, mknod};
use testing::{Program, needs};

use crate::mounted::{Mounted, drop_caches, errno, in_both_ways, names, read, write};

fn branches(directory: &Path) {
    write(directory.join("lower/f"), "f");
    write(directory.join("lower/d/one"), "1");
    write(directory.join("middle/d/two"), "2");
    symlink("f", directory.join("lower/link")).unwrap();
}

#[test]
fn a_deleted_name_is_gone_at_once_and_can_be_made_again() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        assert_eq!(read(union.path("f")), "f");
        fs::remove_file(union.path("f")).unwrap();
        assert_eq!(errno(fs::metadata(union.path("f"))), libc::ENOENT);
        assert!(union.top(".wh.f").exists());
        assert!(!names(union.root()).contains(&"f".to_string()));
        write(union.path("f"), "new");
        assert_eq!(read(union.path("f")), "new");
        assert!(!union.top(".wh.f").exists());
        assert!(names(union.root()).contains(&"f".to_string()));
        assert_eq!(read(union.lower("f")), "f");
    });
}

#[test]
fn a_missing_name_that_was_asked_for_is_there_once_it_is_made() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        for make in [
            (|path: &Path| fs::write(path, "").unwrap()) as fn(&Path),
            |path| fs::create_dir(path).unwrap(),
            |path| symlink("x", path).unwrap(),
            |path| fs::hard_link(path.with_file_name("f"), path).unwrap(),
            |path| fs::rename(path.with_file_name("moved"), path).unwrap(),
            |path| mknod(path, SFlag::S_IFIFO, Mode::S_IRUSR, 0).unwrap(),
        ] {
            write(union.path("moved"), "");
            let path = union.path("made");
            assert_eq!(errno(fs::symlink_metadata(&path)), libc::ENOENT);
            make(&path);
            let made = fs::symlink_metadata(&path).unwrap();
            assert!(names(union.root()).contains(&"made".to_string()));
            if made.is_dir() {
                fs::remove_dir(&path).unwrap()
            } else {
                fs::remove_file(&path).unwrap()
            }
            assert_eq!(errno(fs::symlink_metadata(&path)), libc::ENOENT);
            assert!(!names(union.root()).contains(&"made".to_string()));
        }
    });
}

#[test]
fn a_directory_made_anew_is_empty() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        assert_eq!(names(union.path("d")), ["one", "two"]);
        fs::remove_dir_all(union.path("d")).unwrap();
        fs::create_dir(union.path("d")).unwrap();
        assert_eq!(names(union.path("d")), [""; 0]);
        assert_eq!(errno(fs::metadata(union.path("d/one"))), libc::ENOENT);
        assert!(union.top("d/.wh..wh..opq").exists());
        write(union.path("d/one"), "new");
        assert_eq!((read(union.path("d/one")), read(union.lower("d/one"))), ("new".into(), "1".into()));
    });
}

#[test]
fn files_and_new_directories_are_renamed_with_what_is_in_them() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        fs::rename(union.path("f"), union.path("d/g")).unwrap();
        assert_eq!((read(union.path("d/g")).as_str(), union.path("f").exists()), ("f", false));
        fs::create_dir_all(union.path("new/sub")).unwrap();
        write(union.path("new/sub/file"), "deep");
        let open = fs::File::open(union.path("new/sub/file")).unwrap();
        fs::rename(union.path("new"), union.path("d/moved")).unwrap();
        assert_eq!(read(union.path("d/moved/sub/file")), "deep");
        write(union.path("d/moved/sub/another"), "");
        assert_eq!(names(union.path("d/moved/sub")), ["another", "file"]);
        assert_eq!(
            open.metadata().unwrap().ino(),
            fs::metadata(union.path("d/moved/sub/file")).unwrap().ino()
        );
        assert_eq!(errno(fs::metadata(union.path("new/sub/file"))), libc::ENOENT);
        fs::rename(union.path("d/moved/sub/file"), union.path("d/one")).unwrap();
        assert_eq!(read(union.path("d/one")), "deep");
    });
}

#[test]
fn a_directory_of_a_lower_branch_is_moved_by_copy_only() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        assert_eq!(errno(fs::rename(union.path("d"), union.path("e"))), libc::EXDEV);
        assert_eq!(names(union.path("d")), ["one", "two"]);
        let output = testing::Program::new("mv").arg(union.path("d")).arg(union.path("e")).run();
        assert_eq!(output.code, Some(0), "{output}");
        assert_eq!(
            (names(union.path("e")), union.path("d").exists()),
            (vec!["one".into(), "two".into()], false)
        );
    });
}

#[test]
fn names_are_exchanged_and_none_is_replaced_where_that_is_asked_for() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        write(union.path("g"), "g");
        let rename = |flags| renameat2(AT_FDCWD, &union.path("f"), AT_FDCWD, &union.path("g"), flags);
        assert_eq!(rename(RenameFlags::RENAME_NOREPLACE), Err(Errno::EEXIST));
        rename(RenameFlags::RENAME_EXCHANGE).unwrap();
        assert_eq!((read(union.path("f")).as_str(), read(union.path("g")).as_str()), ("g", "f"));
        assert_eq!(rename(RenameFlags::RENAME_WHITEOUT), Err(Errno::EINVAL));
        fs::rename(union.path("f"), union.path("g")).unwrap();
        assert_eq!((read(union.path("g")).as_str(), union.path("f").exists()), ("g", false));
    });
}

#[test]
fn hard_links_made_in_the_mount_are_one_file() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        fs::hard_link(union.path("f"), union.path("d/second")).unwrap();
        let (one, two) =
            (fs::metadata(union.path("f")).unwrap(), fs::metadata(union.path("d/second")).unwrap());
        assert_eq!((one.ino(), one.nlink(), two.nlink()), (two.ino(), 2, 2));
        write(union.path("f"), "changed");
        assert_eq!(read(union.path("d/second")), "changed");
        fs::remove_file(union.path("f")).unwrap();
        let left = fs::metadata(union.path("d/second")).unwrap();
        assert_eq!((left.nlink(), read(union.path("d/second")).as_str()), (1, "changed"));
        symlink("x", union.path("s")).unwrap();
        fs::hard_link(union.path("s"), union.path("t")).unwrap();
        assert_eq!(fs::read_link(union.path("t")).unwrap(), Path::new("x"));
    });
}

#[test]
fn links_fifos_sockets_and_devices_are_made_and_copied_up() {
    needs!(Root, Fuse);
    in_both_ways(
        |directory| {
            branches(directory);
            mknod(&directory.join("lower/fifo"), SFlag::S_IFIFO, Mode::S_IRUSR, 0).unwrap();
            let null = nix::sys::stat::makedev(1, 3);
            mknod(&directory.join("lower/null"), SFlag::S_IFCHR, Mode::S_IRUSR, null).unwrap();
        },
        |union| {
            assert_eq!(fs::read_link(union.path("link")).unwrap(), Path::new("f"));
            let far = nix::sys::stat::makedev(3000, 70000);
            mknod(&union.path("device"), SFlag::S_IFBLK, Mode::S_IRUSR, far).unwrap();
            assert_eq!(fs::metadata(union.path("device")).unwrap().rdev(), far);
            std::os::unix::net::UnixListener::bind(union.path("socket")).unwrap();
            assert!(fs::metadata(union.path("socket")).unwrap().file_type().is_socket());
            for name in ["fifo", "null", "link"] {
                std::os::unix::fs::lchown(union.path(name), Some(12), Some(34)).unwrap();
                let (seen, top) = (
                    fs::symlink_metadata(union.path(name)).unwrap(),
                    fs::symlink_metadata(union.top(name)).unwrap(),
                );
                assert_eq!((seen.uid(), seen.gid(), seen.rdev()), (12, 34, top.rdev()), "{name}");
                assert_eq!(seen.file_type(), top.file_type());
            }
        },
    );
}

#[test]
fn names_that_belong_to_aufs_are_refused_and_long_ones_are_too_long() {
    needs!(Root, Fuse);
    let union = Mounted::new(&[], branches);
    assert_eq!(errno(fs::write(union.path(".wh.x"), "")), libc::EPERM);
    assert_eq!(errno(fs::create_dir(union.path(".wh..wh.x"))), libc::EPERM);
    assert_eq!(errno(fs::rename(union.path("f"), union.path(".wh.f"))), libc::EPERM);
    fs::remove_file(union.path("f")).unwrap();
    assert_eq!(errno(fs::metadata(union.path(".wh.f"))), libc::ENOENT);
    fs::write(union.path(&"n".repeat(251)), "").unwrap();
    assert_eq!(errno(fs::write(union.path(&"n".repeat(252)), "")), libc::ENAMETOOLONG);
    let path = CString::new(union.root().as_os_str().as_bytes()).unwrap();
    let limits = nix::sys::statvfs::statvfs(path.as_c_str()).unwrap();
    assert_eq!(limits.name_max(), 251);
    let branch = nix::sys::statvfs::statvfs(&union.top("")).unwrap();
    assert_eq!(limits.blocks(), branch.blocks(), "the space is the top branch's");
}

#[test]
fn without_a_writable_branch_nothing_can_be_changed() {
    needs!(Root, Fuse);
    let directory = tempfile::tempdir().unwrap();
    for name in ["one", "two", "mnt"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    write(directory.path().join("two/f"), "f");
    let script = "cat mnt/f; touch mnt/g; rm mnt/f; chmod 777 mnt/f; echo x >> mnt/f; ls mnt";
    let output = testing::Program::new(env!("CARGO_BIN_EXE_ch05-layers"))
        .args([
            "mount", "--quiet", "--branch", "one=ro", "--branch", "two=ro", "mnt", "--", "sh", "-c", script,
        ])
        .current_dir(directory.path())
        .run();
    assert_eq!(output.stdout, "ff\n");
    assert_eq!(output.stderr.matches("Read-only file system").count(), 4, "{output}");
}

#[test]
fn many_threads_change_names_at_once_and_the_kernel_knows_what_is_true() {
    needs!(Root, Fuse);
    for options in [&["--threads", "8"][..], &["--threads", "8", "--no-passthrough"]] {
        let union = Mounted::new(options, |directory: &Path| {
            (0..20).for_each(|number| write(directory.join(format!("lower/d{number}/f")), "lower"));
        });
        thread::scope(|scope| {
            for thread in 0..6_usize {
                let union = &union;
                scope.spawn(move || {
                    for round in 0..300 {
                        let place = |step: usize, name: &str| {
                            union.path(&format!("d{}/{name}", (thread * 7 + round * step) % 20))
                        };
                        // What one finds, another has taken: any of these may fail.
                        let _ = match round % 6 {
                            0 => fs::rename(place(3, "f"), place(11, "g")),
                            1 => fs::rename(place(5, "g"), place(3, "f")),
                            2 => fs::remove_dir_all(place(7, "")),
                            3 => fs::create_dir(place(7, "")),
                            4 => fs::hard_link(place(9, "f"), place(13, "h")),
                            _ => fs::write(place(3, "f"), format!("{thread}")),
                        };
                    }
                });
            }
        });
        let look = || {
            let output = Program::new("find").arg(union.root()).args(["-printf", "%P %y %s %n %i\n"]).run();
            assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output}");
            let mut lines: Vec<String> = output.stdout.lines().map(String::from).collect();
            lines.sort();
            lines
        };
        let kept = look();
        drop_caches();
        assert_eq!(kept, look(), "what was kept, and what is true");
    }
}
