//! `commit`: the read-write layer becomes a layer of a new image, and nothing else does.

mod layers_support;

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use ch05_layers::layers::commit;
use ch05_layers::overlay::{Form, Marks};
use ch05_layers::{Branch, Mode, Union};
use layers_support::{Sample, attribute, attributes, in_mount_namespace, make, names, set_attribute};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, makedev, mknod};
use testing::needs;

fn sample() -> Sample {
    Sample::new(Form::Aufs)
}

#[test]
fn a_second_container_on_the_committed_layer_sees_the_changes_and_shares_all_layers_below() {
    let sample = sample();
    let before = sample.names("base");
    let change = sample.change();
    change.write("etc/motd", "changed");
    change.remove("file1");
    change.remove_all("dir1");
    change.make_directory("dir1");
    sample.layers.commit("one", "new").unwrap();
    assert_eq!(sample.names("new"), [".wh.file1", "dir1/", "dir1/.wh..wh..opq", "etc/", "etc/motd"]);
    assert_eq!(fs::read(sample.path("new", "etc/motd")).unwrap(), b"changed");
    assert_eq!(sample.names("base"), before);
    let chain = fs::read_to_string(sample.store.join("layers/new")).unwrap();
    assert_eq!(chain, "top\nbase\n");

    sample.layers.container("two", "new", Form::Aufs).unwrap();
    let two = sample.layers.union("two").unwrap();
    let root = two.root().unwrap();
    assert_eq!(two.lookup(&root, OsStr::new("file1")).unwrap_err(), Errno::ENOENT);
    assert!(two.list(&two.walk(Path::new("dir1")).unwrap()).unwrap().is_empty());
    let shared = two.lookup(&root, OsStr::new("file2")).unwrap().status.st_ino;
    assert_eq!(shared, sample.path("base", "file2").metadata().unwrap().ino());
    assert!(sample.layers.diff("two").unwrap().is_empty());
    // The first container goes on as before.
    assert_eq!(
        sample.diff(),
        ["C /dir1", "D /dir1/file1", "D /dir1/file2", "D /dir1/sub", "C /etc", "C /etc/motd", "D /file1"]
    );
}

#[test]
fn a_deletion_in_the_middle_of_the_stack_lasts_until_the_file_is_made_again() {
    let sample = sample();
    sample.change().remove("file1");
    sample.layers.commit("one", "without").unwrap();
    sample.layers.container("two", "without", Form::Aufs).unwrap();
    let two = sample.layers.union("two").unwrap();
    let root = two.root().unwrap();
    let made = ch05_layers::union::Make::File(nix::fcntl::OFlag::O_WRONLY);
    let owner = ch05_layers::union::Owner {
        user: nix::unistd::geteuid().as_raw(),
        group: nix::unistd::getegid().as_raw(),
    };
    two.make(&root, OsStr::new("file1"), &made, 0o644, owner).unwrap();
    drop(two);
    let lines: Vec<String> = sample.layers.diff("two").unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["A /file1"]);
    sample.layers.commit("two", "again").unwrap();
    let image = sample.layers.union("again").unwrap();
    assert_eq!(image.lookup(&image.root().unwrap(), OsStr::new("file1")).unwrap().branch, 0);
}

#[test]
fn what_stems_from_the_init_layer_is_left_out_though_changed() {
    let sample = sample();
    let change = sample.change();
    change.write("etc/hosts", "127.0.0.1 one\n");
    change.remove("etc/hostname");
    change.write("dev/console", "a file in its place");
    change.remove(".dockerenv");
    assert!(sample.names("one").contains(&"etc/hosts".to_string()));
    sample.layers.commit("one", "nothing").unwrap();
    assert_eq!(sample.names("nothing"), [""; 0]);

    change.write("etc/passwd", "root and one\n");
    sample.layers.commit("one", "passwd").unwrap();
    assert_eq!(sample.names("passwd"), ["etc/", "etc/passwd"]);
    // The image's own comes to light.
    let image = sample.layers.union("passwd").unwrap();
    let etc = image.walk(Path::new("etc")).unwrap();
    assert_eq!(image.lookup(&etc, OsStr::new("hosts")).unwrap().branch, 2);
}

