//! Layers converted between AuFS's form and overlayfs's: the kernel's overlayfs judges the one, tar(1) both.

mod overlay_support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ch05_layers::overlay::convert::{to_aufs, to_overlay};
use ch05_layers::overlay::{Form, Mark, Marks, Overlay, marks};
use nix::mount::{MsFlags, mount};
use overlay_support::{
    archive, assert_same, attributes, device, in_mount_namespace, layer, set_attribute, view,
};
use testing::{Program, needs};

/// One of the two directions.
type Convert = fn(&Path, Marks) -> anyhow::Result<()>;

const BOTH: [Marks; 2] = [Marks::Trusted, Marks::User];

/// What the kernel shows of layers, the top one first, in a mount namespace of its own.
fn kernel_s_view(layers: &[&Path], marks: Marks) -> Vec<String> {
    let place = tempfile::tempdir().unwrap();
    Overlay { lower: layers.to_vec(), upper: None, marks }.mount(place.path()).unwrap();
    let view = view(place.path());
    nix::mount::umount(place.path()).unwrap();
    view
}

/// Sets the time of last change of each path, the deepest first, to times that no clock gives today.
fn age(paths: &[PathBuf]) {
    for (number, path) in paths.iter().enumerate().rev() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000 + number as u64, 123_456_789);
        File::open(path).unwrap().set_modified(time).unwrap();
    }
}

