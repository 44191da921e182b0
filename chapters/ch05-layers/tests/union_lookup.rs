//! Which branch answers for a name, and what a merged directory lists.

mod union_stack;

use std::ffi::OsStr;
use std::path::Path;
use std::str::FromStr;

use ch05_layers::branch::Given;
use ch05_layers::union::Found;
use ch05_layers::{Branch, Mode, Union};
use nix::errno::Errno;
use union_stack::Stack;

#[test]
fn an_upper_name_hides_a_lower_one() {
    let stack = Stack::new(3);
    stack.put(2, "etc/motd", "two");
    stack.put(1, "etc/motd", "one");
    stack.put(2, "etc/hosts", "two");
    assert_eq!(stack.read("etc/motd").unwrap(), "one");
    assert_eq!(stack.read("etc/hosts").unwrap(), "two");
}

#[test]
fn directories_merge() {
    let stack = Stack::new(3);
    for branch in 0..3 {
        stack.put(branch, &format!("bin/{branch}"), "");
        stack.put(branch, "bin/all", "");
    }
    assert_eq!(stack.names("bin").unwrap(), ["0", "1", "2", "all"]);
    assert_eq!(stack.union.walk(Path::new("/bin")).unwrap().branches, [0, 1, 2]);
    let bin = stack.union.walk(Path::new("bin")).unwrap();
    let all = stack.union.list(&bin).unwrap().into_iter().find(|listed| listed.name == "all").unwrap();
    assert_eq!((all.branch, all.kind), (0, libc::DT_REG));
}

#[test]
fn a_whiteout_hides_the_name_in_lower_branches_and_is_itself_not_shown() {
    let stack = Stack::new(3);
    stack.put(2, "etc/motd", "");
    stack.put(1, "etc/.wh.motd", "");
    stack.put(2, "etc/hosts", "");
    assert_eq!(stack.read("etc/motd"), Err(Errno::ENOENT));
    assert_eq!(stack.read("etc/.wh.motd"), Err(Errno::ENOENT));
    assert_eq!(stack.names("etc").unwrap(), ["hosts"]);
}

#[test]
fn a_whiteout_hides_nothing_above_it_and_nothing_beside_it() {
    let stack = Stack::new(3);
    stack.put(0, "above", "0");
    stack.put(1, ".wh.above", "");
    stack.put(1, ".wh.beside", "");
    stack.put(1, "beside", "1");
    stack.put(2, "beside", "2");
    assert_eq!(stack.read("above").unwrap(), "0");
    assert_eq!(stack.read("beside").unwrap(), "1");
    assert_eq!(stack.names("").unwrap(), ["above", "beside"]);
}

#[test]
fn a_whiteout_of_a_directory_hides_all_that_is_below_it() {
    let stack = Stack::new(3);
    stack.put(2, "d/lowest", "");
    stack.put(1, ".wh.d", "");
    stack.put(0, "d/top", "");
    assert_eq!(stack.names("d").unwrap(), ["top"]);
    assert_eq!(stack.read("d/lowest"), Err(Errno::ENOENT));
}

#[test]
fn an_opaque_directory_shows_nothing_of_the_branches_below() {
    let stack = Stack::new(3);
    stack.put(0, "d/top", "");
    stack.put(1, "d/.wh..wh..opq", "");
    stack.put(1, "d/middle", "");
    stack.put(2, "d/lowest", "");
    stack.put(2, "e/lowest", "");
    assert_eq!(stack.names("d").unwrap(), ["middle", "top"]);
    assert_eq!(stack.read("d/lowest"), Err(Errno::ENOENT));
    assert_eq!(stack.names("e").unwrap(), ["lowest"]);
}

#[test]
fn an_opaque_root_hides_all_branches_below() {
    let stack = Stack::new(2);
    stack.put(0, ".wh..wh..opq", "");
    stack.put(1, "lower", "");
    assert_eq!(stack.names("").unwrap(), [""; 0]);
}

#[test]
fn a_directory_beside_its_own_whiteout_is_opaque() {
    let stack = Stack::new(2);
    stack.put(0, "d/top", "");
    stack.put(0, ".wh.d", "");
    stack.put(1, "d/lower", "");
    assert_eq!(stack.names("d").unwrap(), ["top"]);
}

#[test]
fn a_file_between_two_directories_ends_the_merge() {
    let stack = Stack::new(3);
    stack.put(0, "x/top", "");
    stack.put(1, "x", "a file");
    stack.put(2, "x/lowest", "");
    assert_eq!(stack.names("x").unwrap(), ["top"]);
    let union = stack.union.root().unwrap();
    assert!(stack.union.lookup(&union, OsStr::new("x")).unwrap().is_directory());
}

#[test]
fn a_file_over_a_directory_is_a_file() {
    let stack = Stack::new(2);
    stack.put(0, "x", "a file");
    stack.put(1, "x/lower", "");
    assert_eq!(stack.read("x").unwrap(), "a file");
    assert_eq!(stack.names("x"), Err(Errno::ENOTDIR));
}

#[test]
fn aufs_s_own_names_are_never_shown() {
    let stack = Stack::new(2);
    stack.put(0, ".wh..wh.aufs", "");
    stack.put(1, ".wh..wh.plnk/1.2", "");
    stack.put(1, "file", "");
    assert_eq!(stack.names("").unwrap(), ["file"]);
    assert_eq!(stack.names(".wh..wh.plnk"), Err(Errno::ENOENT));
}

