//! Mode, owner, times, extended attributes, access lists.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use testing::{Program, needs};

use crate::mounted::{Mounted, errno, in_both_ways, read, write};

fn branches(directory: &Path) {
    write(directory.join("lower/d/f"), "f");
    symlink("f", directory.join("lower/d/link")).unwrap();
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn mode_owner_and_times_are_changed_in_the_top_branch() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        for name in ["d/f", "d"] {
            set_mode(union.path(name), 0o1751);
            chown(union.path(name), Some(1234), Some(70000)).unwrap();
            let seen = fs::metadata(union.path(name)).unwrap();
            assert_eq!((seen.mode() & 0o7777, seen.uid(), seen.gid()), (0o1751, 1234, 70000));
            let top = fs::metadata(union.top(name)).unwrap();
            assert_eq!((top.mode(), top.uid(), top.gid()), (seen.mode(), 1234, 70000));
        }
        for time in [
            SystemTime::UNIX_EPOCH - Duration::new(12345, 678),
            SystemTime::UNIX_EPOCH + Duration::new(4_000_000_000, 999_999_999),
        ] {
            let file = File::open(union.path("d/f")).unwrap();
            file.set_times(fs::FileTimes::new().set_accessed(time).set_modified(time)).unwrap();
            let seen = fs::metadata(union.path("d/f")).unwrap();
            assert_eq!((seen.accessed().unwrap(), seen.modified().unwrap()), (time, time));
        }
        lchown(union.path("d/link"), Some(5), Some(6)).unwrap();
        assert_eq!(fs::symlink_metadata(union.path("d/link")).unwrap().uid(), 5);
        assert_eq!(fs::metadata(union.path("d/f")).unwrap().uid(), 1234, "the link, not its target");
        assert_eq!(mode(union.lower("d/f")), 0o644);
    });
}

#[test]
fn what_is_made_gets_the_makers_owner_and_umask_and_the_group_of_a_setgid_directory() {
    needs!(Root, Fuse, Tool("setpriv"));
    let union = Mounted::new(&["--allow-other"], branches);
    // The temporary directory that all is in is for its owner alone.
    set_mode(union.root().parent().unwrap(), 0o755);
    fs::create_dir(union.path("open")).unwrap();
    set_mode(union.path("open"), 0o777);
    fs::create_dir(union.path("setgid")).unwrap();
    chown(union.path("setgid"), None, Some(4242)).unwrap();
    set_mode(union.path("setgid"), 0o2777);
    let script =
        "umask 027; for d in open setgid; do touch $d/f; mkdir $d/d; ln -s x $d/l; mkfifo $d/p; done";
    let output = Program::new("setpriv")
        .args(["--reuid=1000", "--regid=1000", "--clear-groups", "sh", "-c", script])
        .current_dir(union.root())
        .run();
    assert_eq!(output.code, Some(0), "{output}");
    for name in ["f", "d", "l", "p"] {
        for (directory, group) in [("open", 1000), ("setgid", 4242)] {
            let seen = fs::symlink_metadata(union.path(directory).join(name)).unwrap();
            assert_eq!((seen.uid(), seen.gid()), (1000, group), "{directory}/{name}");
        }
    }
    assert_eq!((mode(union.path("open/f")), mode(union.path("open/d"))), (0o640, 0o750));
    assert_eq!((mode(union.path("setgid/f")), mode(union.path("setgid/d"))), (0o640, 0o2750));

    let before = umask(Mode::empty());
    OpenOptions::new().write(true).create_new(true).mode(0o6775).open(union.path("bits")).unwrap();
    DirBuilder::new().mode(0o1777).create(union.path("sticky")).unwrap();
    umask(before);
    assert_eq!((mode(union.path("bits")), mode(union.path("sticky"))), (0o6775, 0o1777));
}