/// A layer with one of everything, in AuFS's form.
fn full_layer(directory: &Path, owner: bool) -> PathBuf {
    let files = [
        "file=content",
        "empty=",
        ".wh.gone=",
        "directory/.wh.deep=",
        "directory/.wh.a name\n=",
        "directory/inner/.wh..wh..opq=",
        "directory/inner/new=new",
        "empty directory/",
        "other/.wh..wh..opq=",
        "other/.wh.below=",
        "other/kept/.wh..hidden=",
    ];
    let layer = layer(directory, &files);
    fs::hard_link(layer.join("file"), layer.join("directory/link")).unwrap();
    symlink("../../outside", layer.join("directory/symlink")).unwrap();
    nix::unistd::mkfifo(&layer.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    set_attribute(&layer.join("file"), "user.note", b"kept \0 as it is");
    set_attribute(&layer.join("directory"), "user.note", b"");
    for (file, mode) in
        [(".wh.gone", 0o444), ("directory/.wh.deep", 0o4751), ("other/.wh..wh..opq", 0o600), ("other", 0o700)]
    {
        fs::set_permissions(layer.join(file), fs::Permissions::from_mode(mode)).unwrap();
    }
    if owner {
        for (number, file) in [".wh.gone", "directory/inner/.wh..wh..opq", "other", "fifo"].iter().enumerate()
        {
            chown(layer.join(file), Some(1000 + number as u32), Some(7)).unwrap();
        }
    }
    let mut paths: Vec<PathBuf> =
        files.iter().map(|file| layer.join(file.split('=').next().unwrap())).collect();
    paths.splice(
        0..0,
        ["", "directory", "directory/inner", "other", "other/kept"].map(|path| layer.join(path)),
    );
    age(&paths);
    layer
}

#[test]
fn the_kernel_hides_what_the_wh_files_hid() {
    needs!(Root);
    for marks in BOTH {
        in_mount_namespace(move |parent| {
            let lower = layer(
                &parent.join("lower"),
                &[
                    "gone=",
                    "stays=",
                    "directory/deep=",
                    "directory/inner/old=",
                    "other/below=",
                    "again/old=",
                    "tree/a/b=",
                ],
            );
            let upper = layer(
                &parent.join("upper"),
                &[
                    ".wh.gone=",
                    ".wh.never was=",
                    ".wh.tree=",
                    "directory/.wh.deep=",
                    "directory/inner/.wh..wh..opq=",
                    "directory/inner/new=",
                    "again/.wh..wh..opq=",
                ],
            );
            to_overlay(&upper, marks).unwrap();
            assert_eq!(
                kernel_s_view(&[&upper, &lower], marks),
                [
                    "again/",
                    "directory/",
                    "directory/inner/",
                    "directory/inner/new=",
                    "other/",
                    "other/below=",
                    "stays="
                ]
            );
        });
    }
}

#[test]
fn there_and_back_a_layer_is_the_same_to_the_byte() {
    needs!(Root, Tool("tar"));
    for marks in BOTH {
        let parent = tempfile::tempdir().unwrap();
        let layer = full_layer(&parent.path().join("layer"), true);
        let before = archive(&layer, &[]);
        to_overlay(&layer, marks).unwrap();
        assert!(!view(&layer).iter().any(|path| path.contains(".wh.")), "{:?}", view(&layer));
        to_aufs(&layer, marks).unwrap();
        assert_same(&before, &archive(&layer, &[]), "to overlayfs's form and back");
    }
}

#[test]
fn the_conversion_needs_no_privileges() {
    needs!(PlainUser, Tool("tar"));
    const INSIDE: &str = "HULL_TEST_INSIDE";
    let Some(directory) = std::env::var_os(INSIDE) else {
        let home = testing::plain_user_directory();
        let program = home.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let program = Program::new(program).args(["--exact", "the_conversion_needs_no_privileges"]);
        let output = program.env(INSIDE, home.path()).env_remove("HULL_TEST_RECORD").as_plain_user().run();
        assert!(output.code == Some(0) && output.stdout.contains("1 passed"), "{output}");
        return;
    };
    assert_ne!(nix::unistd::geteuid().as_raw(), 0);
    let layer = full_layer(&Path::new(&directory).join("layer"), false);
    let before = archive(&layer, &[]);
    to_overlay(&layer, Marks::User).unwrap();
    let whiteout = fs::symlink_metadata(layer.join("gone")).unwrap();
    assert_eq!((whiteout.mode() & libc::S_IFMT, whiteout.rdev()), (libc::S_IFCHR, 0));
    to_aufs(&layer, Marks::User).unwrap();
    assert_same(&before, &archive(&layer, &[]), "to overlayfs's form and back");

    let error = to_overlay(&layer, Marks::Trusted).unwrap_err();
    assert!(
        format!("{error:#}").contains("trusted.overlay.aufs") && format!("{error:#}").contains("EPERM"),
        "{error:#}"
    );
}

#[test]
fn what_a_container_did_on_overlayfs_becomes_wh_files_and_comes_back() {
    needs!(Root, Tool("tar"));
    in_mount_namespace(|parent| {
        let [work, place] = ["work", "place"].map(|name| layer(&parent.join(name), &[]));
        let lower = layer(&parent.join("lower"), &["gone=", "tree/a=", "again/old=", "moved=m", "kept="]);
        let upper = layer(&parent.join("upper"), &[]);
        let overlay = Overlay { lower: vec![&lower], upper: Some((&upper, &work)), marks: Marks::Trusted };
        overlay.mount(&place).unwrap();
        fs::remove_file(place.join("gone")).unwrap();
        fs::remove_dir_all(place.join("tree")).unwrap();
        fs::remove_dir_all(place.join("again")).unwrap();
        fs::create_dir(place.join("again")).unwrap();
        fs::write(place.join("again/new"), "").unwrap();
        fs::rename(place.join("moved"), place.join("here")).unwrap();
        let seen = view(&place);
        nix::mount::umount(&place).unwrap();

        to_aufs(&upper, Marks::Trusted).unwrap();
        let layer =
            [".wh.gone=", ".wh.moved=", ".wh.tree=", "again/", "again/.wh..wh..opq=", "again/new=", "here=m"];
        assert_eq!(view(&upper), layer);
        for path in ["", "again", "here", "again/new"] {
            assert_eq!(attributes(&upper.join(path)), [""; 0], "overlayfs's notes on {path:?} are gone");
        }
        to_overlay(&upper, Marks::Trusted).unwrap();
        assert_eq!(kernel_s_view(&[&upper, &lower], Marks::Trusted), seen);
    });
}

#[test]
fn a_whiteout_that_is_a_file_with_an_attribute_is_read_too() {
    needs!(Root);
    for marks in BOTH {
        in_mount_namespace(move |parent| {
            let lower = layer(&parent.join("lower"), &["directory/gone=1", "directory/kept=1"]);
            let upper = layer(&parent.join("upper"), &["directory/gone=", "directory/empty="]);
            set_attribute(&upper.join("directory/gone"), &format!("{}whiteout", marks.prefix()), b"");
            set_attribute(&upper.join("directory"), &format!("{}opaque", marks.prefix()), b"x");
            let seen = kernel_s_view(&[&upper, &lower], marks);
            to_aufs(&upper, marks).unwrap();
            assert_eq!(view(&upper), ["directory/", "directory/.wh.gone=", "directory/empty="]);
            // Kernels before 6.7 do not know this whiteout.
            if !seen.contains(&"directory/gone=".to_string()) {
                to_overlay(&upper, marks).unwrap();
                assert_eq!(kernel_s_view(&[&upper, &lower], marks), seen);
            }
        });
    }
}

#[test]
fn beside_its_own_whiteout_a_file_stays_and_a_directory_is_opaque() {
    needs!(Root);
    in_mount_namespace(|parent| {
        let lower = layer(&parent.join("lower"), &["file=old", "directory/old="]);
        let upper =
            layer(&parent.join("upper"), &[".wh.file=", "file=new", ".wh.directory=", "directory/new="]);
        to_overlay(&upper, Marks::Trusted).unwrap();
        assert_eq!(
            kernel_s_view(&[&upper, &lower], Marks::Trusted),
            ["directory/", "directory/new=", "file=new"]
        );
        to_aufs(&upper, Marks::Trusted).unwrap();
        assert_eq!(view(&upper), ["directory/", "directory/.wh..wh..opq=", "directory/new=", "file=new"]);
    });
}

#[test]
fn a_conversion_that_was_killed_is_finished_by_the_next_one() {
    needs!(Root, Tool("tar"));
    const INSIDE: &str = "HULL_TEST_INSIDE";
    const TEST: &str = "a_conversion_that_was_killed_is_finished_by_the_next_one";
    if let Some(task) = std::env::var_os(INSIDE) {
        let task = task.into_string().unwrap();
        let (convert, layer): (Convert, _) = match task.split_once(' ').unwrap() {
            ("overlay", layer) => (to_overlay, layer),
            (_, layer) => (to_aufs, layer),
        };
        convert(Path::new(layer), Marks::Trusted).unwrap();
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let layer = full_layer(&parent.path().join("layer"), true);
    for number in 0..3000 {
        let directory = layer.join(format!("{}", number % 30));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!(".wh.{number}")), "").unwrap();
        fs::set_permissions(directory.join(format!(".wh.{number}")), fs::Permissions::from_mode(0o644))
            .unwrap();
    }
    for number in 0..30 {
        fs::write(layer.join(format!("{number}/.wh..wh..opq")), "").unwrap();
    }
    // The times of directories are not kept where it was killed: left out of this comparison.
    let times = ["--mtime=@0"];
    let before = archive(&layer, &times);
    let whiteouts = |layer: &Path| view(layer).iter().filter(|path| path.contains(".wh.")).count();
    let (total, mut partly) = (whiteouts(&layer), 0);
    let directions: [(&str, Convert, usize); 2] = [("overlay", to_overlay, 0), ("aufs", to_aufs, total)];
    for (task, finish, expected) in directions {
        for attempt in 0..6 {
            let root = || fs::symlink_metadata(layer.join(".wh.gone")).is_ok();
            let (before, start) = (root(), Instant::now());
            let task = format!("{task} {}", layer.display());
            let program = Program::new(std::env::current_exe().unwrap()).args(["--exact", TEST]);
            let running = program.env(INSIDE, task).env_remove("HULL_TEST_RECORD").spawn();
            // The root is converted first: then it is at work. The later ones are killed at any time.
            while attempt == 0 && root() == before && start.elapsed() < Duration::from_secs(30) {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(3 * attempt));
            running.signal(libc::SIGKILL);
            running.wait();
            partly += usize::from((1..total).contains(&whiteouts(&layer)));
        }
        finish(&layer, Marks::Trusted).unwrap();
        assert_eq!(whiteouts(&layer), expected);
    }
    assert!(partly > 0, "no kill came in the middle");
    assert_same(&before, &archive(&layer, &times), "after conversions that were killed");
}

