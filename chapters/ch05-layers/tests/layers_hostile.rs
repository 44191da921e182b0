//! Layers from somebody who means harm: a clear error or no harm, and nothing outside is read or written.

mod layers_support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use ch05_layers::layers::{Layers, commit, diff, size};
use ch05_layers::overlay::Form;
use ch05_layers::{Branch, Mode, Union};
use layers_support::{make, names};
use tempfile::TempDir;

/// A stack of `top` and `bottom`, and a directory `outside`.
struct Hostile(TempDir);

impl Hostile {
    fn new() -> Hostile {
        let hostile = Hostile(tempfile::tempdir().unwrap());
        make(&hostile.at(""), &["top/", "bottom/", "outside/secret=the host's"]);
        hostile
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn union(&self) -> Union {
        let open = |name: &str, mode| Branch::open(&self.at(name), mode).unwrap();
        Union::new(vec![open("top", Mode::ReadWrite), open("bottom", Mode::ReadOnly)]).unwrap()
    }

    fn diff(&self) -> Vec<String> {
        diff(&self.union(), Form::Aufs).unwrap().iter().map(ToString::to_string).collect()
    }
}

#[test]
fn a_symbolic_link_in_the_place_of_a_directory_is_a_link_and_no_more() {
    let hostile = Hostile::new();
    make(&hostile.at(""), &["top/dir/secret=mine"]);
    symlink(hostile.at("outside"), hostile.at("bottom/dir")).unwrap();
    symlink("../outside", hostile.at("top/link")).unwrap();
    make(&hostile.at(""), &["bottom/link/secret="]);
    assert_eq!(hostile.diff(), ["C /dir", "A /dir/secret", "C /link"]);
    let hidden = size(&hostile.union(), Form::Aufs).unwrap()[1].hidden;
    assert_eq!(hidden, hostile.at("bottom/dir").symlink_metadata().unwrap().size());
    commit(&hostile.union(), Form::Aufs, &hostile.at("new")).unwrap();
    assert_eq!(names(&hostile.at("new")), ["dir/", "dir/secret", "link"]);
    assert_eq!(fs::read_link(hostile.at("new/link")).unwrap(), Path::new("../outside"));
    assert_eq!(names(&hostile.at("outside")), ["secret"]);
}

#[test]
fn whiteouts_of_no_possible_name_are_refused_by_all() {
    for name in [".wh.", ".wh..", ".wh..."] {
        let hostile = Hostile::new();
        fs::write(hostile.at("top").join(name), "").unwrap();
        let new = hostile.at("new");
        let errors = [
            diff(&hostile.union(), Form::Aufs).unwrap_err(),
            size(&hostile.union(), Form::Aufs).unwrap_err(),
            commit(&hostile.union(), Form::Aufs, &new).unwrap_err(),
            Layers::open(&hostile.at("store")).unwrap().add("bad", None, &hostile.at("top")).unwrap_err(),
        ];
        for error in errors {
            let error = format!("{error:#}");
            assert!(
                error.contains(&format!("{name:?}")) || error.contains(&format!("/{name}\"")),
                "{name}: {error}"
            );
        }
        assert!(!new.exists() && !hostile.at("store/diff/bad").exists());
        assert_eq!(names(&hostile.at("store/diff")), [""; 0]);
    }
}

#[test]
fn a_directory_or_a_link_with_a_whiteout_s_name_deletes_nothing_and_is_reported() {
    for make_it in
        [|path: &Path| fs::create_dir(path).unwrap(), |path: &Path| symlink("/etc/passwd", path).unwrap()]
    {
        let hostile = Hostile::new();
        make(&hostile.at(""), &["bottom/file="]);
        make_it(&hostile.at("top/.wh.file"));
        let error = format!("{:#}", diff(&hostile.union(), Form::Aufs).unwrap_err());
        assert!(error.contains(".wh.file") && error.contains("no regular file"), "{error}");
        make_it(&hostile.at("bottom/.wh.more"));
        fs::remove_dir(hostile.at("top/.wh.file"))
            .or_else(|_| fs::remove_file(hostile.at("top/.wh.file")))
            .unwrap();
        let error = format!("{:#}", size(&hostile.union(), Form::Aufs).unwrap_err());
        assert!(error.contains("EIO"), "{error}");
    }
}

#[test]
fn a_tree_that_is_deeper_than_any_path_is_walked_and_copied() {
    let hostile = Hostile::new();
    // Each mkdir(2) from where the last one led: the whole path is longer than PATH_MAX.
    let mut script = String::from(
        "cd \"$1\" && n=0; while [ $n -lt 60 ]; do mkdir NAME && cd -P NAME || exit; n=$((n+1)); done; >end",
    );
    script = script.replace("NAME", &"d".repeat(200));
    let output = std::process::Command::new("bash")
        .args(["-c", &script, "sh"])
        .arg(hostile.at("top"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(hostile.diff().len(), 61);
    assert!(hostile.diff()[60].ends_with("/end"));
    commit(&hostile.union(), Form::Aufs, &hostile.at("new")).unwrap();
    let sizes = [hostile.at("top"), hostile.at("new")].map(|path| {
        let branch = Branch::open(&path, Mode::ReadOnly).unwrap();
        size(&Union::new(vec![branch]).unwrap(), Form::Aufs).unwrap()[0].inodes
    });
    assert_eq!(sizes, [61, 61]);
}

#[test]
fn a_layer_that_disappears_is_an_error_and_no_panic() {
    let hostile = Hostile::new();
    let union = hostile.union();
    fs::remove_dir_all(hostile.at("top")).unwrap();
    fs::remove_dir_all(hostile.at("bottom")).unwrap();
    let lines = diff(&union, Form::Aufs).unwrap();
    assert!(lines.is_empty(), "an open directory that was removed is empty: {lines:?}");
    let missing = Branch::open(&hostile.at("bottom"), Mode::ReadOnly).unwrap_err();
    assert!(format!("{missing:#}").contains("ENOENT"), "{missing:#}");
}
