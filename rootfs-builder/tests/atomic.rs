//! Claims about builds that do not come to their end, or not alone.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use common::{build, expect_code, expect_error, names, shared_directory};
use testing::{Program, Running, needs, poll};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

#[test]
fn a_signal_at_any_moment_leaves_all_or_nothing() {
    let directory = shared_directory();
    let root = directory.path().join("root");
    let start = Instant::now();
    expect_code(&build("host", &root).run(), 0);
    let whole = start.elapsed();
    fs::remove_dir_all(&root).unwrap();

    let mut interrupted = 0;
    for step in 0..30 {
        let signal = [SIGINT, SIGTERM, SIGHUP][step as usize % 3];
        let running = build("host", &root).spawn();
        thread::sleep(whole * step / 30);
        running.signal(signal);
        let output = running.wait();
        if output.code == Some(128 + signal) {
            interrupted += 1;
            assert!(output.stderr.contains("interrupted by SIG"), "{output:?}");
        } else {
            // It was too early for a handler, and nothing had been made; or too late, and all was done.
            assert!(output.signal == Some(signal) || output.code == Some(0), "{output:?}");
        }
        let left = names(directory.path());
        if left == ["root"] {
            expect_code(&common::builder().arg("check").arg(&root).run(), 0);
            fs::remove_dir_all(&root).unwrap();
        } else {
            assert_eq!(left, [""; 0], "{output:?}");
        }
    }
    assert!(interrupted > 0, "no signal met the build in its course");
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let fake = FakeMmdebstrap::new("sleep 0.5; exec tar -C \"$ROOT\" -c .");
    let root = fake.path().join("root");
    let script =
        format!("trap '' HUP; exec {} build --from debian {root:?}", env!("CARGO_BIN_EXE_rootfs-builder"));
    let running = fake.on_path(Program::new("sh").args(["-c", &script])).spawn();
    fake.wait_until_it_runs();
    running.signal(SIGHUP);
    expect_code(&running.wait(), 0);
}

#[test]
fn what_a_killed_builder_left_is_swept_and_what_a_living_one_makes_is_not() {
    let fake = FakeMmdebstrap::new("exec sleep 1000");
    let root = fake.path().join("root");
    let partials =
        || names(fake.path()).into_iter().filter(|name| name.starts_with(".root.partial.")).count();
    let killed = fake.on_path(build("debian", &root)).spawn();
    fake.wait_until_it_runs();
    let is_tar = |pid: &i32| testing::process::status(*pid, "Name").as_deref() == Some("tar");
    let tar_runs = || testing::process::children(killed.pid()).iter().any(is_tar).then_some(());
    poll(Duration::from_secs(30), tar_runs);
    killed.signal(SIGKILL);
    killed.wait();
    // tar still holds the lock, until mmdebstrap too is gone. This build fails, for want of mmdebstrap, but
    // sweeps first.
    let sweep = || build("debian", &root).env("PATH", "/nonexistent").run();
    sweep();
    assert_eq!(partials(), 1);
    fake.kill();
    let living = fake.on_path(build("debian", &root)).spawn();
    fake.wait_until_it_runs();
    poll(Duration::from_secs(10), || {
        sweep();
        (partials() == 1).then_some(())
    });
    living.signal(SIGTERM);
    expect_code(&living.wait(), 128 + SIGTERM);
    assert_eq!(partials(), 0);
}

#[test]
fn a_sweep_follows_no_link() {
    let directory = shared_directory();
    let precious = directory.path().join("precious");
    fs::create_dir_all(precious.join("root")).unwrap();
    symlink(&precious, directory.path().join(".root.partial.trap42")).unwrap();
    expect_code(&build("host", &directory.path().join("root")).run(), 0);
    assert_eq!(names(&precious), ["root"]);
}

