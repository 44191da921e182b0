//! The subcommands that work on a stack without a mount. They need no privileges.

mod lesson_support;

use std::fs;

use lesson_support::{Stack, World};
use testing::{Output, needs};

fn world() -> World {
    World::plain_user(None)
}

/// Runs a subcommand on the stack.
fn run(world: &World, stack: &Stack, name: &str, arguments: &[&str]) -> Output {
    world.program().args([name, "--quiet"]).args(stack.arguments()).args(arguments).run()
}

#[test]
fn ls_names_the_branches_that_answer() {
    needs!(PlainUser);
    let world = world();
    let stack = world.stack();
    let root = run(&world, &stack, "ls", &[]);
    assert_eq!(root.stdout, "1 2     etc/\n2       lib/\n", "{root}");
    assert_eq!(run(&world, &stack, "ls", &["/etc"]).stdout, "1       motd\n");
    assert_eq!(run(&world, &stack, "ls", &["/etc/motd"]).stdout, "1       etc/motd\n");
}

#[test]
fn cat_prints_the_uppermost_file() {
    needs!(PlainUser);
    let world = world();
    let stack = world.stack();
    assert_eq!(run(&world, &stack, "cat", &["etc/motd"]).stdout, "middle\n");
    let directory = run(&world, &stack, "cat", &["/etc"]);
    assert_eq!(directory.code, Some(125), "{directory}");
    assert!(directory.stderr.contains("not a regular file"), "{directory}");
    let above = run(&world, &stack, "cat", &["../top"]);
    assert!(above.stderr.contains("without `..`"), "{above}");
    assert!(run(&world, &stack, "cat", &["/etc/none"]).stderr.contains("(ENOENT)"));
}

#[test]
fn rm_writes_a_whiteout_and_explain_says_so() {
    needs!(PlainUser);
    let world = world();
    let stack = world.stack();
    let removed = run(&world, &stack, "rm", &["/lib/big"]);
    assert_eq!(removed.code, Some(0), "{removed}");
    let whiteout = fs::symlink_metadata(stack.at("top/lib/.wh.big")).unwrap();
    assert!(whiteout.is_file() && whiteout.len() == 0);
    assert!(stack.has("bottom/lib/big"));
    let explained = run(&world, &stack, "explain", &["lib/big"]).stdout;
    let lines: Vec<&str> = explained.lines().collect();
    assert!(lines[0].contains("the whiteout lib/.wh.big"), "{explained}");
    assert!(lines[1].ends_with(": nothing"), "{explained}");
    assert!(lines[2].contains("hidden by lib/.wh.big of branch 0"), "{explained}");
    assert!(run(&world, &stack, "cat", &["lib/big"]).stderr.contains("(ENOENT)"));
}

#[test]
fn rm_of_a_directory_wants_it_empty_or_is_told_to_go_on() {
    needs!(PlainUser);
    let world = world();
    let stack = world.stack();
    let refused = run(&world, &stack, "rm", &["/etc"]);
    assert!(refused.stderr.contains("ENOTEMPTY") && refused.stderr.contains("-r"), "{refused}");
    assert_eq!(run(&world, &stack, "rm", &["-r", "/etc"]).code, Some(0));
    assert_eq!(run(&world, &stack, "ls", &[]).stdout, "2       lib/\n");
    assert!(stack.has("middle/etc/motd") && stack.has("bottom/etc/motd"));
}

#[test]
fn a_stack_without_a_read_write_branch_refuses_changes() {
    needs!(PlainUser);
    let world = world();
    let stack = world.stack();
    let branch = format!("--branch={}=ro", stack.at("bottom"));
    let refused = world.program().args(["rm", &branch, "lib/big"]).run();
    assert_eq!(refused.code, Some(125), "{refused}");
    assert!(refused.stderr.contains("EROFS") && refused.stderr.contains("DIR=rw"), "{refused}");
    assert!(stack.has("bottom/lib/big"));
}

#[test]
fn diff_commit_and_size_tell_what_a_deletion_does() {
    needs!(PlainUser);
    let world = world();
    let stack = world.stack();
    assert_eq!(run(&world, &stack, "diff", &[]).stdout, "");
    assert_eq!(run(&world, &stack, "rm", &["lib/big"]).code, Some(0));
    assert_eq!(run(&world, &stack, "diff", &[]).stdout, "C /lib\nD /lib/big\n");

    let sizes = run(&world, &stack, "size", &[]).stdout;
    let bottom: Vec<&str> = sizes.lines().last().unwrap().split_whitespace().collect();
    // 7 bytes of etc/motd, hidden by the middle branch, and 10 of lib/big, hidden by the whiteout.
    assert_eq!(bottom[..2], ["17", "17"], "{sizes}");

    let committed = run(&world, &stack, "commit", &[&stack.at("layer")]);
    assert_eq!(committed.code, Some(0), "{committed}");
    assert!(stack.has("layer/lib/.wh.big"));
    let again = run(&world, &stack, "commit", &[&stack.at("layer")]);
    assert!(again.code == Some(125) && again.stderr.contains("layer"), "{again}");
}

#[test]
fn what_stems_from_an_init_branch_is_neither_listed_nor_committed() {
    needs!(PlainUser);
    let world = world();
    let stack = world.stack();
    for (path, text) in [("init/etc/hosts", ""), ("top/etc/hosts", "mine"), ("top/etc/new", "new")] {
        let path = stack.root.join(path);
        let directory = path.parent().unwrap();
        world.make(directory.parent().unwrap());
        world.make(directory);
        fs::write(&path, text).unwrap();
        world.give(&path);
    }
    let branches = ["top=rw", "init=init", "middle=ro", "bottom=ro"]
        .map(|branch| format!("--branch={}", stack.at(branch)));
    let diff = world.program().args(["diff", "--quiet"]).args(&branches).run();
    assert_eq!(diff.stdout, "C /etc\nA /etc/new\n", "{diff}");
    let committed = world.program().args(["commit", "--quiet"]).args(&branches).arg(stack.at("layer")).run();
    assert_eq!(committed.code, Some(0), "{committed}");
    assert!(stack.has("layer/etc/new") && !stack.has("layer/etc/hosts"));
}