#[test]
fn holes_links_attributes_times_and_modes_are_kept() {
    let sample = sample();
    let one = sample.path("one", "");
    let hole = File::create(one.join("hole")).unwrap();
    hole.write_all_at(b"end", 64 << 20).unwrap();
    hole.set_len(128 << 20).unwrap();
    make(&one, &["dir/first=content", "program=", "other/"]);
    fs::hard_link(one.join("dir/first"), one.join("other/second")).unwrap();
    fs::hard_link(one.join("dir/first"), one.join("third")).unwrap();
    symlink("/etc/passwd", one.join("link")).unwrap();
    fs::set_permissions(one.join("program"), fs::Permissions::from_mode(0o6711)).unwrap();
    mknod(&one.join("fifo"), SFlag::S_IFIFO, nix::sys::stat::Mode::from_bits_truncate(0o640), 0).unwrap();
    set_attribute(&one.join("program"), "user.note", b"kept");
    set_attribute(&one.join("dir"), "user.note", b"kept too");
    fs::set_permissions(one.join("dir"), fs::Permissions::from_mode(0o1555)).unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    let times = FileTimes::new().set_modified(long_ago).set_accessed(long_ago + Duration::from_secs(1));
    for name in ["dir/first", "program", "other", "dir"] {
        File::open(one.join(name)).unwrap().set_times(times).unwrap();
    }
    sample.layers.commit("one", "new").unwrap();

    let new = |name: &str| sample.path("new", name).symlink_metadata().unwrap();
    assert_eq!(new("hole").len(), 128 << 20);
    assert!(new("hole").blocks() * 512 < 1 << 20, "the hole was filled: {} blocks", new("hole").blocks());
    let mut end = [0; 3];
    File::open(sample.path("new", "hole")).unwrap().read_exact_at(&mut end, 64 << 20).unwrap();
    assert_eq!(&end, b"end");
    let inodes = ["dir/first", "other/second", "third"].map(|name| new(name).ino());
    assert_eq!((inodes[0], inodes[0], new("third").nlink()), (inodes[1], inodes[2], 3));
    assert_eq!(fs::read_link(sample.path("new", "link")).unwrap(), Path::new("/etc/passwd"));
    assert!(new("fifo").file_type().is_fifo());
    for name in ["dir/first", "program", "other", "dir", "link", "fifo", "hole"] {
        let old = one.join(name).symlink_metadata().unwrap();
        assert_eq!(new(name).mode(), old.mode(), "{name}");
        assert_eq!(new(name).modified().unwrap(), old.modified().unwrap(), "{name}");
    }
    assert_eq!(new("dir/first").accessed().unwrap(), long_ago + Duration::from_secs(1));
    assert_eq!(attribute(&sample.path("new", "program"), "user.note"), b"kept");
    assert_eq!(attribute(&sample.path("new", "dir"), "user.note"), b"kept too");
    // So that a plain user's temporary directory can be removed.
    for layer in ["one", "new"] {
        fs::set_permissions(sample.path(layer, "dir"), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn owners_devices_and_capabilities_are_kept() {
    needs!(Root);
    let sample = sample();
    let one = sample.path("one", "");
    make(&one, &["program=", "dir/"]);
    chown(one.join("program"), Some(1234), Some(5678)).unwrap();
    fs::set_permissions(one.join("program"), fs::Permissions::from_mode(0o4755)).unwrap();
    // VFS_CAP_REVISION_2, with CAP_NET_RAW permitted.
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_attribute(&one.join("program"), "security.capability", &capability);
    symlink("nowhere", one.join("link")).unwrap();
    lchown(one.join("link"), Some(1234), Some(5678)).unwrap();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o620);
    mknod(&one.join("device"), SFlag::S_IFCHR, mode, makedev(1, 3)).unwrap();
    // To AuFS a device like any other.
    mknod(&one.join("zero"), SFlag::S_IFCHR, mode, 0).unwrap();
    chown(one.join("dir"), Some(7), Some(8)).unwrap();
    sample.layers.commit("one", "new").unwrap();
    for name in ["program", "link", "device", "zero", "dir"] {
        let [old, new] = ["one", "new"].map(|layer| sample.path(layer, name).symlink_metadata().unwrap());
        let facts = |status: &fs::Metadata| (status.uid(), status.gid(), status.mode(), status.rdev());
        assert_eq!(facts(&old), facts(&new), "{name}");
    }
    assert_eq!(attribute(&sample.path("new", "program"), "security.capability"), capability);
}

#[test]
fn a_container_on_overlayfs_is_committed_in_aufs_s_form() {
    needs!(Root);
    in_mount_namespace(|| {
        let sample = Sample::new(Form::Overlay(Marks::Trusted));
        let place = sample.mount("one");
        fs::write(place.join("etc/motd"), "changed").unwrap();
        fs::write(place.join("etc/hosts"), "127.0.0.1 one\n").unwrap();
        fs::remove_file(place.join("etc/hostname")).unwrap();
        fs::remove_file(place.join("file1")).unwrap();
        fs::remove_dir_all(place.join("dir1")).unwrap();
        fs::create_dir(place.join("dir1")).unwrap();
        sample.layers.commit("one", "new").unwrap();
        assert_eq!(sample.names("new"), [".wh.file1", "dir1/", "dir1/.wh..wh..opq", "etc/", "etc/motd"]);
        for name in ["dir1", "etc", "etc/motd"] {
            assert_eq!(attributes(&sample.path("new", name)), "", "{name}");
        }
        // A container for each of the two sees the same.
        sample.layers.container("two", "new", Form::Aufs).unwrap();
        let two = sample.layers.union("two").unwrap();
        assert_eq!(two.lookup(&two.root().unwrap(), OsStr::new("file1")).unwrap_err(), Errno::ENOENT);
        sample.layers.container("three", "new", Form::Overlay(Marks::Trusted)).unwrap();
        let place = sample.mount("three");
        assert!(!place.join("file1").exists() && names(&place.join("dir1")).is_empty());
        assert!(!names(&place).iter().any(|name| name.contains(".wh.")), "{:?}", names(&place));

        // In a layer this name would delete `motd`.
        fs::write(place.join("etc/.wh.motd"), "").unwrap();
        let error = format!("{:#}", sample.layers.commit("three", "bad").unwrap_err());
        assert!(error.contains("etc/.wh.motd") && error.contains("rename it"), "{error}");
        assert!(!sample.path("bad", "").exists());
    });
}

#[test]
fn a_stack_without_a_store_is_committed_to_a_new_directory_without_unfinished_work() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    make(&at("top"), &["file=1", ".wh.gone=", ".wh..wh.work/7=half a copy", ".wh..wh.plnk/1="]);
    make(&at("bottom"), &["gone="]);
    let open = |name: &str, mode| Branch::open(&at(name), mode).unwrap();
    let union = Union::new(vec![open("top", Mode::ReadWrite), open("bottom", Mode::ReadOnly)]).unwrap();
    commit(&union, Form::Aufs, &at("new")).unwrap();
    assert_eq!(names(&at("new")), [".wh.gone", "file"]);
    let error = format!("{:#}", commit(&union, Form::Aufs, &at("new")).unwrap_err());
    assert!(error.contains("exists"), "{error}");
    symlink("nowhere", at("link")).unwrap();
    assert!(commit(&union, Form::Aufs, &at("link")).is_err());
    let left: Vec<_> =
        names(directory.path()).into_iter().filter(|name| name.starts_with(".partial")).collect();
    assert_eq!(left, [""; 0]);
}
