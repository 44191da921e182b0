//! Id-mapped mounts: the owners of files on both sides of one, and a container whose root is one.

mod forked;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ch01_pid::Spawn;
use ch02_mount::{Attributes, Tree, build_root_on, pivot};
use ch07_privileges::{id_map, user_namespace};
use forked::Forked;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, getegid, geteuid, setgroups, setresgid, setresuid};
use rootfs_builder::Source;
use tempfile::TempDir;
use testing::{PlainUser, needs, process};
use userns::map::{self, IdMap};

tests! {
    files_have_other_owners_through_the_mount_and_the_disk_keeps_its_own,
    mounts_below_are_mapped_with_it_or_keep_their_owners,
    a_file_system_that_cannot_is_named,
    the_hosts_files_are_not_a_plain_users_to_map_but_a_tmpfs_of_its_own_is,
    a_container_has_an_id_mapped_root_that_no_path_leads_to,
}

fn range(inside: u32, outside: u32, count: u32) -> IdMap {
    IdMap { inside, outside, count }
}

/// A directory with a file of each of `owners`, called by the number.
fn files_of(owners: &[u32]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    for owner in owners {
        let file = directory.path().join(owner.to_string());
        File::create(&file).unwrap();
        chown(&file, Some(*owner), Some(owner + 1)).unwrap();
    }
    directory
}

/// Who owns a file: user and group.
fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let metadata = fs::metadata(&path).unwrap_or_else(|error| panic!("{:?}: {error}", path.as_ref()));
    (metadata.uid(), metadata.gid())
}

/// What `path` is to a process.
fn seen_by(process: &Forked, path: &Path) -> PathBuf {
    Path::new(&format!("/proc/{}/root", process.pid())).join(path.strip_prefix("/").unwrap())
}

fn own_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("unshare(CLONE_NEWNS)")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("mount(MS_PRIVATE)")
}

fn attach(tree: &Tree, place: &Path) -> Result<()> {
    tree.attach(File::open(place)?, place)
}

fn files_have_other_owners_through_the_mount_and_the_disk_keeps_its_own() {
    needs!(Root);
    let (disk, place) = (files_of(&[0, 7, 5000]), tempfile::tempdir().unwrap());
    let mut inside = Forked::start(|life| {
        own_mounts()?;
        // 0 to 99 on the disk; the groups elsewhere than the users.
        let tree = id_map::copy_with_maps(
            disk.path(),
            false,
            &[range(0, 200_000, 10), range(10, 300_000, 90)],
            &[range(0, 400_000, 100)],
        )?;
        attach(&tree, place.path())?;
        setgroups(&[])?;
        setresgid(Gid::from_raw(400_003), Gid::from_raw(400_003), Gid::from_raw(400_003))?;
        setresuid(Uid::from_raw(300_005), Uid::from_raw(300_005), Uid::from_raw(300_005))?;
        File::create(place.path().join("made"))?;
        life.say("made");
        setresuid_refused(&place.path().join("0"))?;
        life.say("refused");
        Ok(())
    });
    assert_eq!(inside.line(), "made");
    let mounted = seen_by(&inside, place.path());
    assert_eq!(owner(mounted.join("0")), (200_000, 400_001));
    assert_eq!(owner(mounted.join("7")), (200_007, 400_008));
    assert_eq!(owner(mounted.join("5000")), (65534, 65534), "no range has it");
    assert_eq!(owner(mounted.join("made")), (300_005, 400_003));
    assert_eq!(owner(disk.path().join("0")), (0, 1));
    assert_eq!(owner(disk.path().join("7")), (7, 8));
    assert_eq!(owner(disk.path().join("made")), (15, 3), "what 300005 makes is of 15 on the disk");
    assert_eq!(inside.line(), "refused");
}

/// A file of another user is as closed as ever.
fn setresuid_refused(file: &Path) -> Result<()> {
    let error = File::options().write(true).open(file).map(drop).unwrap_err();
    anyhow::ensure!(error.raw_os_error() == Some(libc::EACCES), "{file:?}: {error}");
    Ok(())
}