/// The refusal of a layer, which must be untouched by it.
#[track_caller]
fn refused(layer: &Path, convert: Convert) -> String {
    let before = archive(layer, &[]);
    let error = convert(layer, Marks::Trusted).expect_err("the layer should be refused");
    assert_same(&before, &archive(layer, &[]), "a refused layer");
    format!("{error:#}")
}

#[test]
fn a_hostile_layer_is_refused_before_anything_is_touched() {
    needs!(Root, Tool("tar"));
    // Each beside a whiteout that is good, and sorted before it.
    let names =
        [".wh.", ".wh..", ".wh...", ".wh..wh.plnk", ".wh..wh.x", ".wh.full=content", ".wh.directory/"];
    for name in names {
        let parent = tempfile::tempdir().unwrap();
        let layer = layer(parent.path(), &[".wh.a=", &format!("z/{name}")]);
        for convert in [to_overlay, to_aufs] {
            let error = refused(&layer, convert);
            let shown = name.split(['=', '/']).next().unwrap();
            assert!(error.contains(&format!("{shown:?}")) && error.contains("/z\""), "{error}");
        }
    }
    for make in [|path: &Path| symlink("/etc/passwd", path).unwrap(), |path: &Path| device(path)] {
        let parent = tempfile::tempdir().unwrap();
        let layer = layer(parent.path(), &[".wh.a=", "z/"]);
        make(&layer.join("z/.wh.x"));
        let error = refused(&layer, to_overlay);
        assert!(error.contains("is no empty file"), "{error}");
    }
    let parent = tempfile::tempdir().unwrap();
    let mixed = layer(parent.path(), &[".wh.a=", "z/.wh..wh..opq="]);
    set_attribute(&mixed.join("z"), "trusted.overlay.opaque", b"x");
    for convert in [to_overlay, to_aufs] {
        let error = refused(&mixed, convert);
        assert!(error.contains("overlay.opaque=x"), "{error}");
    }
    for attribute in ["redirect", "metacopy", "verity", "overlay.opaque", "opaque.x"] {
        for file in ["z/file", "z", ""] {
            let parent = tempfile::tempdir().unwrap();
            let layer = layer(parent.path(), &[".wh.a=", "z/file="]);
            set_attribute(&layer.join(file), &format!("trusted.overlay.{attribute}"), b"/etc");
            for convert in [to_overlay, to_aufs] {
                let error = refused(&layer, convert);
                assert!(error.contains(&format!("trusted.overlay.{attribute}")), "{error}");
            }
        }
    }
}

