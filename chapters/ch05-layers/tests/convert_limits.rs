//! The edges of the conversion: marks that exclude one another, and what a plain user may do.

mod overlay_support;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use ch05_layers::overlay::Marks;
use ch05_layers::overlay::convert::{to_aufs, to_overlay};
use overlay_support::{archive, assert_same, layer, set_attribute, view};
use testing::{Program, needs};

#[test]
fn a_directory_of_marked_files_beside_its_own_whiteout_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let layer = layer(parent.path(), &[".wh.directory=", "directory/gone="]);
    set_attribute(&layer.join("directory"), "user.overlay.opaque", b"x");
    set_attribute(&layer.join("directory/gone"), "user.overlay.whiteout", b"");
    let error = format!("{:#}", to_overlay(&layer, Marks::User).unwrap_err());
    assert!(error.contains(".wh.directory") && error.contains("overlay.opaque=x"), "{error}");
    assert_eq!(view(&layer), [".wh.directory=", "directory/", "directory/gone="]);
}

#[test]
fn two_conversions_of_what_overlayfs_made_give_the_same_layer() {
    needs!(Tool("tar"));
    let convert = || {
        let parent = tempfile::tempdir().unwrap();
        let layer = layer(parent.path(), &["opaque/file="]);
        set_attribute(&layer.join("opaque"), "user.overlay.opaque", b"y");
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
        for path in ["opaque/file", "opaque", ""] {
            File::open(layer.join(path)).unwrap().set_modified(time).unwrap();
        }
        to_aufs(&layer, Marks::User).unwrap();
        let mark = layer.join("opaque/.wh..wh..opq").metadata().unwrap();
        assert_eq!((mark.modified().unwrap(), mark.mode() & 0o7777), (time, 0o444));
        archive(&layer, &[])
    };
    let first = convert();
    // Longer than the clock of a file's times needs to go on.
    std::thread::sleep(Duration::from_millis(20));
    assert_same(&first, &convert(), "two conversions");
}

#[test]
fn a_directory_that_a_plain_user_may_not_write_is_converted_and_keeps_its_mode() {
    needs!(PlainUser, Tool("tar"));
    const INSIDE: &str = "HULL_TEST_INSIDE";
    const TEST: &str = "a_directory_that_a_plain_user_may_not_write_is_converted_and_keeps_its_mode";
    let Some(directory) = std::env::var_os(INSIDE) else {
        let home = testing::plain_user_directory();
        let program = home.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let program = Program::new(program).args(["--exact", TEST]).env(INSIDE, home.path());
        let output = program.env_remove("HULL_TEST_RECORD").as_plain_user().run();
        assert!(output.code == Some(0) && output.stdout.contains("1 passed"), "{output}");
        return;
    };
    let layer =
        layer(&Path::new(&directory).join("layer"), &["one/.wh.x=", "two/.wh..wh..opq=", "two/.wh.y="]);
    for name in ["one", "two"] {
        fs::set_permissions(layer.join(name), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let before = archive(&layer, &[]);
    to_overlay(&layer, Marks::User).unwrap();
    assert_eq!(view(&layer), ["one/", "one/x", "two/", "two/y"]);
    to_aufs(&layer, Marks::User).unwrap();
    assert_same(&before, &archive(&layer, &[]), "to overlayfs's form and back");
    // So that the user's directory can be removed.
    for name in ["one", "two"] {
        fs::set_permissions(layer.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
}