#[test]
fn permissions_hold_for_other_users() {
    needs!(Root, Fuse, Tool("setpriv"));
    let refused = |options: &[&str], script: &str| {
        let union = Mounted::new(options, |directory| {
            branches(directory);
            set_mode(directory.join("lower/d/f"), 0o600);
            set_mode(directory, 0o755);
        });
        Program::new("setpriv")
            .args(["--reuid=1000", "--regid=1000", "--clear-groups", "sh", "-c", script])
            .current_dir(union.root().parent().unwrap())
            .run()
    };
    let output = refused(&["--allow-other"], "ls mnt/d; cat mnt/d/f; rm -f mnt/d/f; touch mnt/d/new");
    assert_eq!(output.stdout, "f\nlink\n");
    assert_eq!(output.stderr.matches("Permission denied").count(), 3, "{output}");
    let output = refused(&[], "ls mnt/d");
    assert!(
        output.stderr.contains("Permission denied"),
        "without --allow-other it is root's alone: {output}"
    );
}

#[test]
fn access_lists_hold_as_on_the_branch() {
    needs!(Root, Fuse, Tool("setpriv"), Tool("python3"));
    let union = Mounted::new(&["--allow-other"], |directory| {
        branches(directory);
        set_mode(directory, 0o755);
        // The mode's group bits are the list's mask: without the list, group 1000 could read.
        chown(directory.join("lower/d/f"), Some(0), Some(1000)).unwrap();
        set_mode(directory.join("lower/d/f"), 0o640);
        set_access_list(
            &directory.join("lower/d/f"),
            "access",
            &[(1, 6, !0), (2, 4, 1001), (4, 0, !0), (16, 4, !0), (32, 0, !0)],
        );
    });
    assert_eq!(mode(union.path("d/f")), 0o640);
    let read_as = |user: &str| {
        let ids = [format!("--reuid={user}"), format!("--regid={user}")];
        Program::new("setpriv").args(ids).args(["--clear-groups", "cat"]).arg(union.path("d/f")).run()
    };
    assert_eq!(read_as("1001").stdout, "f", "a user whom the list names");
    assert!(read_as("1000").stderr.contains("Permission denied"), "the group, whom the list gives nothing");
    write(union.path("d/f"), "changed");
    assert_eq!(read_as("1001").stdout, "changed", "the copy has the list");
    assert!(read_as("1000").stderr.contains("Permission denied"));

    // A default list counts instead of the umask.
    fs::create_dir(union.path("shared")).unwrap();
    set_access_list(&union.path("shared"), "default", &[(1, 7, !0), (4, 7, !0), (16, 7, !0), (32, 5, !0)]);
    let before = umask(Mode::from_bits_truncate(0o077));
    fs::write(union.path("shared/f"), "").unwrap();
    fs::create_dir(union.path("shared/d")).unwrap();
    fs::write(union.path("plain"), "").unwrap();
    umask(before);
    assert_eq!(mode(union.path("shared/f")), 0o664);
    assert_eq!(mode(union.path("shared/d")), 0o775);
    assert_eq!(mode(union.path("plain")), 0o600);
}

/// Sets `system.posix_acl_NAME`: tag, permissions and id of each entry (include/uapi/linux/posix_acl_xattr.h).
pub fn set_access_list(path: &Path, name: &str, entries: &[(u16, u16, u32)]) {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes().iter().chain(&permissions.to_le_bytes()).chain(&id.to_le_bytes()));
    }
    set_xattr(path, &format!("system.posix_acl_{name}"), &value).unwrap();
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> Result<(), Errno> {
    let (path, name) = (CString::new(path.as_os_str().as_bytes()).unwrap(), CString::new(name).unwrap());
    // SAFETY: C strings, and a value with its length.
    let result =
        unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(result).map(drop)
}

fn xattr(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let (path, name) = (CString::new(path.as_os_str().as_bytes()).unwrap(), CString::new(name).unwrap());
    let mut value = vec![0; 65536];
    // SAFETY: C strings, and a buffer with its length.
    let length =
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(Errno::result(length)? as usize);
    Ok(value)
}

