//! Overlays, mounted in both ways, looked at through the kernel.

mod overlay_support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ch05_layers::overlay::{Marks, Overlay};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::Mode;
use overlay_support::{attributes, device, in_mount_namespace, layer, set_attribute, view};
use testing::{Program, needs};

/// One of the two ways to mount.
type Way = fn(&Overlay, &Path) -> Result<()>;

/// By `lowerdir+`, and by mount(2): the second is what a kernel before 6.8 leaves.
const WAYS: [Way; 2] =
    [|overlay, place| overlay.mount(place), |overlay, place| overlay.mount_by_options(place)];

fn directories<const N: usize>(parent: &Path, names: [&str; N]) -> [PathBuf; N] {
    names.map(|name| layer(&parent.join(name), &[]))
}

fn overlay<'a>(lower: &'a [PathBuf], upper: Option<(&'a Path, &'a Path)>) -> Overlay<'a> {
    Overlay { lower: lower.iter().map(PathBuf::as_path).collect(), upper, marks: Marks::Trusted }
}

/// The error of a mount that must fail, as one line.
#[track_caller]
fn refusal(result: Result<()>) -> String {
    format!("{:#}", result.expect_err("the mount should fail"))
}

#[test]
fn an_upper_name_hides_a_lower_one_and_all_changes_are_in_the_upper_layer() {
    needs!(Root);
    for way in WAYS {
        in_mount_namespace(move |parent| {
            let [upper, work, place] = directories(parent, ["upper", "work", "place"]);
            let lower = [
                layer(&parent.join("1"), &["both=upper one", "directory/1=one"]),
                layer(&parent.join("2"), &["both=lower one", "directory/2=two", "gone="]),
            ];
            way(&overlay(&lower, Some((&upper, &work))), &place).unwrap();
            let merged = ["both=upper one", "directory/", "directory/1=one", "directory/2=two", "gone="];
            assert_eq!(view(&place), merged);

            fs::remove_file(place.join("gone")).unwrap();
            fs::write(place.join("directory/2"), "changed").unwrap();
            assert_eq!(view(&lower[1]), ["both=lower one", "directory/", "directory/2=two", "gone="]);
            assert_eq!(view(&upper), ["directory/", "directory/2=changed", "gone"]);
            let whiteout = fs::symlink_metadata(upper.join("gone")).unwrap();
            assert_eq!((whiteout.mode() & libc::S_IFMT, whiteout.rdev()), (libc::S_IFCHR, 0));
        });
    }
}

#[test]
fn without_an_upper_layer_nothing_can_be_changed() {
    needs!(Root);
    for way in WAYS {
        in_mount_namespace(move |parent| {
            let [place] = directories(parent, ["place"]);
            let lower = ["1", "2"].map(|name| layer(&parent.join(name), &["file="]));
            way(&overlay(&lower, None), &place).unwrap();
            let error = fs::write(place.join("file"), "x").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        });
    }
}

#[test]
fn a_tree_is_in_no_mount_table_until_it_is_attached() {
    needs!(Root);
    in_mount_namespace(|parent| {
        let [place] = directories(parent, ["place"]);
        let lower = ["1", "2"].map(|name| layer(&parent.join(name), &[&format!("file={name}")]));
        let table = || fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let before = table();
        let tree = overlay(&lower, None).tree().unwrap();
        assert_eq!(table(), before);

        let directory = open(&place, OFlag::O_PATH, Mode::empty()).unwrap();
        tree.attach(directory, &place).unwrap();
        assert_eq!(view(&place), ["file=1"]);
        let line = table().lines().find(|line| line.contains(" overlay ")).expect("a line of it").to_string();
        assert!(
            line.contains(place.to_str().unwrap()) && line.contains(lower[0].to_str().unwrap()),
            "{line}"
        );
    });
}

#[test]
fn five_hundred_layers_are_joined_and_one_more_is_refused() {
    needs!(Root);
    in_mount_namespace(|parent| {
        let [upper, work, place] = directories(parent, ["upper", "work", "place"]);
        let number = |number: usize| {
            layer(
                &parent.join(format!("a-layer-with-a-long-name-{number}")),
                &[&format!("own-{number}="), &format!("all={number}")],
            )
        };
        let lower: Vec<PathBuf> = (0..501).map(number).collect();
        overlay(&lower[..500], Some((&upper, &work))).mount(&place).unwrap();
        let names = view(&place);
        assert_eq!(names.len(), 501);
        assert_eq!(names[0], "all=0");

        let error = refusal(overlay(&lower, Some((&upper, &work))).mount(&place));
        assert!(error.contains("501 lower layers") && error.contains("at most 500"), "{error}");
    });
}

