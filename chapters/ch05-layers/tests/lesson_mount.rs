//! `mount`: a union at a place of the user's choice, with a command and without one.

mod lesson_support;

use std::fs;

use lesson_support::{LIMIT, World, command, server};
use testing::process::{children, mount_points};
use testing::{Program, Running, needs, poll};

with_each_backend! {
    fn a_command_sees_the_union_and_nobody_else_does(world: &World) {
        let stack = world.stack();
        let running = world.mount(&stack).arg(stack.at("mnt")).args(["--", "sleep", "60"]).spawn();
        let inside = mount_points(command(&running, "sleep"));
        assert!(inside.contains(&stack.at("mnt")), "{inside:?}");
        let outside = mount_points(world.sandbox.as_ref().map_or(1, |sandbox| sandbox.pid()));
        assert!(!outside.contains(&stack.at("mnt")), "{outside:?}");
        running.signal(libc::SIGINT);
        assert_eq!(running.wait().code, Some(130), "Ctrl-C is for the command");
        world.check();
    }
}

with_each_backend! {
    fn a_command_s_changes_go_to_the_top_branch_and_its_status_is_ours(world: &World) {
        let stack = world.stack();
        let script = format!("cd {} && cat etc/motd && rm lib/big && echo new > etc/motd && exit 7", stack.at("mnt"));
        let output = world.mount(&stack).arg(stack.at("mnt")).args(["--", "sh", "-c", &script]).run();
        assert_eq!((output.code, output.stdout.as_str()), (Some(7), "middle\n"), "{output}");
        assert_eq!(fs::read_to_string(stack.at("top/etc/motd")).unwrap(), "new\n");
        assert_eq!(fs::read_to_string(stack.at("middle/etc/motd")).unwrap(), "middle\n");
        assert!(stack.has("bottom/lib/big"));
        assert!(stack.has("top/lib/.wh.big") != stack.has("top/lib/big"), "a mark of one kind or the other");
        let left = fs::read_dir(&stack.root).unwrap().count();
        assert_eq!(left, 4, "the work directory of overlayfs is gone");
    }
}

with_each_backend! {
    fn a_command_has_our_directory_our_input_and_our_environment(world: &World) {
        let stack = world.stack();
        let script = "pwd; cat; echo $GREETING";
        let program = world.mount(&stack).arg(stack.at("mnt")).args(["--", "sh", "-c", script]);
        let output = program.current_dir(&stack.root).stdin("typed\n").env("GREETING", "hello").run();
        assert_eq!(output.stdout, format!("{}\ntyped\nhello\n", stack.root.display()), "{output}");
        let output = world.mount(&stack).arg(stack.at("mnt")).args(["--", "no-such-command"]).run();
        assert_eq!(output.code, Some(127), "{output}");
    }
}

with_each_backend! {
    fn a_killed_program_leaves_no_mount(world: &World) {
        let stack = world.stack();
        let running = world.mount(&stack).arg(stack.at("mnt")).args(["--", "sleep", "60"]).spawn();
        let processes = [children(running.pid()), vec![command(&running, "sleep")]].concat();
        running.signal(libc::SIGKILL);
        running.wait();
        poll(LIMIT, || processes.iter().all(|pid| !testing::process::exists(*pid)).then_some(()));
        world.check();
        let output = world.mount(&stack).arg(stack.at("mnt")).args(["--", "cat", &stack.at("mnt/etc/motd")]).run();
        assert_eq!(output.stdout, "middle\n", "the next one works: {output}");
    }
}

with_each_backend! {
    fn at_a_terminal_ctrl_c_is_for_the_command(world: &World) {
        let stack = world.stack();
        let script = "trap 'echo caught; exit 5' INT; echo waiting; while :; do sleep 0.1; done";
        let program = world.mount(&stack).arg(stack.at("mnt")).args(["--", "sh", "-c", script]);
        let mut running = program.pty().spawn();
        running.expect("waiting", LIMIT);
        running.type_keys("\x03");
        running.expect("caught", LIMIT);
        assert_eq!(running.wait().code, Some(5));
    }
}

#[test]
fn a_server_that_dies_under_a_command_is_reported_at_once() {
    needs!(Root, Fuse);
    let world = World::root(Some("aufs"));
    let stack = world.stack();
    let mut running = world.mount(&stack).arg(stack.at("mnt")).args(["--", "sleep", "60"]).spawn();
    command(&running, "sleep");
    // SAFETY: kill takes two numbers; the process is the program's own child.
    assert_eq!(unsafe { libc::kill(server(&running), libc::SIGKILL) }, 0);
    let warning = running.stderr_line();
    assert!(warning.starts_with("warning: ") && warning.contains("signal 9"), "{warning}");
    running.signal(libc::SIGTERM);
    let output = running.wait();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("the command ended with status 143"), "{output}");
    world.check();
}

#[test]
fn without_fuse_the_error_names_the_other_backend() {
    needs!(Root, Fuse);
    let world = World::root(Some("aufs"));
    let stack = world.stack();
    let arguments = stack.arguments().join(" ");
    let hidden = "mount --bind -o ro /proc/version /dev/fuse";
    let program = format!("\"$0\" mount {arguments} {} -- true", stack.at("mnt"));
    let output =
        world.shell(&format!("{hidden} && {program}; status=$?; umount /dev/fuse; exit $status")).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("--backend overlay"), "{output}");
}