pub fn xattr_names(path: &Path) -> String {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut value = vec![0_u8; 65536];
    // SAFETY: a C string, and a buffer with its length.
    let length = unsafe { libc::llistxattr(path.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(Errno::result(length).unwrap() as usize);
    String::from_utf8(value).unwrap().replace('\0', " ")
}

#[test]
fn extended_attributes_are_read_and_set_and_removed_and_overlayfs_marks_are_hidden() {
    needs!(Root, Fuse);
    in_both_ways(
        |directory| {
            branches(directory);
            for (name, value) in
                [("user.note", "lower"), ("trusted.overlay.opaque", "y"), ("trusted.other", "t")]
            {
                set_xattr(&directory.join("lower/d/f"), name, value.as_bytes()).unwrap();
            }
        },
        |union| {
            let f = union.path("d/f");
            assert_eq!(xattr(&f, "user.note").unwrap(), b"lower");
            assert_eq!(xattr(&f, "trusted.overlay.opaque"), Err(Errno::ENODATA));
            assert_eq!(set_xattr(&f, "trusted.overlay.opaque", b"y"), Err(Errno::EOPNOTSUPP));
            let mut names: Vec<String> = xattr_names(&f).split_whitespace().map(String::from).collect();
            names.sort();
            assert_eq!(names, ["trusted.other", "user.note"]);
            set_xattr(&f, "user.big", &[7; 3000]).unwrap();
            assert_eq!(xattr(&f, "user.big").unwrap(), [7; 3000]);
            assert_eq!(xattr(&union.top("d/f"), "user.note").unwrap(), b"lower", "the copy has them");
            assert_eq!(xattr(&union.top("d/f"), "trusted.overlay.opaque"), Err(Errno::ENODATA));
            assert_eq!(xattr(&union.lower("d/f"), "user.big"), Err(Errno::ENODATA));
            set_xattr(&union.path("d"), "user.note", b"directory").unwrap();
            assert_eq!(xattr(&union.top("d"), "user.note").unwrap(), b"directory");
            assert_eq!(
                set_xattr(&union.path("d/link"), "user.note", b"x"),
                Err(Errno::EPERM),
                "as on any file system"
            );
            assert_eq!(set_xattr(&union.path("d/link"), "trusted.note", b"x"), Ok(()));
        },
    );
}

#[test]
fn a_write_of_one_who_may_not_takes_the_set_user_id_bit_off_and_roots_does_not() {
    needs!(Root, Fuse, Tool("setpriv"));
    for options in [&["--allow-other"][..], &["--allow-other", "--no-passthrough"]] {
        let union = Mounted::new(options, |directory| {
            branches(directory);
            set_mode(directory, 0o755);
            for name in ["one", "two", "three", "four"] {
                write(directory.join("lower").join(name), "program");
                set_mode(directory.join("lower").join(name), 0o6777);
            }
        });
        let as_user = |script: &str| {
            let output = Program::new("setpriv")
                .args(["--reuid=1000", "--regid=1000", "--clear-groups", "sh", "-c", script])
                .current_dir(union.root())
                .run();
            assert_eq!(output.code, Some(0), "{output}");
        };
        as_user("echo evil >> one; truncate -s 1 two; echo evil > three");
        for name in ["one", "two", "three"] {
            assert_eq!(mode(union.path(name)), 0o777, "{name} {options:?}");
            assert_eq!(mode(union.top(name)), 0o777, "{name}");
        }
        OpenOptions::new().append(true).open(union.path("four")).unwrap().write_all(b"!").unwrap();
        nix::unistd::truncate(&union.path("four"), 3).unwrap();
        fs::write(union.path("four"), "by root").unwrap();
        assert_eq!((mode(union.path("four")), read(union.path("four")).as_str()), (0o6777, "by root"));
        chown(union.path("four"), Some(1000), None).unwrap();
        assert_eq!(
            mode(union.path("four")),
            0o777,
            "a new owner takes them off, whoever gives the file to him"
        );
    }
}

#[test]
fn a_file_that_may_not_be_written_to_is_refused() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        fs::create_dir(union.path("e")).unwrap();
        assert_eq!(errno(fs::write(union.path("e"), "")), libc::EISDIR);
        assert_eq!(errno(fs::read_dir(union.path("d/f"))), libc::ENOTDIR);
        assert_eq!(errno(fs::remove_dir(union.path("d"))), libc::ENOTEMPTY);
        assert_eq!(errno(fs::remove_file(union.path("e"))), libc::EISDIR);
        assert_eq!(errno(fs::rename(union.path("d/f"), union.path("e"))), libc::EISDIR);
        assert_eq!(errno(fs::create_dir(union.path("d"))), libc::EEXIST);
    });
}
