//! A container on a union, seen from outside and from inside.

mod lesson_support;

use std::fs;

use lesson_support::{LIMIT, World, command};
use testing::process::mount_points;
use testing::{Program, needs};

/// Runs a shell script in the container.
fn inside(program: Program, script: &str) -> testing::Output {
    program.args(["--", "sh", "-c", script]).run()
}

with_each_backend! {
    fn a_command_has_the_image_s_layers_as_its_root(world: &World) {
        let script = "hello && cat /etc/os-release > /tmp/copy && rm /etc/os-release && ls /tmp && echo /proc/[0-9]*";
        let output = inside(world.lesson(), script);
        assert_eq!(output.stdout, "hello from a layer\ncopy\n/proc/1 /proc/2\n", "{output}");
        assert_eq!(output.code, Some(0), "{output}");
    }
}

with_each_backend! {
    fn statuses_pass_through(world: &World) {
        assert_eq!(inside(world.lesson(), "exit 7").code, Some(7));
        assert_eq!(inside(world.lesson(), "kill -KILL $$").code, Some(137));
        let missing = world.lesson().args(["--", "no-such-command"]).run();
        assert_eq!(missing.code, Some(127), "{missing}");
    }
}

#[test]
fn other_users_inside_use_the_union_too() {
    needs!(Root, Fuse);
    for backend in ["aufs", "overlay"] {
        let world = World::root(Some(backend));
        let output = inside(world.lesson(), "su -s /bin/sh nobody -c 'hello && id -u && echo x > /root/new'");
        assert_eq!(output.stdout, "hello from a layer\n65534\n", "{output}");
        assert!(output.stderr.contains("/root/new: Permission denied"), "{output}");
        world.check();
    }
}

with_each_backend! {
    fn what_it_changes_is_told_and_the_root_file_system_is_as_before(world: &World) {
        let root = rootfs_builder::default_root().unwrap();
        let before = fs::read(root.join("etc/os-release")).unwrap();
        let script = "echo changed > /etc/os-release; rm /etc/passwd; mkdir /new";
        let output = inside(world.told(), script);
        assert_eq!(output.code, Some(0), "{output}");
        for change in ["= C /etc\n", "= C /etc/os-release\n", "= D /etc/passwd\n", "= A /new\n"] {
            assert!(output.stderr.contains(change), "{change:?} in {output}");
        }
        assert_eq!(fs::read(root.join("etc/os-release")).unwrap(), before);
        assert!(root.join("etc/passwd").exists() && !root.join("new").exists());
    }
}

with_each_backend! {
    fn a_kept_image_has_the_changes_at_the_next_run(world: &World) {
        let image = format!("--image={}", world.directory.path().join("image").display());
        let first = inside(world.lesson().arg(&image), "echo kept > /kept; rm /etc/passwd");
        assert_eq!(first.code, Some(0), "{first}");
        let second = inside(world.lesson().arg(&image), "cat /kept; test -e /etc/passwd; echo $?");
        assert_eq!(second.stdout, "kept\n1\n", "{second}");
    }
}

#[test]
fn a_kept_aufs_container_has_whiteouts_on_the_disk() {
    needs!(Root, Fuse);
    let world = World::root(Some("aufs"));
    let image = world.directory.path().join("image");
    let output = inside(world.lesson().arg(format!("--image={}", image.display())), "rm /etc/passwd");
    assert_eq!(output.code, Some(0), "{output}");
    let whiteout = fs::metadata(image.join("diff/with-aufs/etc/.wh.passwd")).unwrap();
    assert!(whiteout.is_file() && whiteout.len() == 0);
    assert!(image.join("diff/base/etc/passwd").exists());
    world.check();
}

with_each_backend! {
    fn nothing_of_the_host_s_mount_table_is_left_inside(world: &World) {
        let running = world.lesson().args(["--", "sleep", "60"]).spawn();
        let expected = ["/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/shm"];
        let points = mount_points(command(&running, "sleep"));
        let is_inside = |point: &str| {
            ["/proc/", "/sys/", "/dev/"].iter().any(|directory| point.starts_with(directory))
        };
        let left: Vec<&str> = points.iter().map(String::as_str).filter(|point| !is_inside(point)).collect();
        assert_eq!(left, expected[..4]);
        // Nor is the union seen outside.
        let outside = mount_points(world.sandbox.as_ref().map_or(1, |sandbox| sandbox.pid()));
        let mine = world.directory.path().to_string_lossy().into_owned();
        assert!(!outside.iter().any(|point| point.starts_with(&mine)), "{outside:?}");
        running.signal(libc::SIGTERM);
        // In the command's first instant, before init has let go of the host's files, the lesson cleans up and ends by
        // the signal itself, which a shell shows alike.
        let output = running.wait();
        assert!(output.code == Some(143) || output.signal == Some(libc::SIGTERM), "{output}");
    }
}

with_each_backend! {
    fn at_a_terminal_it_gets_one_of_its_own(world: &World) {
        let mut running = world.lesson().pty().args(["--", "sh", "-c", "tty; read line; echo \"you said $line\""]).spawn();
        running.expect("/dev/pts/0", LIMIT);
        running.type_line("hello");
        running.expect("you said hello", LIMIT);
        assert_eq!(running.wait().code, Some(0));
    }
}

with_each_backend! {
    fn a_command_may_be_named_like_a_subcommand(world: &World) {
        let output = world.lesson().args(["--image", "ls", "/"]).run();
        assert!(output.stdout.contains("proc\n"), "{output}");
        let output = world.program().args(["--", "ls", "/"]).run();
        assert!(output.stdout.contains("proc\n"), "{output}");
        let output = world.lesson().arg("--image").run();
        assert!(output.stdout.contains("proc\n"), "ls is what it runs without a command: {output}");
    }
}
