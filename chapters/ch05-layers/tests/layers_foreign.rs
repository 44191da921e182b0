//! What is not the store's: other users' directories, other file systems, names that others chose, and trees
//! that are made to be in the way. None of it is touched, and none of it stops the store.

mod layers_support;

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ch05_layers::layers::{Layers, commit};
use ch05_layers::overlay::{Form, Marks};
use ch05_layers::{Branch, Mode, Union};
use layers_support::{attributes, filled, in_mount_namespace, make, names, set_attribute};
use nix::fcntl::{Flock, FlockArg, OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{self, SFlag, mkdirat, mknod};
use testing::{Program, needs, poll};

/// Where a test's second process works.
const INSIDE: &str = "HULL_TEST_INSIDE";

fn inside() -> Option<PathBuf> {
    std::env::var_os(INSIDE).map(PathBuf::from)
}

fn refusal<T: std::fmt::Debug>(result: anyhow::Result<T>) -> String {
    format!("{:#}", result.unwrap_err())
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A store in a temporary directory, with a layer `base`.
fn store() -> (tempfile::TempDir, PathBuf, Layers) {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let layers = Layers::open(&store).unwrap();
    layers.add_with("base", None, filled(&["file=1", "mounted/", "dir/x="])).unwrap();
    (directory, store, layers)
}

#[test]
fn a_store_that_others_own_or_may_write_to_is_refused_and_no_link_in_it_is_followed() {
    needs!(Root);
    let directory = tempfile::tempdir().unwrap();
    let [store, outside] = ["store", "outside"].map(|name| directory.path().join(name));
    make(directory.path(), &["store/layers.lock=", "outside/a/b="]);
    symlink(&outside, store.join("diff")).unwrap();
    chown(&store, Some(1000), Some(1000)).unwrap();
    let error = refusal(Layers::open(&store));
    assert!(error.contains("belongs to user 1000"), "{error}");
    chown(&store, Some(0), Some(0)).unwrap();
    for open in [0o777, 0o1777, 0o770] {
        set_mode(&store, open);
        let error = refusal(Layers::open(&store));
        assert!(error.contains("others may write") && error.contains("chmod 700"), "{error}");
    }
    assert_eq!(names(&outside), ["a/", "a/b"]);
    assert_eq!(names(&store), ["diff", "layers.lock"]);
}

#[test]
fn an_empty_directory_that_becomes_a_store_is_closed_to_others() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    fs::create_dir(&store).unwrap();
    set_mode(&store, 0o755);
    Layers::open(&store).unwrap();
    assert_eq!(mode(&store), 0o700);
}

#[test]
fn what_is_mounted_in_a_layer_is_not_removed_with_it() {
    needs!(Root);
    in_mount_namespace(|| {
        let (directory, store, layers) = store();
        let outside = directory.path().join("outside");
        make(&outside, &["precious=", "inner/precious="]);
        let place = store.join("diff/base/mounted");
        mount(Some(&outside), &place, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let error = refusal(layers.remove("base"));
        assert!(error.contains("/mounted\"") && error.contains("unmount it"), "{error}");
        assert!(Layers::open(&store).is_err(), "a sweep comes upon it");
        assert_eq!(names(&outside), ["inner/", "inner/precious", "precious"]);
        umount2(&place, MntFlags::MNT_DETACH).unwrap();
        Layers::open(&store).unwrap();
        assert_eq!(names(&store.join("diff")), [""; 0]);
        assert_eq!(names(&outside), ["inner/", "inner/precious", "precious"]);
    });
}

#[test]
fn a_tree_that_is_deeper_than_a_process_may_have_files_open_is_removed() {
    const TEST: &str = "a_tree_that_is_deeper_than_a_process_may_have_files_open_is_removed";
    let Some(place) = inside() else {
        let place = tempfile::tempdir().unwrap();
        let program = std::env::current_exe().unwrap();
        let script = "ulimit -n 100 && exec \"$0\" --exact \"$1\"";
        let arguments = ["-c", script, program.to_str().unwrap(), TEST].map(OsString::from);
        let program = Program::new("sh").args(arguments).env(INSIDE, place.path());
        let output = program.env_remove("HULL_TEST_RECORD").run();
        assert!(output.code == Some(0) && output.stdout.contains("1 passed"), "{output}");
        return;
    };
    let deep = |layer: &Path| {
        let mut directory = OwnedFd::from(File::open(layer)?);
        for _ in 0..300 {
            mkdirat(&directory, "d", stat::Mode::S_IRWXU)?;
            directory = openat(&directory, "d", OFlag::O_DIRECTORY, stat::Mode::empty())?;
        }
        Ok(())
    };
    let layers = Layers::open(&place.join("store")).unwrap();
    layers.add_with("deep", None, deep).unwrap();
    layers.remove("deep").unwrap();
    let failed = layers.add_with("deep", None, |layer| deep(layer).and_then(|()| anyhow::bail!("no more")));
    assert!(refusal(failed).contains("no more"));
    assert_eq!(names(&place.join("store/diff")), [""; 0]);
}

#[test]
fn what_others_call_as_we_call_our_own_is_left_alone() {
    needs!(Root);
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    make(directory.path(), &["top/file=", ".partial-layer-1=", ".partial-layer-2/theirs="]);
    chown(at(".partial-layer-2"), Some(1000), Some(1000)).unwrap();
    symlink("/", at(".partial-layer-3")).unwrap();
    mknod(&at(".partial-layer-4"), SFlag::S_IFIFO, stat::Mode::S_IRWXU, 0).unwrap();
    let union = Union::new(vec![Branch::open(&at("top"), Mode::ReadWrite).unwrap()]).unwrap();
    commit(&union, Form::Aufs, &at("new")).unwrap();
    assert_eq!(
        names(directory.path()),
        [
            ".partial-layer-1",
            ".partial-layer-2/",
            ".partial-layer-2/theirs",
            ".partial-layer-3",
            ".partial-layer-4",
            "new/",
            "new/file",
            "top/",
            "top/file"
        ]
    );
}

#[test]
fn what_can_not_be_looked_at_is_not_taken_for_gone() {
    needs!(PlainUser);
    let Some(place) = inside() else {
        let home = testing::plain_user_directory();
        let program = home.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let program =
            Program::new(program).args(["--exact", "what_can_not_be_looked_at_is_not_taken_for_gone"]);
        let output = program.env(INSIDE, home.path()).env_remove("HULL_TEST_RECORD").as_plain_user().run();
        assert!(output.code == Some(0) && output.stdout.contains("1 passed"), "{output}");
        return;
    };
    let store = place.join("store");
    Layers::open(&store).unwrap().add_with("base", None, filled(&["file="])).unwrap();
    // Its names can be read, and not what they stand for.
    set_mode(&store.join("layers"), 0o600);
    let error = refusal(Layers::open(&store));
    assert!(error.contains("stat") && error.contains("layers/base"), "{error}");
    set_mode(&store.join("layers"), 0o700);
    assert_eq!(names(&store.join("diff")), ["base/", "base/file"]);
}

#[test]
fn an_access_list_that_a_directory_hands_down_is_no_part_of_a_layer() {
    let directory = tempfile::tempdir().unwrap();
    // posix_acl_xattr.h: version 2; then tag, permissions and id of each entry. User 1000 may do all.
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let entries = [(1, 7, u32::MAX), (2, 7, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)];
    let list = entries.map(|(tag, permissions, id)| entry(tag, permissions, id)).concat();
    let list = [&2_u32.to_le_bytes()[..], &list].concat();
    set_attribute(directory.path(), "system.posix_acl_default", &list);
    fs::create_dir(directory.path().join("inherits")).unwrap();
    assert!(attributes(&directory.path().join("inherits")).contains("posix_acl_access"));

    let content = tempfile::tempdir().unwrap();
    make(content.path(), &["file=", "dir/x="]);
    let store = directory.path().join("store");
    let layers = Layers::open(&store).unwrap();
    layers.add("base", None, content.path()).unwrap();
    layers.container("one", "base", Form::Aufs).unwrap();
    let union = Union::new(vec![Branch::open(content.path(), Mode::ReadWrite).unwrap()]).unwrap();
    commit(&union, Form::Aufs, &directory.path().join("new")).unwrap();
    for path in ["store/diff/base", "store/diff/one", "store/diff/one-init/etc", "new"] {
        for inner in ["", "file", "dir", "dir/x"] {
            let path = directory.path().join(path).join(inner);
            if path.exists() {
                assert_eq!(attributes(&path), "", "{path:?}");
            }
        }
    }
}

#[test]
fn a_parent_that_was_made_again_on_others_meanwhile_is_refused() {
    let (_directory, store, layers) = store();
    layers.add_with("below", None, filled(&["below="])).unwrap();
    let error = refusal(layers.add_with("top", Some("base"), |_| {
        let another = Layers::open(&store)?;
        another.remove("base")?;
        another.add_with("base", Some("below"), filled(&["another="]))
    }));
    assert!(error.contains("removed meanwhile"), "{error}");
    assert_eq!(layers.list().unwrap(), ["base", "below"]);
}

#[test]
fn what_only_one_of_the_two_unions_takes_for_a_mark_is_refused_and_nothing_is_left() {
    needs!(Root);
    let device = |layer: &Path| mknod(&layer.join("dir"), SFlag::S_IFCHR, stat::Mode::S_IRUSR, 0).unwrap();
    let opaque = |layer: &Path| {
        make(layer, &["dir/new="]);
        set_attribute(&layer.join("dir"), "trusted.overlay.opaque", b"y");
    };
    let redirect = |layer: &Path| {
        make(layer, &["dir/new="]);
        set_attribute(&layer.join("dir/new"), "trusted.overlay.redirect", b"/file");
    };
    let no_whiteout = |layer: &Path| make(layer, &[".wh.dir/"]);
    for hostile in [device as fn(&Path), opaque, redirect, no_whiteout] {
        let (_directory, store, layers) = store();
        let fill = |layer: &Path| {
            hostile(layer);
            Ok(())
        };
        layers.add_with("top", Some("base"), fill).unwrap();
        let before = names(&store);
        let error = refusal(layers.container("one", "top", Form::Overlay(Marks::Trusted)));
        assert!(error.contains("dir"), "{error}");
        assert_eq!(names(&store), before);
        layers.container("one", "top", Form::Aufs).unwrap();
    }
}

#[test]
fn a_container_that_can_not_be_made_leaves_nothing() {
    let (_directory, store, layers) = store();
    // The union answers EIO for `etc`, where the init layer's files go.
    layers.add_with("top", Some("base"), filled(&[".wh.etc/"])).unwrap();
    let before = names(&store);
    let error = refusal(layers.container("one", "top", Form::Aufs));
    assert!(error.contains("/etc/resolv.conf") && error.contains("EIO"), "{error}");
    assert_eq!(names(&store), before);
    assert_eq!(layers.list().unwrap(), ["base", "top"]);
}

#[test]
fn the_store_is_not_locked_while_a_layer_is_converted() {
    let (_directory, store, layers) = store();
    layers.add_with("top", Some("base"), filled(&[".wh.file="])).unwrap();
    let lock = Flock::lock(File::open(store.join("layers.lock")).unwrap(), FlockArg::LockExclusive).unwrap();
    thread::scope(|scope| {
        let container = scope.spawn(|| layers.container("one", "top", Form::Overlay(Marks::User)));
        // The copy is converted, and waits for the lock.
        poll(Duration::from_secs(20), || {
            let made = fs::read_dir(store.join("user.overlay")).unwrap().map(|entry| entry.unwrap().path());
            let device = |path: PathBuf| path.join("content/diff/file").symlink_metadata().ok();
            made.filter_map(device).next()
        });
        assert_eq!(names(&store.join("mnt")), [""; 0]);
        drop(lock);
        container.join().unwrap().unwrap();
    });
    assert_eq!(names(&store.join("user.overlay/top")), ["diff/", "diff/file"]);
    // The next container finds it made.
    let inode = || store.join("user.overlay/top").metadata().unwrap().ino();
    let before = inode();
    layers.container("two", "top", Form::Overlay(Marks::User)).unwrap();
    assert_eq!(inode(), before);
}