fn mounts_below_are_mapped_with_it_or_keep_their_owners() {
    needs!(Root);
    let (disk, all, top) = (files_of(&[0]), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let below = disk.path().join("below");
    fs::create_dir(&below).unwrap();
    let mut inside = Forked::start(|life| {
        own_mounts()?;
        attach(&Tree::new("tmpfs", &[], Attributes::NONE)?, &below)?;
        let namespace = user_namespace::with_maps(&[range(0, 200_000, 10)], &[range(0, 200_000, 10)])?;
        attach(&id_map::copy(disk.path(), true, namespace.as_fd())?, all.path())?;
        let mut tree = Tree::copy(disk.path(), true)?;
        id_map::apply(&mut tree, namespace.as_fd(), false)?;
        attach(&tree, top.path())?;
        life.say("ready");
        // A mount takes one map, and the host's own is none.
        let error = id_map::apply(&mut tree, namespace.as_fd(), false).unwrap_err();
        life.say(format!("{:?} {error:#}", error.root_cause().downcast_ref::<Errno>()));
        let own = File::open("/proc/self/ns/user")?;
        let error = id_map::copy(disk.path(), false, own.as_fd()).unwrap_err();
        life.say(format!("{:?} {error:#}", error.root_cause().downcast_ref::<Errno>()));
        Ok(())
    });
    assert_eq!(inside.line(), "ready");
    let seen = |path: &TempDir, name: &str| owner(seen_by(&inside, path.path()).join(name));
    assert_eq!((seen(&all, "0").0, seen(&all, "below").0), (200_000, 200_000));
    assert_eq!((seen(&top, "0").0, seen(&top, "below").0), (200_000, 0));
    assert!(inside.line().starts_with("Some(E"), "a second map is refused");
    let refusal = inside.line();
    assert!(refusal.starts_with("Some(EPERM)") && refusal.contains("never the host's own"), "{refusal}");
}

fn a_file_system_that_cannot_is_named() {
    needs!(Root);
    let mut inside = Forked::start(|life| {
        own_mounts()?;
        for path in ["/proc", "/sys"] {
            let maps = [range(0, 200_000, 10)];
            let error = id_map::copy_with_maps(Path::new(path), false, &maps, &maps).unwrap_err();
            life.say(format!("{:?} {error:#}", error.root_cause().downcast_ref::<Errno>()));
        }
        Ok(())
    });
    for (path, name) in [("/proc", "proc"), ("/sys", "sysfs")] {
        let refusal = inside.line();
        let expected = format!(
            "Some(EINVAL) mount_setattr {path:?} (id-mapped): this kernel can't id-map its file system, {name};"
        );
        assert!(refusal.starts_with(&expected), "{refusal}");
    }
}

fn the_hosts_files_are_not_a_plain_users_to_map_but_a_tmpfs_of_its_own_is() {
    needs!(UserNamespaces);
    let disk = testing::plain_user_directory();
    let place = testing::plain_user_directory();
    let mut inside = Forked::as_plain_user(|life| {
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        unshare(CloneFlags::CLONE_NEWUSER)?;
        map::write_single(user, group)?;
        own_mounts()?;
        let maps = [range(0, 0, 1)];
        let error = id_map::copy_with_maps(disk.path(), false, &maps, &maps).unwrap_err();
        life.say(format!("{:?} {error:#}", error.root_cause().downcast_ref::<Errno>()));
        // On it, 7 is root; and its files of 0 are nobody's.
        let maps = [range(7, 0, 1)];
        let namespace = user_namespace::with_maps(&maps, &maps)?;
        let mut tree = Tree::new("tmpfs", &[], Attributes::NONE)?;
        match id_map::apply(&mut tree, namespace.as_fd(), false) {
            Ok(()) => {
                attach(&tree, place.path())?;
                life.say("mapped");
            }
            Err(error) => life.say(format!("{error:#}")),
        }
        Ok(())
    });
    let refusal = inside.line();
    assert!(refusal.starts_with("Some(EPERM)") && refusal.contains("root over the host"), "{refusal}");
    match inside.line().as_str() {
        "mapped" => assert_eq!(owner(seen_by(&inside, place.path())), (65534, 65534)),
        refusal => assert!(refusal.contains("tmpfs, which can be from Linux 6.3 on"), "{refusal}"),
    }
    let user = PlainUser::get();
    assert_eq!(owner(disk.path()), (user.uid.as_raw(), user.gid.as_raw()));
}

fn a_container_has_an_id_mapped_root_that_no_path_leads_to() {
    needs!(Root);
    let closed = tempfile::tempdir().unwrap();
    let root = closed.path().join("root");
    rootfs_builder::build(Source::Auto, &root).expect("build a root file system");
    // Closed to all but the host's root; the container's is somebody else.
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let maps = [range(0, 200_000, 65536)];
    let mut keel = Forked::start(|life| {
        // As on a machine with systemd: what is mounted in one namespace appears in the others.
        own_mounts()?;
        attach(&Tree::copy(&root, false)?, &root)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>)?;
        let before = process::mount_points(std::process::id() as i32);
        let tree = id_map::copy_with_maps(&root, false, &maps, &maps)?;
        let namespaces = CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET;
        let held = Spawn::new().namespaces(namespaces).keep([tree.as_fd()]).start(|_| {
            setgroups(&[])?;
            setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?;
            setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))?;
            forked::dies_with_parent();
            build_root_on(|| pivot::attach_prepared(&tree), &[], false)?;
            let script = "touch /made; exec sleep 600";
            Ok(ch00_chroot::exec(
                &["sh", "-c", script].map(Into::into),
                &ch00_chroot::exec::clean_environment(),
            )?)
        })?;
        map::write_for(held.pid(), &maps, &maps)?;
        let child = held.release(None)?;
        life.say(child.pid());
        life.say(process::mount_points(std::process::id() as i32) == before);
        life.wait();
        Ok(())
    });
    let line = keel.line();
    let child: i32 = line.parse().unwrap_or_else(|_| panic!("{line}"));
    assert_eq!(keel.line(), "true", "the host has no mount more than before");
    let inside = PathBuf::from(format!("/proc/{child}/root"));
    testing::poll(std::time::Duration::from_secs(30), || inside.join("made").exists().then_some(()));
    assert_eq!(process::status(child, "Uid").unwrap(), "200000 200000 200000 200000");
    // The kernel's own view of the container's files, and that of the disk.
    for name in ["etc", "made"] {
        assert_eq!(owner(inside.join(name)), (200_000, 200_000), "{name}");
        assert_eq!(owner(root.join(name)), (0, 0), "{name}");
    }
    let points = process::mount_points(child);
    assert_eq!(points[0], "/", "{points:?}");
    assert!(!points.iter().any(|point| point.contains("root")), "{points:?}");
    let table = fs::read_to_string(format!("/proc/{child}/mountinfo")).unwrap();
    let options = table.lines().next().unwrap().split(' ').nth(5).unwrap().to_string();
    assert!(options.split(',').any(|option| option == "idmapped"), "{table}");
    keel.go();
}
