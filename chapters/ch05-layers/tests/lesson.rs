//! The experiments of the lesson, and how it ends.

mod lesson_support;

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use lesson_support::{LIMIT, World, server};
use testing::{Output, needs, poll};

/// What is said after `what`, in the lesson's facts.
fn fact<'a>(output: &'a Output, what: &str) -> &'a str {
    let facts = output.stderr.lines().filter_map(|line| line.trim_start().strip_prefix("= "));
    facts.filter_map(|fact| fact.strip_prefix(what)).next().unwrap_or_else(|| panic!("{what:?} in {output}"))
}

/// The numbers in a text.
fn numbers(text: &str) -> Vec<u64> {
    text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

with_each_backend! {
    fn without_arguments_it_shows_what_becomes_of_a_container_s_layers(world: &World) {
        let output = world.told().run();
        assert_eq!((output.code, output.stdout.as_str()), (Some(0), ""), "{output}");
        let line = |text: &str| output.stderr.lines().any(|line| line.trim().starts_with(text));
        for answer in [
            "= in the union, etc/motd says \"welcome to base, with tools\\n\"",
            "= branch 3, tools (ro): a file; it answers",
            "= in the union, etc/motd says \"welcome to base, with tools\\nchanged\\n\"",
            "= in the layer tools, etc/motd says \"welcome to base, with tools\\n\"",
            "= the union has lib/big: false",
            "= the layer base has lib/big: true",
            "= in the union, cache has 0 entries",
            "= C /etc/motd",
            "= D /lib/big",
            "= in the second container, etc/motd says \"welcome to base, with tools\\nchanged\\n\"",
        ] {
            assert!(line(answer), "{answer:?} in {output}");
        }
        // The container's layer has a file more and the image is as big as before: the deletion has freed nothing.
        let own = numbers(fact(&output, "the container's layer: "));
        assert!(own[0] > own[2] && own[1] >= own[3], "{own:?} in {output}");
        let below = numbers(fact(&output, "the layers below: "));
        assert_eq!(below[0], below[1], "{output}");
        let hidden = numbers(fact(&output, "bytes below that nobody can see: "));
        assert_eq!(hidden[0] - hidden[1], 65536, "{output}");
        for what in ["lib/tool", "its place on the disk"] {
            let places = ["one", "two"].map(|id| fact(&output, &format!("{what} in {id}: ")));
            assert_eq!(places[0], places[1], "{output}");
        }
        // What both mounts show is the layer's own file.
        let seen = numbers(fact(&output, "lib/tool in two: the union shows inode "));
        let own = numbers(fact(&output, "the layer tools (ro) answers for it, with inode "));
        assert_eq!(seen[0], own[0], "{output}");
    }
}

#[test]
fn with_fuse_the_marks_are_those_of_aufs() {
    needs!(Root, Fuse);
    let world = World::root(None);
    let output = world.told().run();
    // A line of the table, which is no fact and no step.
    for mark in ["    .wh.big", ".wh.cache", "    .wh..wh..opq"] {
        assert!(output.stderr.lines().any(|line| line.contains(mark)), "{mark:?} in {output}");
    }
    world.check();
}

#[test]
fn without_fuse_it_says_so_and_overlayfs_does_the_work() {
    needs!(Root, Fuse);
    let world = World::root(None);
    // A file that can't be opened takes the device's place.
    let hidden = "mount --bind -o ro /proc/version /dev/fuse";
    let output = world.shell(&format!("{hidden} && \"$0\"; status=$?; umount /dev/fuse; exit $status")).run();
    assert_eq!(output.code, Some(0), "{output}");
    assert!(output.stderr.contains("so overlayfs makes the union"), "{output}");
    assert!(output.stderr.contains("big (0:0)") && output.stderr.contains("cache/ (opaque)"), "{output}");
    world.check();
}

with_each_backend! {
    fn ctrl_c_at_any_moment_leaves_nothing_behind(world: &World) {
        for milliseconds in (0..300).step_by(20) {
            let running = world.lesson().spawn();
            sleep(Duration::from_millis(milliseconds));
            running.signal(libc::SIGINT);
            let output = running.wait();
            let by_signal = output.code == Some(130) || output.signal == Some(libc::SIGINT);
            assert!(by_signal || output.code == Some(0), "after {milliseconds} ms: {output}");
            world.check();
        }
    }
}

with_each_backend! {
    fn after_a_kill_the_next_run_sweeps(world: &World) {
        for milliseconds in [20, 60, 120, 250] {
            let running = world.lesson().spawn();
            sleep(Duration::from_millis(milliseconds));
            running.signal(libc::SIGKILL);
            running.wait();
        }
        // A child of the last one may live on for an instant, and hold the lock.
        poll(LIMIT, || {
            let output = world.lesson().run();
            assert_eq!(output.code, Some(0), "{output}");
            fs::read_dir(world.temporary()).unwrap().next().is_none().then_some(())
        });
    }
}

with_each_backend! {
    fn two_lessons_at_once_do_not_sweep_each_other(world: &World) {
        let both = [world.lesson().spawn(), world.lesson().spawn()];
        for running in both {
            let output = running.wait();
            assert_eq!(output.code, Some(0), "{output}");
        }
        world.check();
    }
}

#[test]
fn a_dead_server_is_named() {
    needs!(Root, Fuse);
    let world = World::root(Some("aufs"));
    // A change: what the kernel has in its caches could still be read.
    let mut lesson =
        world.lesson().args(["--", "sh", "-c", "echo ready; while echo > /new; do :; done; exit 9"]).spawn();
    assert_eq!(lesson.stdout_line(), "ready");
    let pid = server(&lesson);
    // SAFETY: kill takes two numbers; the process is the lesson's own child, which waits for it.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    let output = lesson.wait();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("signal 9") && output.stderr.contains("ENOTCONN"), "{output}");
    poll(LIMIT, || (!fs::exists(format!("/proc/{pid}")).unwrap()).then_some(()));
    world.check();
}