#[test]
fn of_builders_at_the_same_time_one_wins_and_all_can_use_it() {
    let directory = shared_directory();
    let root = directory.path().join("root");
    let builders: Vec<Running> = (0..8).map(|_| build("host", &root).spawn()).collect();
    let outputs: Vec<_> = builders.into_iter().map(Running::wait).collect();
    for output in &outputs {
        expect_code(output, 0);
        assert_eq!(output.stdout, format!("{}\n", root.display()));
    }
    let new = outputs.iter().filter(|output| output.stderr.contains("built from host")).count();
    assert_eq!(new, 1);
    assert_eq!(names(directory.path()), ["root"]);
    expect_code(&common::builder().arg("check").arg(&root).run(), 0);
}

#[test]
fn a_full_disk_is_named_and_left_as_it_was() {
    needs!(Root);
    let sandbox = testing::Sandbox::new();
    let directory = shared_directory();
    let disk = directory.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs"];
    expect_code(&Program::new("mount").args(options).arg(&disk).in_sandbox(&sandbox).run(), 0);
    let from_host = build("host", &disk.join("root")).in_sandbox(&sandbox).run();
    let fake = FakeMmdebstrap::new("exec tar -C \"$ROOT\" -c .");
    for name in ["big", "bigger"] {
        // tar tells of a write that was cut short, and the errno of the next one.
        fs::write(fake.path().join("debian").join(name), vec![1; 3 << 20]).unwrap();
    }
    let from_debian = fake.on_path(build("debian", &disk.join("root"))).in_sandbox(&sandbox).run();
    let left = Program::new("ls").arg("-A").arg(&disk).in_sandbox(&sandbox).run();
    expect_code(&Program::new("umount").arg(&disk).in_sandbox(&sandbox).run(), 0);
    expect_error(&from_host, &["write \"", "/disk/.root.partial.", "No space left on device (ENOSPC)"]);
    expect_error(&from_debian, &["./big", "No space left on device", "tar with exit status: 2"]);
    assert_eq!(left.stdout, "");
}

#[test]
fn a_disk_without_room_for_another_file_is_left_as_it_was() {
    needs!(Root);
    let sandbox = testing::Sandbox::new();
    let directory = shared_directory();
    let disk = directory.path().join("disk");
    fs::create_dir(&disk).unwrap();
    // The first inode is the disk's root directory; the build fails at its first, second, third ... file.
    for inodes in 1..8 {
        let mount =
            Program::new("mount").args(["-t", "tmpfs", "-o", &format!("nr_inodes={inodes}"), "tmpfs"]);
        expect_code(&mount.arg(&disk).in_sandbox(&sandbox).run(), 0);
        let output = build("host", &disk.join("root")).in_sandbox(&sandbox).run();
        let left = Program::new("ls").arg("-A").arg(&disk).in_sandbox(&sandbox).run();
        expect_code(&Program::new("umount").arg(&disk).in_sandbox(&sandbox).run(), 0);
        expect_error(&output, &["/disk", "No space left on device (ENOSPC)"]);
        assert_eq!(left.stdout, "", "with {inodes} inodes: {output:?}");
    }
}

#[test]
fn a_mount_point_is_refused_with_a_hint() {
    needs!(Root);
    let sandbox = testing::Sandbox::new();
    let directory = shared_directory();
    let disk = directory.path().join("disk");
    fs::create_dir(&disk).unwrap();
    expect_code(
        &Program::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&disk).in_sandbox(&sandbox).run(),
        0,
    );
    let output = build("host", &disk).in_sandbox(&sandbox).run();
    expect_code(&Program::new("umount").arg(&disk).in_sandbox(&sandbox).run(), 0);
    expect_error(&output, &["something is mounted there", "(EBUSY)"]);
    assert_eq!(names(directory.path()), ["disk"]);
}

