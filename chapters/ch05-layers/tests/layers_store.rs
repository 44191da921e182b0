//! The store: who may be added, shared and removed; several at once; and what a killed process leaves.

mod layers_support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ch05_layers::layers::Layers;
use ch05_layers::overlay::{Form, Marks};
use layers_support::{Sample, attribute, filled, make, names, set_attribute};
use testing::{Program, poll};

fn sample() -> Sample {
    Sample::new(Form::Aufs)
}

fn refusal<T: std::fmt::Debug>(result: anyhow::Result<T>) -> String {
    format!("{:#}", result.unwrap_err())
}

/// What stands in the store's directories, without what is in the layers.
fn entries(store: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for directory in ["diff", "layers", "mnt", "trusted.overlay", "user.overlay"] {
        for entry in fs::read_dir(store.join(directory)).unwrap() {
            all.push(format!("{directory}/{}", entry.unwrap().file_name().to_str().unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn the_store_has_the_form_of_docker_s_aufs_driver() {
    let sample = sample();
    assert_eq!(
        entries(&sample.store),
        [
            "diff/base",
            "diff/one",
            "diff/one-init",
            "diff/top",
            "layers/base",
            "layers/one",
            "layers/one-init",
            "layers/top",
            "mnt/one",
        ]
    );
    let parents = |id: &str| fs::read_to_string(sample.store.join("layers").join(id)).unwrap();
    assert_eq!((parents("base").as_str(), parents("top").as_str()), ("", "base\n"));
    assert_eq!(
        (parents("one").as_str(), parents("one-init").as_str()),
        ("one-init\ntop\nbase\n", "top\nbase\n")
    );
    assert_eq!(sample.store.metadata().unwrap().mode() & 0o777, 0o700);
    assert_eq!(sample.layers.list().unwrap(), ["base", "one", "top"]);
}

#[test]
fn containers_of_an_image_share_its_layers_and_not_their_own() {
    let sample = sample();
    sample.layers.container("two", "top", Form::Aufs).unwrap();
    let paths = |id: &str| -> Vec<PathBuf> {
        sample.layers.branches(id).unwrap().into_iter().map(|branch| branch.path).collect()
    };
    let (one, two) = (paths("one"), paths("two"));
    assert_eq!(one[2..], two[2..]);
    assert!(one[0] != two[0] && one[1] != two[1]);
    sample.change().write("file1", "changed");
    assert_eq!(sample.layers.diff("two").unwrap().len(), 0);
}

#[test]
fn a_layer_or_container_in_use_can_not_be_removed_and_others_can() {
    let sample = sample();
    let layers = &sample.layers;
    assert!(refusal(layers.remove("base")).contains("stands on it"));
    assert!(refusal(layers.remove("top")).contains("stands on it"));
    let hold = layers.hold("one").unwrap();
    let error = refusal(Layers::open(&sample.store).unwrap().remove("one"));
    assert!(error.contains("in use by a running process"), "{error}");
    drop(hold);
    layers.remove("one").unwrap();
    assert_eq!(entries(&sample.store), ["diff/base", "diff/top", "layers/base", "layers/top"]);
    assert!(refusal(layers.hold("one")).contains("no layer or container"));
    layers.remove("top").unwrap();
    layers.remove("base").unwrap();
    assert_eq!(entries(&sample.store), [""; 0]);
}

#[test]
fn a_layer_that_is_written_to_as_a_union_can_be_held_too() {
    let sample = sample();
    let change = sample.change();
    change.write("file", "");
    let _hold = sample.layers.hold("one").unwrap();
    let _another = sample.layers.hold("one").unwrap();
    change.write("file", "");
}

#[test]
fn a_name_that_is_a_path_or_taken_is_refused_and_nothing_is_made() {
    let sample = sample();
    let before = names(sample.store.parent().unwrap());
    let empty = tempfile::tempdir().unwrap();
    for id in [
        "",
        ".",
        "..",
        "../outside",
        "a/b",
        "/tmp/x",
        "x-init",
        ".hidden",
        "a:b",
        "a,b",
        "a\nb",
        "one",
        "base",
    ] {
        assert!(sample.layers.add(id, Some("base"), empty.path()).is_err(), "{id:?}");
        assert!(sample.layers.container(id, "base", Form::Aufs).is_err(), "{id:?}");
        assert!(sample.layers.commit("one", id).is_err(), "{id:?}");
    }
    for parent in ["nothing", "..", "one", "one-init", ""] {
        assert!(sample.layers.add("new", Some(parent), empty.path()).is_err(), "{parent:?}");
        assert!(sample.layers.container("new", parent, Form::Aufs).is_err(), "{parent:?}");
    }
    for id in ["..", "../store", "/", "nothing", "one-init"] {
        assert!(
            sample.layers.remove(id).is_err()
                && sample.layers.branches(id).is_err()
                && sample.layers.diff(id).is_err(),
            "{id:?}"
        );
    }
    assert_eq!(names(sample.store.parent().unwrap()), before);
}

#[test]
fn a_record_that_leads_out_of_the_store_is_refused() {
    let sample = sample();
    fs::write(sample.store.join("layers/top"), "../../../etc\n").unwrap();
    assert!(refusal(sample.layers.branches("top")).contains("a line of"));
}

#[test]
fn a_directory_that_is_no_store_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path(), &["mnt/usb/photo=", "diff/work=", "layers/x="]);
    let before = names(directory.path());
    let error = refusal(Layers::open(directory.path()));
    assert!(error.contains("no store of layers"), "{error}");
    assert_eq!(names(directory.path()), before);
}

#[test]
fn a_directory_that_may_not_be_written_is_no_hindrance() {
    let sample = sample();
    let fill = |layer: &Path| {
        make(layer, &["closed/inner/file="]);
        set_attribute(&layer.join("closed"), "user.note", b"kept");
        for directory in ["closed/inner", "closed"] {
            fs::set_permissions(layer.join(directory), fs::Permissions::from_mode(0o555))?;
        }
        Ok(())
    };
    sample.layers.add_with("closed", None, fill).unwrap();
    sample.layers.add("copy", None, &sample.path("closed", "")).unwrap();
    assert_eq!(sample.path("copy", "closed").metadata().unwrap().mode() & 0o777, 0o555);
    assert_eq!(attribute(&sample.path("copy", "closed"), "user.note"), b"kept");
    for id in ["closed", "copy"] {
        sample.layers.remove(id).unwrap();
        assert!(!sample.path(id, "").exists());
    }
}

#[test]
fn a_failed_add_leaves_nothing() {
    let sample = sample();
    let before = entries(&sample.store);
    let error = refusal(sample.layers.add_with("new", Some("base"), |layer| {
        make(layer, &["half="]);
        anyhow::bail!("the archive ends here")
    }));
    assert!(error.contains("layer \"new\"") && error.contains("ends here"), "{error}");
    assert_eq!(entries(&sample.store), before);
}

#[test]
fn of_many_who_add_the_same_name_at_once_one_succeeds_and_his_layer_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let store = &directory.path().join("store");
    let add = |number: usize| {
        // As processes of their own would: each opens the store for itself, and sweeps it.
        let layers = Layers::open(store).unwrap();
        let own = format!("own-{number}");
        layers.add_with(&own, None, filled(&["file=own"])).unwrap();
        layers.container(&format!("container-{number}"), &own, Form::Aufs).unwrap();
        let fill = |layer: &Path| {
            make(layer, &["a/b/c=1", "d="]);
            thread::sleep(Duration::from_millis(20));
            fs::write(layer.join("who"), number.to_string())?;
            Ok(())
        };
        layers.add_with("shared", None, fill).is_ok()
    };
    let winners: Vec<usize> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || add(number))).collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap());
        results.enumerate().filter(|(_, won)| *won).map(|(number, _)| number).collect()
    });
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(fs::read_to_string(store.join("diff/shared/who")).unwrap(), winners[0].to_string());
    assert_eq!(Layers::open(store).unwrap().list().unwrap().len(), 17);
    assert_eq!(fs::read_dir(store.join("diff")).unwrap().count(), 25);
}

