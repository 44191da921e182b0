//! A terminal from a root that may be hostile, and the socket by which it is sent out.
//!
//! The roots are those of forked children, so this process must have a single thread.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ch01_pid::terminal::receive_master;
use ch06_exec::console::{ConsoleSocket, open_pty};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chroot, fork, mkfifo, pipe};
use testing::{Program, needs};

fn main() -> ExitCode {
    testing::run_tests![
        a_terminal_comes_from_the_devpts_whatever_lies_at_dev_ptmx,
        a_device_file_of_the_multiplexer_is_as_good,
        a_root_without_a_multiplexer_says_what_it_has,
        a_device_file_without_a_devpts_beside_it_is_refused,
        a_plain_user_of_the_host_gets_a_terminal,
        a_master_arrives_at_whoever_listens,
        the_path_of_a_console_socket_may_be_long,
        a_console_socket_that_is_none_is_named,
    ]
}

/// What `open_pty` says in a root whose /dev is made by `prepare`, which gets that directory.
///
/// In a child, with a mount namespace and that root: the error, or a description of the terminal.
fn terminal_in(prepare: impl Fn(&Path)) -> String {
    let root = tempfile::tempdir().unwrap();
    let (dev, proc) = (root.path().join("dev"), root.path().join("proc"));
    fs::create_dir(&dev).unwrap();
    fs::create_dir(&proc).unwrap();
    let (read, write) = pipe().unwrap();
    // SAFETY: this process has a single thread.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop(read);
            let said = catch_unwind(AssertUnwindSafe(|| {
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
                // The temporary directory's own file system may be one on which device files lead to nothing.
                for (kind, place) in [("proc", &proc), ("tmpfs", &dev)] {
                    mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>).unwrap();
                }
                fs::create_dir(dev.join("pts")).unwrap();
                prepare(&dev);
                chroot(root.path()).unwrap();
                std::env::set_current_dir("/").unwrap();
                describe()
            }));
            let said = said.unwrap_or_else(|_| "the child panicked".into());
            File::from(write).write_all(said.as_bytes()).unwrap_or_default();
            // SAFETY: _exit(2) ends the process and touches no memory of it.
            unsafe { libc::_exit(0) }
        }
    };
    drop(write);
    // What waits for a FIFO waits for ever.
    let ended = ends(child);
    let mut said = String::new();
    File::from(read).read_to_string(&mut said).unwrap();
    assert!(ended, "open_pty hangs");
    said
}

/// Whether the child ends within 20 seconds; it is gone afterwards.
fn ends(child: Pid) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while waitpid(child, Some(WaitPidFlag::WNOHANG)).unwrap() == WaitStatus::StillAlive {
        if Instant::now() > deadline {
            kill(child, Signal::SIGKILL).unwrap();
            waitpid(child, None).unwrap();
            return false;
        }
        sleep(Duration::from_millis(5));
    }
    true
}

/// Opens a terminal, and proves that it is one of the devpts in this root.
fn describe() -> String {
    let pty = match open_pty() {
        Ok(pty) => pty,
        Err(error) => return format!("{error:#}"),
    };
    let (master, mut slave) = (File::from(pty.master), File::from(pty.slave));
    let names: Vec<_> = fs::read_dir("/dev/pts").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let here = fs::metadata("/dev/pts/0").is_ok_and(|file| file.ino() == slave.metadata().unwrap().ino());
    // What is written at one end comes out at the other; a read would wait, if the master were not blocking.
    slave.write_all(b"x\n").unwrap();
    let mut read = [0; 3];
    (&master).read_exact(&mut read).unwrap();
    format!(
        "{} {names:?} {}",
        if here { "the root's" } else { "not the root's" },
        String::from_utf8_lossy(&read)
    )
}

fn mount_pts(dev: &Path, options: &str) {
    mount(Some("devpts"), &dev.join("pts"), Some("devpts"), MsFlags::empty(), Some(options)).unwrap();
}

fn make_fifo(path: PathBuf) {
    mkfifo(&path, Mode::from_bits_truncate(0o666)).unwrap();
}

fn device(path: PathBuf, major: u64, minor: u64) {
    mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(major, minor)).unwrap();
}

const OURS: &str = "the root's [\"0\", \"ptmx\"] x\r\n";

fn a_terminal_comes_from_the_devpts_whatever_lies_at_dev_ptmx() {
    needs!(Root);
    let hostile: [fn(&Path); 7] = [
        |dev| symlink("pts/ptmx", dev.join("ptmx")).unwrap(),
        |dev| make_fifo(dev.join("ptmx")),
        |dev| {
            make_fifo(dev.join("fifo"));
            symlink("fifo", dev.join("ptmx")).unwrap();
        },
        |dev| fs::write(dev.join("ptmx"), "").unwrap(),
        // /dev/full: a device that is not ours to open.
        |dev| device(dev.join("ptmx"), 1, 7),
        |dev| symlink("/proc/self/fd/0", dev.join("ptmx")).unwrap(),
        |_| (),
    ];
    for prepare in hostile {
        let said = terminal_in(|dev| {
            mount_pts(dev, "newinstance,ptmxmode=0666");
            prepare(dev);
        });
        assert_eq!(sorted(&said), sorted(OURS));
    }
}

/// The order of a directory's entries is the file system's.
fn sorted(text: &str) -> String {
    text.replace("[\"ptmx\", \"0\"]", "[\"0\", \"ptmx\"]")
}

fn a_device_file_of_the_multiplexer_is_as_good() {
    needs!(Root);
    // Something lies on the devpts's own one: then the device file is opened.
    let said = terminal_in(|dev| {
        mount_pts(dev, "newinstance,ptmxmode=0666");
        device(dev.join("ptmx"), 5, 2);
        fs::write(dev.join("over"), "").unwrap();
        bind(&dev.join("over"), &dev.join("pts/ptmx"));
    });
    assert_eq!(sorted(&said), sorted(OURS));
}

