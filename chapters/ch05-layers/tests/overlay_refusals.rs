//! What keeps an overlay from being mounted, and what does not.

mod overlay_support;

use std::fs;
use std::path::{Path, PathBuf};

use ch05_layers::overlay::{Marks, Overlay};
use nix::errno::Errno;
use overlay_support::{in_mount_namespace, layer, view};
use testing::{Program, needs};

/// Where a test's second process works.
const INSIDE: &str = "HULL_TEST_INSIDE";

/// Mounts an overlay in the directory that a test's second process was given, and says how that is refused.
fn refusal_inside(directory: &Path) -> String {
    let lower = ["1", "2"].map(|name| layer(&directory.join(name), &[]));
    let place = layer(&directory.join("place"), &[]);
    let lower: Vec<&Path> = lower.iter().map(PathBuf::as_path).collect();
    let overlay = Overlay { lower, upper: None, marks: Marks::User };
    format!("{:#}", overlay.mount(&place).unwrap_err())
}

#[test]
fn who_may_not_mount_learns_what_helps() {
    needs!(PlainUser);
    if let Some(directory) = std::env::var_os(INSIDE) {
        let error = refusal_inside(Path::new(&directory));
        assert!(error.contains("EPERM") && error.contains("unshare -Urm"), "{error}");
        return;
    }
    let home = testing::plain_user_directory();
    let program = home.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let program = Program::new(program).args(["--exact", "who_may_not_mount_learns_what_helps"]);
    let output = program.env(INSIDE, home.path()).env_remove("HULL_TEST_RECORD").as_plain_user().run();
    assert!(output.code == Some(0) && output.stdout.contains("1 passed"), "{output}");
}

#[test]
fn a_kernel_that_has_no_overlayfs_is_named() {
    needs!(Root);
    if let Some(directory) = std::env::var_os(INSIDE) {
        let error = refusal_inside(Path::new(&directory));
        assert!(error.contains("ENODEV") && error.contains("modprobe overlay"), "{error}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = Program::new(std::env::current_exe().unwrap());
    let program = program.args(["--exact", "a_kernel_that_has_no_overlayfs_is_named"]);
    let program = program.env(INSIDE, directory.path()).env_remove("HULL_TEST_RECORD");
    let output = program.deny(libc::SYS_fsopen, Errno::ENODEV).run();
    assert!(output.code == Some(0) && output.stdout.contains("1 passed"), "{output}");
}

/// Why `Overlay::upper` says that it must belong to one overlay alone.
#[test]
fn the_kernel_keeps_nobody_from_mounting_an_upper_layer_twice() {
    needs!(Root);
    in_mount_namespace(|parent| {
        let [lower, upper, work, one, two] =
            ["lower", "upper", "work", "one", "two"].map(|name| layer(&parent.join(name), &[]));
        let overlay = Overlay { lower: vec![&lower], upper: Some((&upper, &work)), marks: Marks::Trusted };
        overlay.mount(&one).unwrap();
        overlay.mount(&two).unwrap();
        fs::write(one.join("file"), "").unwrap();
        assert_eq!(view(&upper), ["file="]);
    });
}
