//! Volumes, and kernels that lack the newer calls.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use testing::{Output, Program, Sandbox, needs};

const LESSON: &str = env!("CARGO_BIN_EXE_ch02-mount");

fn with_volume(program: Program, volume: &str, script: &str) -> Output {
    program.args(["-q", "--volume", volume, "--", "sh", "-c", script]).run()
}

fn source() -> tempfile::TempDir {
    let source = testing::plain_user_directory();
    fs::write(source.path().join("file"), "from the host\n").unwrap();
    source
}

fn volume(source: &Path, target: &str) -> String {
    format!("{}:{target}", source.display())
}

#[test]
fn a_volume_is_the_same_directory_and_what_is_written_stays() {
    needs!(UserNamespaces);
    let source = source();
    let program = Program::new(LESSON).as_plain_user();
    let output = with_volume(
        program,
        &volume(source.path(), "/new/place"),
        "cat /new/place/file; echo inside > /new/place/x",
    );
    assert_eq!(output.stdout, "from the host\n", "{output}");
    assert_eq!(fs::read_to_string(source.path().join("x")).unwrap(), "inside\n");
}

#[test]
fn the_root_s_own_directory_can_be_a_volume_and_hold_another_one() {
    needs!(Root);
    let (root, source) = (rootfs_builder::default_root().unwrap(), source());
    let first = format!("{}:/mnt", root.display());
    let program = Program::new(LESSON).args(["--volume", &first]);
    let output = with_volume(program, &volume(source.path(), "/mnt"), "cat /mnt/file");
    assert_eq!(output.stdout, "from the host\n", "{output}");
}

#[test]
fn a_file_can_be_a_volume() {
    needs!(UserNamespaces);
    let source = source();
    let program = Program::new(LESSON).as_plain_user();
    let output = with_volume(program, &volume(&source.path().join("file"), "/new/file"), "cat /new/file");
    assert_eq!(output.stdout, "from the host\n", "{output}");
}

#[test]
fn a_read_only_volume_is_read_only_with_the_mounts_below_it() {
    needs!(Root);
    let (sandbox, source) = (Sandbox::new(), source());
    fs::create_dir(source.path().join("below")).unwrap();
    let directory = source.path().display();
    let lesson = format!(
        "{LESSON} -q --volume {directory}:/v:ro -- sh -c 'cat /v/file; touch /v/x; touch /v/below/x'"
    );
    let script = format!("mount -t tmpfs x {directory}/below && {lesson}; umount {directory}/below");
    let output = Program::new("sh").args(["-c", &script]).in_sandbox(&sandbox).run();
    assert_eq!(output.stdout, "from the host\n", "{output}");
    assert_eq!(output.stderr.matches("Read-only file system").count(), 2, "{output}");
    sandbox.check();
}

#[test]
fn a_volume_that_is_wrong_is_named() {
    needs!(UserNamespaces);
    for (volume, words) in [
        ("/etc", "SRC:DST"),
        ("/etc:relative", "absolute path"),
        ("/etc:/x:rx", "\"rx\" is unknown"),
        (":/x", "no source"),
        ("/no/such/source:/x", "\"/no/such/source\": No such file or directory (ENOENT)"),
    ] {
        let output = with_volume(Program::new(LESSON).as_plain_user(), volume, "true");
        assert_eq!(output.code, Some(125), "{output}");
        assert!(output.stderr.contains(words), "{words} in {output}");
    }
}

#[test]
fn a_kernel_without_mount_setattr_makes_volumes_and_the_root_read_only_too() {
    needs!(Root);
    let (sandbox, source) = (Sandbox::new(), source());
    let program = Program::new(LESSON).in_sandbox(&sandbox).deny(libc::SYS_mount_setattr, Errno::ENOSYS);
    let volume = format!("{}:/v:ro", source.path().display());
    let script = "cat /v/file; touch /v/x; touch /x; echo 1 > /proc/sys/vm/swappiness; cat /proc/sys/vm/swappiness > /dev/null && echo ok";
    let output = with_volume(program.arg("--read-only"), &volume, script);
    assert_eq!(output.stdout, "from the host\nok\n", "{output}");
    assert_eq!(output.stderr.matches("Read-only file system").count(), 3, "{output}");
    sandbox.check();
}

#[test]
fn a_kernel_without_mount_setattr_drops_no_attribute_that_the_root_has() {
    needs!(Root);
    let (sandbox, directory) = (Sandbox::new(), tempfile::tempdir().unwrap());
    let root = directory.path().display();
    let script = format!(
        "mount -t tmpfs -o nosuid,nodev x {root} && cp -a {}/. {root}/ &&
         {LESSON} -q --read-only --rootfs {root} -- grep ' / / ' /proc/self/mountinfo; umount {root}",
        rootfs_builder::default_root().unwrap().display()
    );
    let program = Program::new("sh").args(["-c", &script]).in_sandbox(&sandbox);
    let output = program.deny(libc::SYS_mount_setattr, Errno::ENOSYS).run();
    assert!(output.stdout.contains(" ro,nosuid,nodev,"), "{output}");
    sandbox.check();
}

#[test]
fn a_masked_proc_is_named_as_the_reason_why_a_new_one_is_refused() {
    needs!(Root, UserNamespaces);
    let sandbox = Sandbox::new();
    let mask = Program::new("mount").args(["-t", "tmpfs", "mask", "/proc/sys"]).in_sandbox(&sandbox).run();
    assert_eq!(mask.code, Some(0), "{mask}");
    let output = Program::new(LESSON).as_plain_user().in_sandbox(&sandbox).args(["-q", "--", "true"]).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("own /proc is masked") && output.stderr.contains("EPERM"), "{output}");
    let unmask = Program::new("umount").arg("/proc/sys").in_sandbox(&sandbox).run();
    assert_eq!(unmask.code, Some(0), "{unmask}");
    sandbox.check();
}
