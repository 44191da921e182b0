//! Layers that nobody made with good intentions: a clear error, and nothing outside of the stack is read or
//! changed.

mod union_stack;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use ch05_layers::union::{Found, Make};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, mknod};
use union_stack::Stack;

#[test]
fn a_symlink_where_a_directory_is_expected_is_not_followed() {
    let stack = Stack::new(3);
    for (branch, target) in [(1, stack.outside()), (2, "../outside".into())] {
        symlink(target, stack.path(branch, &format!("d{branch}"))).unwrap();
    }
    stack.put(2, "d1/f", "");
    let before = stack.untouchable();
    for name in ["d1", "d2"] {
        assert_eq!(stack.names(name), Err(Errno::ENOTDIR));
        assert_eq!(stack.read(&format!("{name}/secret")), Err(Errno::ENOTDIR));
        assert_eq!(stack.create(&format!("{name}/new")), Err(Errno::ENOTDIR));
        assert_eq!(stack.remove(&format!("{name}/secret")), Err(Errno::ENOTDIR));
        assert_eq!(stack.rmdir(name), Err(Errno::ENOTDIR));
    }
    assert_eq!(stack.untouchable(), before);
}

#[test]
fn a_directory_that_becomes_a_symlink_while_in_use_leads_nowhere() {
    let mut stack = Stack::new(2);
    stack.put(0, "d/f", "");
    stack.put(1, "d/f", "");
    stack.put(1, "d/g", "");
    for branch in [0, 1] {
        let directory = stack.union.walk(Path::new("d")).unwrap();
        fs::rename(stack.path(branch, "d"), stack.path(branch, "moved")).unwrap();
        symlink(stack.outside(), stack.path(branch, "d")).unwrap();
        let before = stack.untouchable();
        let union = &stack.union;
        let (secret, new) = (OsStr::new("secret"), OsStr::new("new"));
        assert_eq!(union.lookup(&directory, secret).unwrap_err(), Errno::ESTALE);
        assert_eq!(union.enter(&directory, secret).unwrap_err(), Errno::ESTALE);
        assert_eq!(union.list(&directory), Err(Errno::ESTALE));
        let made = union.make(&directory, new, &Make::Directory, 0o755, union_stack::myself());
        assert_eq!(made.unwrap_err(), Errno::ESTALE);
        assert_eq!(union.remove(&directory, secret), Err(Errno::ESTALE));
        assert_eq!(union.prepare(branch, &directory.child(secret), None).unwrap_err(), Errno::ELOOP);
        assert_eq!(stack.untouchable(), before);
        fs::remove_file(stack.path(branch, "d")).unwrap();
        fs::rename(stack.path(branch, "moved"), stack.path(branch, "d")).unwrap();
        stack.reopen();
        stack.claim();
    }
}

#[test]
fn a_symlink_at_the_name_of_the_file_is_opened_as_itself_alone() {
    let stack = Stack::new(2);
    symlink(stack.outside().join("secret"), stack.path(1, "f")).unwrap();
    let before = stack.untouchable();
    let open = stack.union.open(1, Path::new("f"), nix::fcntl::OFlag::O_RDONLY);
    assert_eq!(open.unwrap_err(), Errno::ELOOP);
    stack.copy_up("f").unwrap();
    assert!(stack.path(0, "f").is_symlink());
    stack.rename("f", "g", 0).unwrap();
    stack.link("g", "h").unwrap();
    stack.remove("g").unwrap();
    assert_eq!(stack.untouchable(), before);
}