fn bind(from: &Path, to: &Path) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// How a root is made, and what the error must say.
type Case = (fn(&Path), &'static [&'static str]);

fn a_root_without_a_multiplexer_says_what_it_has() {
    needs!(Root);
    let cases: [Case; 8] = [
        (|_| (), &["/dev/pts is no devpts", "openat2 \"/dev/ptmx\"", "ENOENT"]),
        (|dev| fs::remove_dir(dev.join("pts")).unwrap(), &["openat2 \"/dev/pts\"", "ENOENT"]),
        (|dev| make_fifo(dev.join("ptmx")), &["/dev/ptmx is a FIFO"]),
        (
            |dev| {
                make_fifo(dev.join("fifo"));
                symlink("/dev/fifo", dev.join("ptmx")).unwrap();
                // A FIFO in the place of the devpts's.
                make_fifo(dev.join("pts/ptmx"));
            },
            &["/dev/pts is no devpts", "/dev/ptmx is a FIFO"],
        ),
        (|dev| fs::write(dev.join("ptmx"), "").unwrap(), &["/dev/ptmx is a regular file"]),
        (|dev| device(dev.join("ptmx"), 1, 7), &["/dev/ptmx is the character device 1:7"]),
        (|dev| symlink("/proc/self/fd/0", dev.join("ptmx")).unwrap(), &["openat2 \"/dev/ptmx\"", "ELOOP"]),
        (
            // CVE-2025-52565 and its like: something that is not a terminal is bound where one is expected.
            |dev| {
                mount_pts(dev, "newinstance,ptmxmode=0666");
                make_fifo(dev.join("fifo"));
                bind(&dev.join("fifo"), &dev.join("pts/ptmx"));
                symlink("pts/ptmx", dev.join("ptmx")).unwrap();
            },
            &["something was mounted over it", "/dev/ptmx is a FIFO"],
        ),
    ];
    for (prepare, words) in cases {
        let said = terminal_in(prepare);
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    }
}

fn a_device_file_without_a_devpts_beside_it_is_refused() {
    needs!(Root);
    let said = terminal_in(|dev| device(dev.join("ptmx"), 5, 2));
    assert!(said.contains("/dev/pts is no devpts") && said.contains("ENODEV"), "{said}");
}

fn a_plain_user_of_the_host_gets_a_terminal() {
    const TEST: &str = "a_plain_user_of_the_host_gets_a_terminal";
    needs!(PlainUser);
    if std::env::var_os("IS_PLAIN_USER").is_some() {
        let number = File::from(open_pty().unwrap().slave).metadata().unwrap().rdev();
        println!("terminal {}:{}", major(number), minor(number));
        return;
    }
    // On most hosts /dev/pts/ptmx has mode 000, and /dev/ptmx is the device file.
    let program = Program::new(std::env::current_exe().unwrap()).arg(TEST);
    let output = program.env("IS_PLAIN_USER", "1").as_plain_user().run();
    // The slaves of pseudo-terminals have the major numbers 136 to 143.
    assert!(output.stdout.contains("terminal 13") || output.stdout.contains("terminal 14"), "{output}");
}

fn a_master_arrives_at_whoever_listens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let pty = ch01_pid::terminal::open_pty(Path::new("/dev/ptmx")).unwrap();
    ConsoleSocket::connect(&path).unwrap().send(&pty.master).unwrap();
    let (connection, _) = listener.accept().unwrap();
    let mut received = File::from(receive_master(connection.as_fd()).unwrap());
    // It is this terminal's: what is written to its slave arrives there.
    File::from(pty.slave).write_all(b"x").unwrap();
    let mut read = [0];
    received.read_exact(&mut read).unwrap();
    assert_eq!(read, *b"x");
}

fn the_path_of_a_console_socket_may_be_long() {
    let directory = tempfile::tempdir().unwrap();
    // Both sides of what an address holds, and far above.
    for length in [106, 107, 108, 109, 300, 3000] {
        let missing = length - directory.path().as_os_str().len();
        let names = (0..missing / 200).map(|_| format!("{:d<199}", "/")).collect::<String>();
        let parent = directory.path().join(names.trim_start_matches('/'));
        fs::create_dir_all(&parent).unwrap();
        let parent = PathBuf::from(parent.to_str().unwrap().trim_end_matches('/'));
        let path = parent.join("s".repeat(length - parent.as_os_str().len() - 1));
        assert_eq!(path.as_os_str().len(), length);
        // The listener has the same difficulty, so it is bound elsewhere and moved.
        let short = directory.path().join("x");
        let listener = UnixListener::bind(&short).unwrap();
        fs::rename(&short, &path).unwrap();
        let pty = ch01_pid::terminal::open_pty(Path::new("/dev/ptmx")).unwrap();
        ConsoleSocket::connect(&path).unwrap().send(&pty.master).unwrap();
        let (connection, _) = listener.accept().unwrap();
        receive_master(connection.as_fd()).unwrap();
        fs::remove_file(path).unwrap();
    }
}

fn a_console_socket_that_is_none_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let refusal = || format!("{:#}", ConsoleSocket::connect(&path).map(drop).unwrap_err());
    let says = |word: &str| {
        let said = refusal();
        assert!(said.contains(word) && said.contains(path.to_str().unwrap()), "{said}");
        fs::remove_file(&path).unwrap_or_default();
    };
    says("ENOENT");
    fs::write(&path, "").unwrap();
    says("it is no socket");
    drop(UnixListener::bind(&path).unwrap());
    says("refused");
    let _datagrams = UnixDatagram::bind(&path).unwrap();
    says("wrong type");
}