#[test]
fn no_link_and_no_mount_leads_the_conversion_out_of_the_layer() {
    needs!(Root);
    in_mount_namespace(|parent| {
        let outside = layer(&parent.join("outside"), &[".wh.x=", "sub/.wh.y="]);
        device(&outside.join("z"));
        let untouched = view(&outside);
        let inside = layer(&parent.join("layer"), &[".wh.link=", "mounted/"]);
        symlink(&outside, inside.join("link")).unwrap();
        symlink("../outside", inside.join("relative")).unwrap();
        for convert in [to_overlay, to_aufs] {
            convert(&inside, Marks::Trusted).unwrap();
            assert_eq!(view(&outside), untouched);
        }

        mount(Some(&outside), &inside.join("mounted"), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        for convert in [to_overlay, to_aufs] {
            let error = format!("{:#}", convert(&inside, Marks::Trusted).unwrap_err());
            assert!(error.contains("/mounted\"") && error.contains("EXDEV"), "{error}");
            assert_eq!(view(&outside), untouched);
        }
    });
}

#[test]
fn a_name_that_leaves_no_room_for_its_whiteout_is_refused() {
    needs!(Root, Tool("tar"));
    let parent = tempfile::tempdir().unwrap();
    device(&parent.path().join("a"));
    device(&parent.path().join("x".repeat(251)));
    to_aufs(parent.path(), Marks::Trusted).unwrap();
    device(&parent.path().join("x".repeat(252)));
    let error = refused(parent.path(), to_aufs);
    assert!(error.contains("252 bytes") && error.contains("251"), "{error}");
}

#[test]
fn a_layer_may_be_deeper_than_a_path_is_long() {
    needs!(Root);
    let parent = tempfile::tempdir().unwrap();
    let root = layer(&parent.path().join("layer"), &[]);
    let mut directory = fs::File::open(&root).unwrap();
    let name = "d".repeat(250);
    for _ in 0..40 {
        nix::sys::stat::mkdirat(&directory, name.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let flags = nix::fcntl::OFlag::O_DIRECTORY;
        directory = nix::fcntl::openat(&directory, name.as_str(), flags, nix::sys::stat::Mode::empty())
            .unwrap()
            .into();
    }
    marks::whiteout(directory.as_fd(), OsStr::new("x"), Form::Aufs).unwrap();
    to_overlay(&root, Marks::Trusted).unwrap();
    let mark = marks::read(directory.as_fd(), OsStr::new("x"), Form::Overlay(Marks::Trusted)).unwrap();
    assert_eq!(mark, Some(Mark::Whiteout("x".into())));
    to_aufs(&root, Marks::Trusted).unwrap();
    assert!(marks::read(directory.as_fd(), OsStr::new(".wh.x"), Form::Aufs).unwrap().is_some());
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn a_mark_is_made_in_an_open_directory_and_read_back() {
    needs!(Root);
    for form in [Form::Aufs, Form::Overlay(Marks::Trusted), Form::Overlay(Marks::User)] {
        let parent = tempfile::tempdir().unwrap();
        let directory = File::open(parent.path()).unwrap();
        let directory = directory.as_fd();
        for _ in 0..2 {
            marks::whiteout(directory, OsStr::new("gone"), form).unwrap();
            marks::whiteout(directory, OsStr::from_bytes(b"\xff"), form).unwrap();
        }
        let made = if form == Form::Aufs { ".wh.gone" } else { "gone" };
        let mark = Some(Mark::Whiteout("gone".into()));
        assert_eq!(marks::read(directory, OsStr::new(made), form).unwrap(), mark);
        assert_eq!(marks::read(directory, OsStr::new("none"), form).unwrap(), None);
        assert!(!marks::is_opaque(directory, form).unwrap());
        marks::opaque(directory, form).unwrap();
        assert!(marks::is_opaque(directory, form).unwrap());

        for name in ["", ".", "..", "a/b", "/etc/passwd", ".wh.x", ".wh..wh..opq", ".wh."] {
            let error = marks::whiteout(directory, OsStr::new(name), form).unwrap_err();
            assert!(error.to_string().contains("can have this name"), "{error:#}");
        }
        // A link in the place of the mark is not followed.
        symlink("/etc", parent.path().join(".wh.link")).unwrap();
        symlink("/etc", parent.path().join("link")).unwrap();
        assert_eq!(marks::whiteout(directory, OsStr::new("link"), form).is_err(), form == Form::Aufs);
        assert_eq!(marks::read(directory, OsStr::new(".wh.link"), form).unwrap(), None);
    }
}