#[test]
fn a_container_for_overlayfs_shares_the_converted_copy_of_a_layer_with_whiteouts() {
    let sample = Sample::new(Form::Overlay(Marks::User));
    let one = sample.layers.overlay("one").unwrap();
    let converted = sample.store.join("user.overlay/top/diff");
    assert_eq!(
        one.lower,
        [sample.path("one-init", ""), converted.clone(), sample.path("base", "")].map(strip_slash)
    );
    assert_eq!(names(&converted), ["both", "gone", "top/", "top/file"]);
    assert_eq!(converted.join("gone").symlink_metadata().unwrap().rdev(), 0);
    assert_eq!(sample.names("top"), [".wh.gone", "both", "top/", "top/file"]);
    let inode = converted.metadata().unwrap().ino();
    sample.layers.container("two", "top", Form::Overlay(Marks::User)).unwrap();
    assert_eq!(sample.layers.overlay("two").unwrap().lower[1].metadata().unwrap().ino(), inode);
    assert_eq!(sample.layers.form("one").unwrap(), Form::Overlay(Marks::User));
    // It goes with its layer.
    sample.layers.remove("one").unwrap();
    sample.layers.remove("two").unwrap();
    sample.layers.remove("top").unwrap();
    // That of `base`, which has no whiteouts, is empty.
    assert_eq!(entries(&sample.store), ["diff/base", "layers/base", "user.overlay/base"]);
    assert_eq!(names(&sample.store.join("user.overlay/base")), [""; 0]);
    sample.layers.container("three", "base", Form::Aufs).unwrap();
    assert!(refusal(sample.layers.overlay("three")).contains("not made for overlayfs"));
}