#[test]
fn names_that_no_layer_may_have_are_an_error_of_their_directory() {
    for name in [".wh.", ".wh..", ".wh..."] {
        let stack = Stack::new(2);
        stack.put(1, &format!("d/{name}"), "");
        stack.put(1, "d/f", "");
        stack.put(1, "e/f", "");
        let before = stack.untouchable();
        assert_eq!(stack.names("d"), Err(Errno::EIO), "{name}");
        assert_eq!(stack.rmdir("d"), Err(Errno::EIO), "{name}");
        assert_eq!(stack.read(&format!("d/{name}")), Err(Errno::ENOENT), "{name}");
        assert_eq!(stack.names("e").unwrap(), ["f"], "{name} hides neither its directory nor the one above");
        assert_eq!(stack.names("").unwrap(), ["d", "e"]);
        assert_eq!(stack.untouchable(), before);
    }
}

#[test]
fn a_whiteout_that_is_no_regular_file_is_an_error_and_neither_shows_nor_hides() {
    let kinds: [fn(&Path); 4] = [
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("/etc", path).unwrap(),
        |path| mknod(path, SFlag::S_IFIFO, Mode::S_IRUSR, 0).unwrap(),
        // overlayfs's own whiteout, under AuFS's name.
        |path| mknod(path, SFlag::S_IFCHR, Mode::S_IRUSR, 0).unwrap(),
    ];
    for make in kinds {
        for (at, name) in [(".wh.f", "f"), ("f/.wh..wh..opq", "f/x")] {
            let stack = Stack::new(2);
            if at.starts_with("f/") {
                stack.put_directory(0, "f");
                stack.put(1, "f/x", "");
            } else {
                stack.put(1, "f", "");
            }
            make(&stack.path(0, at));
            let before = stack.untouchable();
            assert_eq!(stack.read(name), Err(Errno::EIO));
            assert_eq!(stack.read(at).unwrap_err(), if at == ".wh.f" { Errno::ENOENT } else { Errno::EIO });
            assert_eq!(stack.remove(name), Err(Errno::EIO));
            let listed = stack.names(if at == ".wh.f" { "" } else { "f" });
            assert_eq!(listed, Err(Errno::EIO));
            let verdicts = stack.union.explain(Path::new(name)).unwrap();
            assert_eq!(verdicts[0].found, Found::Failed(Errno::EIO));
            assert_eq!(stack.untouchable(), before);
        }
    }
}