#[test]
fn a_name_over_251_bytes_can_be_read_but_not_made_or_deleted() {
    let stack = Stack::new(2);
    let (longest, too_long) = ("l".repeat(251), "t".repeat(252));
    stack.put(1, &longest, "");
    stack.put(1, &too_long, "lower");
    assert_eq!(stack.read(&too_long).unwrap(), "lower");
    assert_eq!(stack.remove(&too_long), Err(Errno::ENAMETOOLONG));
    assert_eq!(stack.create(&format!("{}2", &too_long[1..])), Err(Errno::ENAMETOOLONG));
    assert_eq!(stack.rename(&longest, &"x".repeat(252), 0), Err(Errno::ENAMETOOLONG));
    assert_eq!(stack.remove(&longest), Ok(()));
    assert_eq!(stack.create(&longest), Ok(()));
    assert_eq!(stack.names("").unwrap(), [longest, too_long]);
}

#[test]
fn explain_names_the_branch_that_answers_and_what_hides_the_others() {
    let stack = Stack::new(4);
    stack.put(0, "usr/bin/keep", "");
    stack.put(1, "usr/bin/.wh.tool", "");
    stack.put(2, "usr/bin/tool", "");
    let verdicts = stack.union.explain(Path::new("/usr/bin/tool")).unwrap();
    assert!(verdicts.iter().all(|verdict| !verdict.answers));
    assert_eq!(verdicts[0].found, Found::Nothing);
    assert_eq!(verdicts[1].found, Found::Whiteout("usr/bin/.wh.tool".into()));
    assert_eq!(verdicts[2].hidden.as_ref().unwrap().branch, 1);
    let line = verdicts[2].to_string();
    assert!(line.ends_with("/2: a file; hidden by usr/bin/.wh.tool of branch 1"), "{line}");
    assert_eq!(verdicts[3].found, Found::Nothing);

    let verdicts = stack.union.explain(Path::new("usr/bin")).unwrap();
    let answers: Vec<bool> = verdicts.iter().map(|verdict| verdict.answers).collect();
    assert_eq!(answers, [true, false, false, false]);
    assert!(verdicts[2].to_string().ends_with("merged into those above"), "{}", verdicts[2]);
}

/// The two texts of the rules, lookup's and explain's, are compared over all small stacks.
#[test]
fn explain_agrees_with_lookup_and_enter_in_every_stack_of_three_branches() {
    // What a branch may have at `d`, and in it at `d/x`.
    let at_d = ["", ".wh.d", "d", "d/", "d/+.wh.d", "d/.wh..wh..opq"];
    let at_x = ["", "d/x", "d/x/", "d/.wh.x", "d/x/.wh..wh..opq"];
    let layouts: Vec<(&str, &str)> = at_d
        .iter()
        .flat_map(|&d| at_x.iter().map(move |&x| (d, x)))
        .filter(|(d, x)| d.starts_with("d/") || x.is_empty())
        .collect();
    // One directory for each layout and each place in the stack.
    let stack = Stack::new(3 * layouts.len());
    for branch in 0..3 * layouts.len() {
        let (d, x) = layouts[branch % layouts.len()];
        for path in d.split('+').chain([x]).filter(|path| !path.is_empty()) {
            match path.strip_suffix('/') {
                Some(directory) => stack.put_directory(branch, directory),
                None => stack.put(branch, path, ""),
            }
        }
    }
    let count = layouts.len();
    for number in 0..count.pow(3) {
        let chosen = [number % count, count + number / count % count, 2 * count + number / count / count];
        let open = |branch| Branch::open(&stack.path(branch, ""), Mode::ReadOnly).unwrap();
        let union = Union::new(chosen.map(open).into()).unwrap();
        let by_walk = union.walk(Path::new("d")).and_then(|d| union.lookup(&d, OsStr::new("x")));
        let verdicts = union.explain(Path::new("d/x")).unwrap();
        let answering = verdicts.iter().find(|verdict| verdict.answers).map(|verdict| verdict.branch);
        assert_eq!(answering, by_walk.ok().map(|entry| entry.branch), "{verdicts:#?}");
        let merged: Vec<usize> = verdicts
            .iter()
            .filter(|verdict| verdict.hidden.is_none() && verdict.found == Found::Object(libc::S_IFDIR))
            .map(|verdict| verdict.branch)
            .collect();
        if let Ok(directory) = union.walk(Path::new("d/x")) {
            assert_eq!(directory.branches, merged, "{verdicts:#?}");
        }
    }
}

#[test]
fn a_stack_without_sense_is_refused_with_the_reason() {
    let stack = Stack::new(2);
    let refusal = |given: &[(&str, &str)]| {
        let given = given.iter().map(|(path, mode)| {
            Given::from_str(&format!("{}={mode}", stack.directory.join(path).display())).unwrap()
        });
        let branches = given.map(|given| given.open().unwrap()).collect();
        format!("{:#}", Union::new(branches).unwrap_err())
    };
    assert!(refusal(&[]).contains("needs a branch"));
    assert!(refusal(&[("0", "rw"), ("1", "rw")]).contains("rw and not on top"));
    assert!(refusal(&[("0", "ro"), ("0/../0", "ro")]).contains("twice"));
    assert!(refusal(&[("0", "rw"), ("", "ro")]).contains("one in the other"));
    assert_eq!(Given::from_str("/a=b=ro+wh").unwrap(), Given { path: "/a=b".into(), mode: Mode::ReadOnly });
    for text in ["/a", "/a=", "/a=rx", "=rw"] {
        assert!(format!("{:#}", Given::from_str(text).unwrap_err()).contains("DIR="), "{text}");
    }
    let error = format!("{:#}", Branch::open(&stack.path(0, "none"), Mode::ReadOnly).unwrap_err());
    assert!(error.contains("none") && error.contains("ENOENT"), "{error}");
}