#[test]
fn mount_2_takes_many_layers_by_their_descriptors_and_says_when_they_are_too_many() {
    needs!(Root);
    in_mount_namespace(|parent| {
        let [upper, work, place] = directories(parent, ["upper", "work", "place"]);
        let number = |number: usize| {
            layer(&parent.join(format!("layer-{number}-{}", "x".repeat(100))), &[&format!("{number}=")])
        };
        let lower: Vec<PathBuf> = (0..500).map(number).collect();
        overlay(&lower[..200], Some((&upper, &work))).mount_by_options(&place).unwrap();
        assert_eq!(view(&place).len(), 200);

        // Where a page has 64 KiB, the kernel's own limit comes first.
        if nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap() == Some(4096) {
            let error = refusal(overlay(&lower, Some((&upper, &work))).mount_by_options(&place));
            assert!(error.contains("500 lower layers") && error.contains("4096 bytes"), "{error}");
        }
    });
}

#[test]
fn a_layer_may_have_any_path() {
    needs!(Root);
    let long = "x".repeat(200);
    let names =
        [&b"a:b"[..], b"a,b", b"a\\b", b"a\\:b\\", b"a b\nc\"d", b"\xff\xfe", long.as_bytes(), b":", b","];
    for way in WAYS {
        for name in names.map(<[u8]>::to_vec) {
            in_mount_namespace(move |parent| {
                let inside = |directory: &str| parent.join(directory).join(OsStr::from_bytes(&name));
                // The long name twice, so that the path is longer than one setting takes.
                let place = layer(&parent.join("place"), &[]);
                let [upper, work] =
                    ["upper", "work"].map(|part| layer(&inside(part).join(OsStr::from_bytes(&name)), &[]));
                let lower = ["1", "2"]
                    .map(|part| layer(&inside(part).join(OsStr::from_bytes(&name)), &[&format!("{part}=")]));
                way(&overlay(&lower, Some((&upper, &work))), &place).unwrap();
                fs::write(place.join("3"), "").unwrap();
                assert_eq!(view(&place), ["1=", "2=", "3="]);
                assert_eq!(view(&upper), ["3="]);
            });
        }
    }
}

#[test]
fn a_layer_can_not_show_files_under_other_names() {
    needs!(Root);
    for way in WAYS {
        in_mount_namespace(move |parent| {
            let [upper, work, place] = directories(parent, ["upper", "work", "place"]);
            let hostile = layer(&parent.join("1"), &["open/", "copy=12345"]);
            set_attribute(&hostile.join("open"), "trusted.overlay.redirect", b"/closed");
            set_attribute(&hostile.join("copy"), "trusted.overlay.redirect", b"/closed/secret");
            set_attribute(&hostile.join("copy"), "trusted.overlay.metacopy", b"");
            let lower = [hostile, layer(&parent.join("2"), &["closed/secret=54321"])];
            way(&overlay(&lower, Some((&upper, &work))), &place).unwrap();
            // The kernel may show what the layer itself has there, or refuse (EPERM).
            let names = fs::read_dir(place.join("open")).map_or(0, Iterator::count);
            assert_eq!(names, 0, "the directory \"closed\" under another name");
            let content = fs::read_to_string(place.join("copy")).unwrap_or_default();
            assert_ne!(content, "54321", "the file \"closed/secret\" under another name");
        });
    }
}

#[test]
fn the_upper_layer_holds_nothing_that_binds_it_to_this_machine() {
    needs!(Root);
    in_mount_namespace(|parent| {
        let [upper, work, place] = directories(parent, ["upper", "work", "place"]);
        let lower = [layer(&parent.join("lower"), &["directory/file=old", "file=old"])];
        let other = [layer(&parent.join("other"), &["directory/other=other"])];
        overlay(&lower, Some((&upper, &work))).mount(&place).unwrap();
        assert_eq!(attributes(&upper), [""; 0], "nothing after the mount alone");

        let error = fs::rename(place.join("directory"), place.join("moved")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EXDEV), "no redirect");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(place.join("file"), mode).unwrap();
        assert_eq!(fs::read_to_string(upper.join("file")).unwrap(), "old", "the data came with the mode");
        fs::write(place.join("directory/file"), "new").unwrap();
        umount(&place).unwrap();

        // With an index, this would be ESTALE.
        overlay(&other, Some((&upper, &work))).mount(&place).unwrap();
        assert_eq!(view(&place), ["directory/", "directory/file=new", "directory/other=other", "file=old"]);
    });
}

