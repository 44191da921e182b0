//! The init layer: what moby's initlayer makes, and no symbolic link of an image is followed.

mod layers_support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use ch05_layers::layers::Layers;
use ch05_layers::overlay::Form;
use layers_support::{Sample, filled, make, names};

const ALL: [&str; 12] = [
    ".dockerenv",
    "dev/",
    "dev/console",
    "dev/pts/",
    "dev/shm/",
    "etc/",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
    "proc/",
    "sys/",
];

#[test]
fn it_has_what_moby_s_has_and_hides_the_image_s_files_of_these_names() {
    let sample = Sample::new(Form::Aufs);
    assert_eq!(sample.names("one-init"), ALL);
    let hosts = sample.path("one-init", "etc/hosts").metadata().unwrap();
    assert_eq!((hosts.len(), hosts.mode() & 0o7777), (0, 0o755));
    assert_eq!(fs::read_link(sample.path("one-init", "etc/mtab")).unwrap(), Path::new("/proc/mounts"));
    // A directory that the image has keeps its mode.
    assert_eq!(sample.path("one-init", "etc").metadata().unwrap().mode() & 0o7777, 0o750);
    assert_eq!(fs::read(sample.path("base", "etc/hosts")).unwrap(), b"the image's");
    assert_eq!(sample.names("one"), [""; 0]);
}

#[test]
fn what_the_image_has_already_is_not_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let layers = Layers::open(&directory.path().join("store")).unwrap();
    let files = ["proc/", "sys/", "dev/pts/", "dev/shm/", "etc/hosts/is-a-directory="];
    layers.add_with("base", None, filled(&files)).unwrap();
    layers.container("one", "base", Form::Aufs).unwrap();
    let init = names(&directory.path().join("store/diff/one-init"));
    assert_eq!(
        init,
        [".dockerenv", "dev/", "dev/console", "etc/", "etc/hostname", "etc/mtab", "etc/resolv.conf"]
    );
}

#[test]
fn symbolic_links_in_the_image_lead_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let outside = directory.path().join("outside");
    make(&outside, &["hosts=the host's", "pts/"]);
    let layers = Layers::open(&directory.path().join("store")).unwrap();
    let hostile = |layer: &Path| {
        symlink(&outside, layer.join("etc")).unwrap();
        symlink("../../../outside", layer.join("dev")).unwrap();
        symlink(outside.join("proc"), layer.join("proc")).unwrap();
        make(layer, &["sys=a file"]);
        Ok(())
    };
    layers.add_with("base", None, hostile).unwrap();
    layers.container("one", "base", Form::Aufs).unwrap();
    assert_eq!(names(&outside), ["hosts", "pts/"]);
    assert_eq!(fs::read(outside.join("hosts")).unwrap(), b"the host's");
    let init = directory.path().join("store/diff/one-init");
    for name in ["etc", "dev", "proc", "sys"] {
        assert!(init.join(name).symlink_metadata().unwrap().is_dir(), "{name}");
    }
    assert!(layers.diff("one").unwrap().is_empty());
}

#[test]
fn the_container_s_root_has_the_mode_of_the_image_s() {
    let directory = tempfile::tempdir().unwrap();
    let layers = Layers::open(&directory.path().join("store")).unwrap();
    let fill = |layer: &Path| Ok(fs::set_permissions(layer, fs::Permissions::from_mode(0o711))?);
    layers.add_with("base", None, fill).unwrap();
    layers.container("one", "base", Form::Aufs).unwrap();
    for layer in ["one", "one-init"] {
        let root = directory.path().join("store/diff").join(layer).metadata().unwrap();
        assert_eq!(root.mode() & 0o7777, 0o711, "{layer}");
    }
}
