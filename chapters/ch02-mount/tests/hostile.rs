//! A root file system that lies about where its paths lead.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rootfs_builder::Source;
use tempfile::TempDir;
use testing::{Output, Program, Sandbox, needs};

const LESSON: &str = env!("CARGO_BIN_EXE_ch02-mount");

/// A root of our own to spoil, and a directory outside that must stay as it is.
struct Hostile {
    _directory: TempDir,
    root: PathBuf,
    outside: PathBuf,
}

impl Hostile {
    fn new() -> Hostile {
        let directory = tempfile::tempdir().unwrap();
        let (root, outside) = (directory.path().join("root"), directory.path().join("outside"));
        rootfs_builder::build(Source::Auto, &root).expect("build a root file system");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "the host's\n").unwrap();
        Hostile { _directory: directory, root, outside }
    }

    /// Replaces a directory of the root by a symbolic link.
    fn link(&self, name: &str, target: impl AsRef<Path>) {
        let path = self.root.join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        }
        symlink(target, path).unwrap();
    }

    fn run(&self, sandbox: &Sandbox, flags: &[&str], script: &str) -> Output {
        let program = Program::new(LESSON).in_sandbox(sandbox).args(["--quiet", "--rootfs"]).arg(&self.root);
        program.args(flags).args(["--", "/bin/sh", "-c", script]).run()
    }

    fn assert_outside_untouched(&self) {
        let names: Vec<_> =
            fs::read_dir(&self.outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(fs::read_to_string(self.outside.join("secret")).unwrap(), "the host's\n");
    }
}

#[test]
fn a_symlink_at_dev_or_proc_or_sys_is_refused() {
    needs!(Root);
    let sandbox = Sandbox::new();
    for name in ["dev", "proc", "sys"] {
        let outside = |hostile: &Hostile| hostile.outside.display().to_string();
        let up = |hostile: &Hostile| format!("../../../../../../../..{}", hostile.outside.display());
        // With /proc a link to /, the new procfs would cover the root, and be reached as /.. without any
        // mask.
        for target in
            [outside, up, |_| "/".into(), |_| ".".into(), |_| "/tmp".into()] as [fn(&Hostile) -> String; 5]
        {
            let hostile = Hostile::new();
            hostile.link(name, target(&hostile));
            let output = hostile.run(&sandbox, &[], "ls /..");
            assert_eq!(output.code, Some(125), "{output}");
            let refusal = format!("openat2 \"/{name}\" in the root file system");
            assert!(output.stderr.contains(&refusal) && output.stderr.contains("ELOOP"), "{output}");
            hostile.assert_outside_untouched();
            sandbox.check();
        }
    }
}

#[test]
fn two_lessons_that_start_at_once_in_one_root_do_not_collide() {
    needs!(Root);
    let (sandbox, hostile) = (Sandbox::new(), Hostile::new());
    for round in 0..10 {
        for name in ["dev", "proc", "sys"] {
            fs::remove_dir_all(hostile.root.join(name)).unwrap();
        }
        let volume = format!("/etc/passwd:/made/{round}/file");
        let program = Program::new(LESSON).in_sandbox(&sandbox).args(["-q", "--volume", &volume, "--rootfs"]);
        let program = program.arg(&hostile.root).args(["--", "/bin/true"]);
        let both = [program.clone().spawn(), program.spawn()];
        for output in both.map(testing::Running::wait) {
            assert_eq!(output.code, Some(0), "{output}");
        }
    }
}

#[test]
fn a_volume_s_target_behind_a_symlink_is_inside_the_root() {
    needs!(Root);
    let (sandbox, hostile) = (Sandbox::new(), Hostile::new());
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("file"), "volume\n").unwrap();
    // In the root, `/link` is an absolute path into the root; on the host it is the directory outside.
    fs::create_dir_all(hostile.root.join(hostile.outside.strip_prefix("/").unwrap())).unwrap();
    hostile.link("link", &hostile.outside);
    let volume = format!("{}:/link/place", source.path().display());
    let output = hostile.run(&sandbox, &["--volume", &volume], "cat /link/place/file");
    assert_eq!(output.stdout, "volume\n", "{output}");
    hostile.assert_outside_untouched();
    sandbox.check();
}

#[test]
fn a_volume_can_t_take_the_place_of_the_root() {
    needs!(Root);
    let (sandbox, hostile) = (Sandbox::new(), Hostile::new());
    hostile.link("link", "..");
    for target in ["/", "/..", "/link", "/bin/../"] {
        let output = hostile.run(&sandbox, &["--volume", &format!("/etc:{target}")], "true");
        assert_eq!(output.code, Some(125), "{target}: {output}");
        assert!(output.stderr.contains("root directory of the container"), "{output}");
        sandbox.check();
    }
}

#[test]
fn a_magic_link_of_procfs_is_refused() {
    needs!(Root);
    let (sandbox, hostile) = (Sandbox::new(), Hostile::new());
    // /proc is mounted by then, and /proc/1/root would lead wherever that process's root is.
    hostile.link("link", "/proc/self/root");
    let output = hostile.run(&sandbox, &["--volume", "/etc:/link/x"], "true");
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("ELOOP"), "{output}");
    hostile.assert_outside_untouched();
}

#[test]
fn a_masked_path_behind_a_symlink_is_masked_inside() {
    needs!(Root);
    let (sandbox, hostile) = (Sandbox::new(), Hostile::new());
    // The container's own /dev/null is a link to a file: the mask must be the host's device all the same.
    fs::remove_dir_all(hostile.root.join("dev")).unwrap();
    fs::create_dir(hostile.root.join("dev")).unwrap();
    symlink(hostile.outside.join("secret"), hostile.root.join("dev/null")).unwrap();
    let output = hostile.run(&sandbox, &[], "wc -c < /proc/interrupts; stat -c %t:%T /proc/interrupts");
    assert_eq!(output.stdout, "0\n1:3\n", "{output}");
    hostile.assert_outside_untouched();
}

#[test]
fn a_root_without_any_directories_gets_the_ones_it_needs() {
    needs!(Root);
    let (sandbox, hostile) = (Sandbox::new(), Hostile::new());
    for name in ["dev", "proc", "sys"] {
        fs::remove_dir_all(hostile.root.join(name)).unwrap();
    }
    let output =
        hostile.run(&sandbox, &[], "test -c /dev/null && test -d /proc/1 && test -d /sys/kernel && echo all");
    assert_eq!(output.stdout, "all\n", "{output}");
    sandbox.check();
}

#[test]
fn a_kernel_without_openat2_is_refused_not_trusted() {
    needs!(Root);
    let output = Program::new(LESSON).args(["-q", "--", "true"]).deny(libc::SYS_openat2, Errno::ENOSYS).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("openat2") && output.stderr.contains("ENOSYS"), "{output}");
}
