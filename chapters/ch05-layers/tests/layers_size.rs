//! `size`: what each layer takes, by `du`'s and stat(2)'s account, and what nobody can see of it.

mod layers_support;

use std::fs;
use std::path::Path;

use ch05_layers::layers::{BranchSize, size};
use ch05_layers::overlay::{Form, Marks};
use ch05_layers::{Branch, Mode, Union};
use layers_support::{Sample, du, make, set_attribute};
use testing::needs;

fn sizes(sample: &Sample) -> Vec<BranchSize> {
    sample.layers.size("one").unwrap()
}

#[test]
fn each_layer_takes_on_the_disk_what_du_says() {
    needs!(Tool("du"));
    let sample = Sample::new(Form::Aufs);
    let one = sample.path("one", "");
    make(&one, &["dir/file=content", "big="]);
    fs::write(one.join("big"), vec![1; 100_000]).unwrap();
    fs::hard_link(one.join("big"), one.join("dir/again")).unwrap();
    let hole = fs::File::create(one.join("hole")).unwrap();
    hole.set_len(1 << 30).unwrap();
    for size in sizes(&sample) {
        assert_eq!(size.disk, du(&size.path), "{size:?}");
    }
    let own = &sizes(&sample)[0];
    assert_eq!((own.bytes, own.inodes, own.whiteouts), (7 + 100_000 + (1 << 30), 4, 0));
    let modes: Vec<Mode> = sizes(&sample).iter().map(|size| size.mode).collect();
    assert_eq!(modes, [Mode::ReadWrite, Mode::Init, Mode::ReadOnly, Mode::ReadOnly]);
}

#[test]
fn a_container_grows_when_files_are_deleted_and_the_image_does_not_shrink() {
    let sample = Sample::new(Form::Aufs);
    let before = sizes(&sample);
    let change = sample.change();
    change.remove("file1");
    change.remove("dir2/file1");
    let after = sizes(&sample);
    assert_eq!((before[0].inodes, after[0].inodes), (0, 3), "two whiteouts and the directory dir2");
    assert_eq!(after[0].whiteouts, 2);
    assert!(after[0].disk >= before[0].disk);
    assert_eq!((after[3].bytes, after[3].disk), (before[3].bytes, before[3].disk));
    assert_eq!(after[3].hidden, before[3].hidden + 2, "two files of one byte");
}

#[test]
fn what_is_deleted_replaced_or_under_an_opaque_directory_is_hidden() {
    let sample = Sample::new(Form::Aufs);
    // The layer `top` replaces `both` and deletes `gone`; the init layer has an empty etc/hosts.
    let of_image = ("lower".len() + "the image's".len()) as u64;
    assert_eq!(sizes(&sample)[3].hidden, of_image);
    let change = sample.change();
    change.write("etc/motd", "changed");
    change.remove_all("dir1");
    change.make_directory("dir1");
    change.write("dir1/file1", "another");
    change.remove_all("dir2");
    change.write("dir2", "a file");
    let own = ("hello".len() + "1".len() + "2".len() + "1".len() + "2".len()) as u64;
    let sizes = sizes(&sample);
    assert_eq!(sizes[3].hidden, of_image + own);
    assert_eq!((sizes[0].hidden, sizes[2].hidden), (0, 0));
    assert_eq!(
        sizes[0].whiteouts, 1,
        "the opaque mark: a file that replaces a directory needs none; {sizes:?}"
    );
}

#[test]
fn a_file_with_several_names_is_hidden_when_all_of_them_are() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    make(&at("top"), &[".wh.one="]);
    make(&at("bottom"), &["one=12345"]);
    fs::hard_link(at("bottom/one"), at("bottom/two")).unwrap();
    let open = |name: &str, mode| Branch::open(&at(name), mode).unwrap();
    let union = Union::new(vec![open("top", Mode::ReadWrite), open("bottom", Mode::ReadOnly)]).unwrap();
    let hidden = || size(&union, Form::Aufs).unwrap()[1].hidden;
    assert_eq!(hidden(), 0);
    fs::write(at("top/.wh.two"), "").unwrap();
    assert_eq!(hidden(), 5);
}

#[test]
fn overlayfs_s_marks_hide_as_much() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    make(&at("top"), &["dir/new="]);
    make(&at("bottom"), &["gone=12345", "dir/old=123", "stays=1"]);
    set_attribute(&at("top/dir"), "user.overlay.opaque", b"y");
    let mode = nix::sys::stat::Mode::empty();
    // Any user may make this one device, since Linux 5.8.
    nix::sys::stat::mknod(Path::new(&at("top/gone")), nix::sys::stat::SFlag::S_IFCHR, mode, 0).unwrap();
    let open = |name: &str, mode| Branch::open(&at(name), mode).unwrap();
    let union = Union::new(vec![open("top", Mode::ReadWrite), open("bottom", Mode::ReadOnly)]).unwrap();
    let sizes = size(&union, Form::Overlay(Marks::User)).unwrap();
    assert_eq!((sizes[0].whiteouts, sizes[1].hidden), (2, 8));
}