fn strip_slash(path: PathBuf) -> PathBuf {
    path.components().collect()
}

/// In the environment of the process that is killed: the store.
const STORE: &str = "HULL_TEST_STORE";

/// Runs this test again in a process that stops in the middle of adding a layer, and returns when it is
/// there.
fn run_again(store: &Path, test: &str) -> testing::Running {
    let program = Program::new(std::env::current_exe().unwrap());
    let program =
        program.args(["--exact", test, "--nocapture"]).env(STORE, store).env_remove("HULL_TEST_RECORD");
    program.spawn()
}

fn hang_in_an_add(store: &Path) -> ! {
    let layers = Layers::open(store).unwrap();
    layers
        .add_with("half", Some("top"), |layer| {
            make(layer, &["half=written"]);
            std::io::stdout().flush()?;
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        })
        .unwrap();
    unreachable!("it hangs")
}

fn partials(store: &Path) -> Vec<String> {
    let is_half = |name: &String| name.contains("partial") && store.join(name).join("content/half").exists();
    entries(store).into_iter().filter(is_half).collect()
}

#[test]
fn who_is_killed_in_an_add_leaves_nothing_half_and_the_living_are_not_swept() {
    if let Some(store) = std::env::var_os(STORE) {
        hang_in_an_add(Path::new(&store));
    }
    let sample = sample();
    let before = entries(&sample.store);
    let running =
        run_again(&sample.store, "who_is_killed_in_an_add_leaves_nothing_half_and_the_living_are_not_swept");
    let found = poll(Duration::from_secs(20), || partials(&sample.store).into_iter().next());
    // Others open the store meanwhile, and use it.
    let layers = Layers::open(&sample.store).unwrap();
    layers.add_with("another", Some("top"), filled(&["file="])).unwrap();
    assert_eq!(partials(&sample.store), [found]);
    assert_eq!(layers.list().unwrap(), ["another", "base", "one", "top"]);
    running.signal(libc::SIGKILL);
    assert_eq!(running.wait().signal, Some(libc::SIGKILL));
    let layers = Layers::open(&sample.store).unwrap();
    layers.remove("another").unwrap();
    assert_eq!(entries(&sample.store), before);
    layers.add_with("half", Some("top"), filled(&["whole="])).unwrap();
    assert_eq!(sample.names("half"), ["whole"]);
}

/// Commits without end.
fn commit_until_killed(store: &Path) -> ! {
    let layers = Layers::open(store).unwrap();
    loop {
        let number = layers.list().unwrap().len();
        layers.commit("one", &format!("commit-{number}")).unwrap();
    }
}

#[test]
fn whenever_a_commit_is_killed_each_layer_of_the_store_is_whole() {
    if let Some(store) = std::env::var_os(STORE) {
        commit_until_killed(Path::new(&store));
    }
    let sample = sample();
    let files: Vec<String> = (0..100).map(|number| format!("dir-{}/{number}=x", number % 7)).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    make(&sample.path("one", ""), &files);
    let whole = sample.names("one");
    for round in 0..8 {
        let test = "whenever_a_commit_is_killed_each_layer_of_the_store_is_whole";
        let before = sample.layers.list().unwrap().len();
        let running = run_again(&sample.store, test);
        // It has committed once; the next one is cut off somewhere.
        poll(Duration::from_secs(20), || (sample.layers.list().unwrap().len() > before).then_some(()));
        thread::sleep(Duration::from_millis(3 * round));
        running.signal(libc::SIGKILL);
        assert_eq!(running.wait().signal, Some(libc::SIGKILL));
        let layers = Layers::open(&sample.store).unwrap();
        let commits: Vec<String> =
            layers.list().unwrap().into_iter().filter(|id| id.starts_with("commit-")).collect();
        for id in &commits {
            assert_eq!(sample.names(id), whole, "{id}");
        }
        // base, top, one, one-init.
        assert_eq!(fs::read_dir(sample.store.join("diff")).unwrap().count(), commits.len() + 4);
    }
}

#[test]
fn what_a_process_left_that_was_killed_between_two_steps_is_swept() {
    let sample = sample();
    let before = entries(&sample.store);
    // The directory is in place, its record is not: add, commit or remove. The same for a container.
    make(
        &sample.store,
        &[
            "diff/lost/file=",
            "diff/two/",
            "diff/two-init/etc/hosts=",
            "mnt/two/",
            "user.overlay/two/work/work/",
        ],
    );
    // The record in the making; an init layer's record without its container's.
    make(&sample.store, &["layers/.lost=base\n", "layers/two-init=top\nbase\n"]);
    fs::set_permissions(sample.store.join("diff/lost"), fs::Permissions::from_mode(0o700)).unwrap();
    let layers = Layers::open(&sample.store).unwrap();
    assert_eq!(entries(&sample.store), before);
    layers.container("two", "top", Form::Aufs).unwrap();
}