#[test]
fn a_file_system_mounted_in_a_branch_is_not_entered() {
    testing::needs!(Root);
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    // This thread alone gets a mount table of its own; it ends with the thread.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let stack = Stack::new(2);
    stack.put_directory(1, "d");
    let directory = stack.union.walk(Path::new("d")).unwrap();
    mount(Some("tmpfs"), &stack.path(1, "d"), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    stack.put(1, "d/f", "");
    assert_eq!(stack.read("d/f"), Err(Errno::EXDEV));
    assert_eq!(stack.union.lookup(&directory, OsStr::new("f")).unwrap_err(), Errno::EXDEV);
    assert_eq!(stack.union.list(&directory), Err(Errno::EXDEV));
    nix::mount::umount(&stack.path(1, "d")).unwrap();
}

#[test]
fn a_device_or_fifo_of_a_layer_is_never_opened_by_a_copy_up() {
    let stack = Stack::new(2);
    // Opening it for reading would wait for a writer, for ever.
    mknod(&stack.path(1, "fifo"), SFlag::S_IFIFO, Mode::S_IRUSR, 0).unwrap();
    stack.copy_up("fifo").unwrap();
    stack.rename("fifo", "moved", 0).unwrap();
    assert_eq!(stack.names("").unwrap(), ["moved"]);
}

#[test]
fn a_name_that_is_none_is_refused() {
    let stack = Stack::new(2);
    stack.put(1, "d/f", "");
    let before = stack.untouchable();
    let directory = stack.union.raise(Path::new("d")).unwrap();
    let union = &stack.union;
    for name in ["", ".", "..", "../outside", "/etc", "x/y"].map(OsStr::new) {
        assert_eq!(union.lookup(&directory, name).unwrap_err(), Errno::EINVAL);
        assert_eq!(union.enter(&directory, name).unwrap_err(), Errno::EINVAL);
        assert_eq!(union.remove(&directory, name), Err(Errno::EINVAL));
        assert_eq!(union.remove_directory(&directory, name), Err(Errno::EINVAL));
        let made = union.make(&directory, name, &Make::Directory, 0o755, union_stack::myself());
        assert_eq!(made.unwrap_err(), Errno::EINVAL);
        assert_eq!(union.rename(&directory, OsStr::new("f"), &directory, name, 0), Err(Errno::EINVAL));
    }
    assert_eq!(union.walk(Path::new("d/../../outside")), Err(Errno::EINVAL));
    assert_eq!(union.explain(Path::new("d/../..")), Err(Errno::EINVAL));
    assert_eq!(stack.untouchable(), before);
}

#[test]
fn a_name_of_4000_bytes_is_too_long_for_every_operation() {
    let stack = Stack::new(2);
    stack.put(1, "f", "");
    let name = "n".repeat(4000);
    assert_eq!(stack.read(&name), Err(Errno::ENAMETOOLONG));
    assert_eq!(stack.names(&name), Err(Errno::ENAMETOOLONG));
    assert_eq!(stack.create(&name), Err(Errno::ENAMETOOLONG));
    assert_eq!(stack.remove(&name), Err(Errno::ENAMETOOLONG));
    assert_eq!(stack.rename("f", &name, 0), Err(Errno::ENAMETOOLONG));
    assert_eq!(stack.link("f", &name), Err(Errno::ENAMETOOLONG));
}

#[test]
fn names_that_are_no_text_are_names() {
    let stack = Stack::new(2);
    let name = OsStr::from_bytes(b"\xff\n\x01\\'");
    fs::write(stack.path(1, "").join(name), "lower").unwrap();
    let root = stack.union.raise(Path::new("")).unwrap();
    assert_eq!(stack.union.list(&root).unwrap()[0].name, name);
    stack.union.remove(&root, name).unwrap();
    assert_eq!(stack.union.list(&root).unwrap().len(), 0);
}

/// A path of 100 names of 200 bytes is longer than a system call takes (4,096).
#[test]
fn a_path_deeper_than_a_system_call_takes_is_reached_in_pieces() {
    let stack = Stack::new(2);
    let mut path = String::new();
    for number in 0..100 {
        path = format!("{path}/{number:0200}");
        stack.mkdir(&path).unwrap();
    }
    stack.create(&format!("{path}/file")).unwrap();
    assert_eq!(stack.read(&format!("{path}/file")).unwrap(), "");
    assert_eq!(stack.names(&path).unwrap(), ["file"]);
    stack.remove(&format!("{path}/file")).unwrap();
    stack.rmdir(&path).unwrap();
}

#[test]
fn a_branch_that_is_removed_while_in_use_is_an_error_and_no_other_is_changed() {
    let stack = Stack::new(3);
    stack.put(1, "d/one", "");
    stack.put(2, "d/two", "");
    let directory = stack.union.raise(Path::new("d")).unwrap();
    fs::remove_dir_all(stack.path(1, "")).unwrap();
    let before = stack.untouchable();
    assert_eq!(stack.union.list(&directory), Err(Errno::ESTALE));
    assert_eq!(stack.read("d/one"), Err(Errno::ENOENT));
    assert_eq!(stack.read("d/two").unwrap(), "");
    fs::remove_dir_all(stack.path(0, "")).unwrap();
    let made =
        |name| stack.union.make(&directory, OsStr::new(name), &Make::Directory, 0o755, union_stack::myself());
    assert_eq!(made("new").unwrap_err(), Errno::ESTALE);
    assert_eq!(stack.union.remove(&directory, OsStr::new("two")), Err(Errno::ESTALE));
    assert_eq!(stack.create("new"), Err(Errno::ESTALE));
    assert_eq!(stack.copy_up("d/two"), Err(Errno::ESTALE));
    assert_eq!(stack.untouchable(), before);
}