#[test]
fn an_opaque_root_hides_the_layers_below() {
    needs!(Root);
    for way in WAYS {
        in_mount_namespace(move |parent| {
            let [upper, work, place] = directories(parent, ["upper", "work", "place"]);
            let lower = ["1", "2", "3"].map(|name| layer(&parent.join(name), &[&format!("{name}=")]));
            set_attribute(&lower[1], "trusted.overlay.opaque", b"y");
            way(&overlay(&lower, Some((&upper, &work))), &place).unwrap();
            assert_eq!(view(&place), ["1=", "2="]);
        });
    }
}

#[test]
fn what_the_kernel_refuses_is_explained() {
    needs!(Root);
    for way in WAYS {
        in_mount_namespace(move |parent| {
            let [upper, work, place, disk] = directories(parent, ["upper", "work", "place", "disk"]);
            let lower = ["1", "2"].map(|name| layer(&parent.join(name), &[]));
            let refused = |lower: &[PathBuf], upper: Option<(&Path, &Path)>| {
                refusal(way(&overlay(lower, upper), &place))
            };

            let missing = [lower[0].clone(), parent.join("no such layer")];
            let error = refused(&missing, None);
            assert!(error.contains("no such layer") && error.contains("ENOENT"), "{error}");

            let file = parent.join("file");
            fs::write(&file, "").unwrap();
            let error = refused(&[lower[0].clone(), file], None);
            assert!(error.contains("/file\"") && error.contains("ENOTDIR"), "{error}");

            let error = refused(&lower[..1], None);
            assert!(error.contains("two where it is read-only"), "{error}");

            mount(Some("tmpfs"), &disk, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            let [elsewhere] = directories(&disk, ["work"]);
            let error = refused(&lower, Some((&upper, &elsewhere)));
            assert!(error.contains("different file systems") && error.contains("EINVAL"), "{error}");

            let [inside] = directories(&upper, ["inside"]);
            let error = refused(&lower, Some((&upper, &inside)));
            assert!(error.contains("must not hold one another"), "{error}");

            let error = refused(&[lower[0].clone(), lower[0].clone()], Some((&upper, &work)));
            assert!(error.contains("the same directory") && error.contains("ELOOP"), "{error}");

            let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            let [on_disk] = directories(&disk, ["upper"]);
            mount(None::<&str>, &disk, None::<&str>, read_only, None::<&str>).unwrap();
            let error = refused(&lower, Some((&on_disk, &elsewhere)));
            assert!(error.contains("read-only"), "{error}");

            way(&overlay(&lower, Some((&upper, &work))), &place).unwrap();
            let [inner_upper, inner_work, inner_place] = directories(&place, ["upper", "work", "place"]);
            let error = refusal(way(&overlay(&lower, Some((&inner_upper, &inner_work))), &inner_place));
            assert!(error.contains("on an overlay itself"), "{error}");
        });
    }
}

/// Runs this test again as root of a user namespace of the plain user, with a directory that is the user's. Whether we
/// are there.
fn inside_a_user_namespace(test: &str) -> bool {
    if std::env::var_os("HULL_TEST_INSIDE").is_some() {
        return true;
    }
    let home = testing::plain_user_directory();
    let program = home.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let arguments =
        ["--user", "--map-root-user", "--mount", "--", program.to_str().unwrap(), "--exact", test];
    let program = Program::new("unshare").args(arguments).env("HULL_TEST_INSIDE", home.path());
    let output = program.env_remove("HULL_TEST_RECORD").as_plain_user().run();
    assert_eq!(output.code, Some(0), "{output}");
    assert!(output.stdout.contains("1 passed"), "{output}");
    false
}

#[test]
fn a_plain_user_s_overlay_keeps_its_marks_in_user_attributes() {
    needs!(UserNamespaces, Tool("unshare"));
    if !inside_a_user_namespace("a_plain_user_s_overlay_keeps_its_marks_in_user_attributes") {
        return;
    }
    assert_eq!(Marks::of_this_process().unwrap(), Marks::User);
    for way in WAYS {
        in_mount_namespace(move |parent| {
            let [upper, work, place] = directories(parent, ["upper", "work", "place"]);
            let lower = [
                layer(&parent.join("1"), &["opaque/1="]),
                layer(&parent.join("2"), &["opaque/2=", "deleted=", "gone=", "again/2="]),
            ];
            device(&lower[0].join("deleted"));
            set_attribute(&lower[0].join("opaque"), "user.overlay.opaque", b"y");
            let overlay = Overlay { marks: Marks::User, ..overlay(&lower, Some((&upper, &work))) };
            way(&overlay, &place).unwrap();
            assert_eq!(view(&place), ["again/", "again/2=", "gone=", "opaque/", "opaque/1="]);

            fs::remove_file(place.join("gone")).unwrap();
            fs::remove_dir_all(place.join("again")).unwrap();
            fs::create_dir(place.join("again")).unwrap();
            assert_eq!(view(&upper), ["again/", "gone"]);
            assert!(attributes(&upper.join("again")).contains(&"user.overlay.opaque".into()));
        });
    }
}

#[test]
fn root_s_marks_are_trusted_ones() {
    needs!(Root);
    assert_eq!(Marks::of_this_process().unwrap(), Marks::Trusted);
}

#[test]
fn a_kernel_without_the_newer_calls_gets_the_layers_by_mount_2() {
    needs!(Root);
    const TEST: &str = "a_kernel_without_the_newer_calls_gets_the_layers_by_mount_2";
    if std::env::var_os("HULL_TEST_INSIDE").is_none() {
        let home = tempfile::tempdir().unwrap();
        let program = Program::new(std::env::current_exe().unwrap()).args(["--exact", TEST]);
        let program = program.env("HULL_TEST_INSIDE", home.path()).env_remove("HULL_TEST_RECORD");
        let output = program.deny(libc::SYS_fsopen, Errno::ENOSYS).run();
        assert!(output.code == Some(0) && output.stdout.contains("1 passed"), "{output}");
        return;
    }
    in_mount_namespace(|parent| {
        let [upper, work, place] = directories(parent, ["upper", "work", "place"]);
        let lower: Vec<PathBuf> = (0..500)
            .map(|number| layer(&parent.join(format!("layer-{number}")), &[&format!("{number}=")]))
            .collect();
        let error = refusal(overlay(&lower[..2], None).tree().map(drop));
        assert!(error.contains("fsopen") && error.contains("ENOSYS"), "{error}");
        if nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap() == Some(4096) {
            let error = refusal(overlay(&lower, Some((&upper, &work))).mount(&place));
            assert!(error.contains("500 lower layers") && error.contains("kernel from 6.8 on"), "{error}");
        }
        overlay(&lower[..100], Some((&upper, &work))).mount(&place).unwrap();
        assert_eq!(view(&place).len(), 100);
    });
}

#[test]
fn a_kernel_that_does_not_know_lowerdir_plus_gets_the_layers_by_mount_2() {
    needs!(Root);
    const TEST: &str = "a_kernel_that_does_not_know_lowerdir_plus_gets_the_layers_by_mount_2";
    if std::env::var_os("HULL_TEST_INSIDE").is_none() {
        let home = tempfile::tempdir().unwrap();
        let program = Program::new(std::env::current_exe().unwrap()).args(["--exact", TEST]);
        let program = program.env("HULL_TEST_INSIDE", home.path()).env_remove("HULL_TEST_RECORD");
        // From 5.2 to 6.7 the call is there, and takes no such setting.
        let output = program.deny(libc::SYS_fsconfig, Errno::EINVAL).run();
        assert!(output.code == Some(0) && output.stdout.contains("1 passed"), "{output}");
        return;
    }
    in_mount_namespace(|parent| {
        let [upper, work, place] = directories(parent, ["upper", "work", "place"]);
        let lower = ["1", "2"].map(|name| layer(&parent.join(name), &[&format!("{name}=")]));
        overlay(&lower, Some((&upper, &work))).mount(&place).unwrap();
        assert_eq!(view(&place), ["1=", "2="]);
        let error =
            refusal(overlay(&[lower[0].clone(), lower[0].clone()], Some((&upper, &work))).mount(&place));
        assert!(error.contains("ELOOP"), "the second way's refusal is told: {error}");
    });
}