#[test]
fn debian_is_unpacked_from_mmdebstraps_archive_without_its_devices() {
    let fake = FakeMmdebstrap::new("exec tar -C \"$ROOT\" -c .");
    let root = fake.path().join("root");
    let output = fake.on_path(build("debian", &root)).run();
    expect_code(&output, 0);
    assert!(output.stderr.contains("progress"), "{output:?}");
    assert_eq!(fs::read_to_string(root.join("etc/os-release")).unwrap(), "ID=debian\n");
    assert_eq!(fs::read_to_string(root.join("etc/hostname")).unwrap(), "hull\n");
    assert_eq!(names(&root.join("dev")), [""; 0]);
    assert_eq!(fs::metadata(root.join("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
}

#[test]
fn a_failed_mmdebstrap_leaves_nothing_behind() {
    let fake = FakeMmdebstrap::new("echo 'E: no such mirror' >&2; exit 25");
    let output = fake.on_path(build("debian", &fake.path().join("root"))).run();
    expect_error(&output, &["E: no such mirror", "mmdebstrap ended with exit status: 25"]);
    assert_eq!(names(fake.path()), ["bin", "debian", "started"]);
    let missing = build("debian", &fake.path().join("root")).env("PATH", "/nonexistent").run();
    expect_error(&missing, &["run \"mmdebstrap\": No such file or directory (ENOENT)", "install"]);
}

#[test]
fn a_signal_ends_mmdebstrap_too() {
    let fake = FakeMmdebstrap::new("exec sleep 1000");
    let running = fake.on_path(build("debian", &fake.path().join("root"))).spawn();
    let pid = fake.wait_until_it_runs();
    running.signal(SIGTERM);
    expect_code(&running.wait(), 128 + SIGTERM);
    assert!(!Path::new("/proc").join(pid).exists());
    assert_eq!(names(fake.path()), ["bin", "debian", "started"]);
}

#[test]
fn a_signal_ends_even_an_mmdebstrap_that_ignores_it() {
    // It ends by SIGPIPE, once nobody holds the other end of its pipe any more.
    let fake = FakeMmdebstrap::new("trap '' TERM; exec cat /dev/urandom");
    let running = fake.on_path(build("debian", &fake.path().join("root"))).spawn();
    fake.wait_until_it_runs();
    running.signal(SIGTERM);
    expect_code(&running.wait(), 128 + SIGTERM);
    assert_eq!(names(fake.path()), ["bin", "debian", "started"]);
}

/// A program named mmdebstrap that needs no network, in a directory with a small tree that it may put in
/// its archive.
struct FakeMmdebstrap {
    directory: tempfile::TempDir,
}

impl FakeMmdebstrap {
    fn new(script: &str) -> FakeMmdebstrap {
        let directory = shared_directory();
        let path = |name: &str| directory.path().join(name);
        for name in ["bin", "debian", "debian/bin", "debian/etc", "debian/dev", "debian/tmp"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("debian/etc/os-release"), "ID=debian\n").unwrap();
        fs::write(path("debian/bin/sh"), "").unwrap();
        File::create(path("debian/dev/null")).unwrap();
        let program = path("bin/mmdebstrap");
        let started = path("started");
        let root = path("debian");
        let script = format!("#!/bin/sh\nROOT={root:?}\necho progress >&2\necho $$ >{started:?}\n{script}\n");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        FakeMmdebstrap { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn on_path(&self, program: Program) -> Program {
        let path = std::env::var_os("PATH").unwrap();
        let directories = [self.path().join("bin")].into_iter().chain(std::env::split_paths(&path));
        program.env("PATH", std::env::join_paths(directories).unwrap())
    }

    /// Returns the pid of the last one that was started.
    fn wait_until_it_runs(&self) -> PathBuf {
        poll(Duration::from_secs(10), || {
            let pid = fs::read_to_string(self.path().join("started")).ok()?;
            pid.ends_with('\n').then(|| PathBuf::from(pid.trim()))
        })
    }

    /// Kills the one that runs.
    fn kill(&self) {
        let pid = self.wait_until_it_runs();
        expect_code(&Program::new("kill").arg(&pid).run(), 0);
        fs::remove_file(self.path().join("started")).unwrap();
    }
}