/// Mounts without a command, as root; returns when it is ready.
fn hold(world: &World, stack: &lesson_support::Stack) -> Running {
    let mut running = world.mount(stack).arg(stack.at("mnt")).spawn();
    let line = running.stderr_line();
    assert!(line.starts_with("ready: ") && line.contains(&stack.at("mnt")), "{line}");
    running
}

fn for_each_backend_as_root(claim: impl Fn(&World)) {
    for backend in ["aufs", "overlay"] {
        let world = World::root(Some(backend));
        claim(&world);
        world.check();
    }
}

#[test]
fn without_a_command_it_stays_until_a_signal() {
    needs!(Root, Fuse);
    for_each_backend_as_root(|world| {
        let stack = world.stack();
        for signal in [libc::SIGINT, libc::SIGTERM] {
            let running = hold(world, &stack);
            let output = world.shell(&format!("cat {}", stack.at("mnt/etc/motd"))).run();
            assert_eq!(output.stdout, "middle\n", "{output}");
            running.signal(signal);
            let output = running.wait();
            assert_eq!(output.code, Some(0), "{output}");
            world.check();
        }
    });
}

#[test]
fn without_a_command_it_stays_until_it_is_unmounted() {
    needs!(Root, Fuse);
    for_each_backend_as_root(|world| {
        let stack = world.stack();
        let running = hold(world, &stack);
        let output = world.shell(&format!("umount {}", stack.at("mnt"))).run();
        assert_eq!(output.code, Some(0), "{output}");
        let output = running.wait();
        assert_eq!(output.code, Some(0), "{output}");
    });
}

#[test]
fn a_plain_user_mounts_by_fusermount3() {
    needs!(FuseAsPlainUser);
    let world = World::plain_user(Some("aufs"));
    let stack = world.stack();
    let running = hold(&world, &stack);
    let output = Program::new("cat").arg(stack.at("mnt/etc/motd")).as_plain_user().run();
    assert_eq!(output.stdout, "middle\n", "{output}");
    running.signal(libc::SIGTERM);
    assert_eq!(running.wait().code, Some(0));
    world.check();
}

#[test]
fn a_dead_server_is_reported_and_its_mount_goes() {
    needs!(Root, Fuse);
    let world = World::root(Some("aufs"));
    let stack = world.stack();
    let running = hold(&world, &stack);
    // SAFETY: kill takes two numbers; the process is the program's own child.
    assert_eq!(unsafe { libc::kill(server(&running), libc::SIGKILL) }, 0);
    let output = running.wait();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("signal 9") && output.stderr.contains("ENOTCONN"), "{output}");
    world.check();
}

#[test]
fn a_mount_whose_program_and_server_were_killed_is_taken_away_by_the_next() {
    needs!(Root, Fuse);
    let world = World::root(Some("aufs"));
    let stack = world.stack();
    let running = hold(&world, &stack);
    running.signal(libc::SIGKILL);
    running.wait();
    poll(LIMIT, || {
        let answer = world.shell(&format!("stat -f {}", stack.at("mnt"))).run();
        answer.stderr.contains("not connected").then_some(())
    });
    let running = hold(&world, &stack);
    running.signal(libc::SIGTERM);
    assert_eq!(running.wait().code, Some(0));
    world.check();
}

#[test]
fn a_plain_user_is_told_that_overlayfs_needs_a_command() {
    needs!(PlainUser);
    let world = World::plain_user(Some("overlay"));
    let stack = world.stack();
    let output = world.mount(&stack).arg(stack.at("mnt")).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("only root may mount an overlayfs here"), "{output}");
}

#[test]
fn what_is_not_there_is_named() {
    needs!(Root);
    let world = World::root(None);
    let stack = world.stack();
    let output = world.mount(&stack).arg(stack.at("nowhere")).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("the mount point") && output.stderr.contains("ENOENT"), "{output}");
    let output = world.program().args(["mount", "--branch", "/nowhere=rw", &stack.at("mnt")]).run();
    assert!(
        output.stderr.contains("the branch \"/nowhere\"") && output.stderr.contains("ENOENT"),
        "{output}"
    );
    let output = world.program().args(["mount", "--branch", "/tmp=rx", &stack.at("mnt")]).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("DIR=rw"), "{output}");
}

#[test]
fn a_mount_that_is_detached_under_its_users_ends_all_the_same() {
    needs!(Root, Fuse);
    let world = World::root(Some("aufs"));
    let stack = world.stack();
    // cat(1) stands in it, and ends when the program has.
    let script = r#"
        "$0" mount --quiet --backend aufs "$@" 2>&1 |
            { read -r ready; cd "$MOUNTPOINT" && umount -l "$MOUNTPOINT" && exec cat; }
    "#;
    let program = world.shell(script).args(stack.arguments()).arg(stack.at("mnt"));
    let output = program.env("MOUNTPOINT", stack.at("mnt")).run();
    assert_eq!(output.code, Some(0), "{output}");
    world.check();
}
