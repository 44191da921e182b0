//! What an IPC namespace holds, and its file system of message queues.

mod forked;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use ch02_mount::Root;
use ch07_privileges::ipc::{self, Contents};
use forked::Forked;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::statfs;
use nix::unistd::{getegid, geteuid};
use testing::needs;
use userns::map;

tests! {
    the_objects_of_a_namespace_are_its_own_and_are_counted,
    its_message_queues_are_files_in_its_dev_mqueue,
    a_plain_user_mounts_the_queues_of_its_own_namespace_alone,
    each_of_the_sysctls_is_the_namespaces_own,
}

/// Makes one of each kind of System V object.
fn make_objects() -> anyhow::Result<()> {
    // SAFETY: the calls take numbers only.
    let made = unsafe {
        [
            libc::msgget(libc::IPC_PRIVATE, 0o600),
            libc::semget(libc::IPC_PRIVATE, 1, 0o600),
            libc::shmget(libc::IPC_PRIVATE, 4096, 0o600),
        ]
    };
    for result in made {
        Errno::result(result).context("make a System V object")?;
    }
    Ok(())
}

/// The lines of /proc/sysvipc, without their titles, in the IPC namespace of a process.
fn objects_of(process: &Forked) -> Vec<usize> {
    let namespace = File::open(format!("/proc/{}/ns/ipc", process.pid())).unwrap();
    let count = || {
        setns(namespace, CloneFlags::CLONE_NEWIPC).unwrap();
        own_objects()
    };
    std::thread::scope(|scope| scope.spawn(count).join().unwrap())
}

fn own_objects() -> Vec<usize> {
    let count = |kind| fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap().lines().count() - 1;
    ["msg", "sem", "shm"].map(count).to_vec()
}

fn the_objects_of_a_namespace_are_its_own_and_are_counted() {
    needs!(Root);
    let before = own_objects();
    let mut inside = Forked::start(|life| {
        unshare(CloneFlags::CLONE_NEWIPC)?;
        life.say(format!("{:?}", Contents::here()? == Contents::default()));
        make_objects()?;
        make_objects()?;
        let Contents { message_queues, semaphores, shared_memory } = Contents::here()?;
        life.say(format!("{:?}", [message_queues, semaphores, shared_memory]));
        Ok(())
    });
    assert_eq!(inside.line(), "true", "a new one is empty");
    assert_eq!(inside.line(), "[2, 2, 2]");
    assert_eq!(objects_of(&inside), [2, 2, 2]);
    assert_eq!(own_objects(), before);
}

/// A root file system with no more than a /dev.
fn root_with_dev() -> tempfile::TempDir {
    let root = testing::plain_user_directory();
    fs::create_dir(root.path().join("dev")).unwrap();
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
    fs::set_permissions(root.path().join("dev"), mode).unwrap();
    root
}

fn make_queue() -> anyhow::Result<()> {
    let none = std::ptr::null_mut::<libc::mq_attr>();
    // SAFETY: the name is a C string, and a null pointer means the default attributes.
    let queue = unsafe { libc::mq_open(c"/hull-test".as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600, none) };
    Errno::result(queue).map(drop).context("mq_open")
}

/// Mounts private, and the queues in `root`.
fn with_queues(root: &Path) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    ipc::mount_mqueue(&Root::open(root)?)
}

/// What is in the container's /dev/mqueue, from outside.
fn queues_of(process: &Forked, root: &Path) -> Vec<PathBuf> {
    let directory = format!("/proc/{}/root{}/dev/mqueue", process.pid(), root.display());
    const MQUEUE_MAGIC: i64 = 0x1980_0202;
    assert_eq!(statfs(directory.as_str()).unwrap().filesystem_type().0 as i64, MQUEUE_MAGIC);
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into()).collect()
}

fn its_message_queues_are_files_in_its_dev_mqueue() {
    needs!(Root);
    let root = root_with_dev();
    let mut inside = Forked::start(|life| {
        unshare(CloneFlags::CLONE_NEWIPC)?;
        with_queues(root.path())?;
        life.say("mounted");
        life.wait();
        make_queue()?;
        life.say("made");
        Ok(())
    });
    assert_eq!(inside.line(), "mounted");
    assert_eq!(queues_of(&inside, root.path()), Vec::<PathBuf>::new());
    inside.go();
    assert_eq!(inside.line(), "made");
    assert_eq!(queues_of(&inside, root.path()), [PathBuf::from("hull-test")]);
    // It does not exist in our namespace.
    // SAFETY: the name is a C string.
    let ours = Errno::result(unsafe { libc::mq_open(c"/hull-test".as_ptr(), libc::O_RDONLY) });
    assert_eq!(ours, Err(Errno::ENOENT));
}

fn a_plain_user_mounts_the_queues_of_its_own_namespace_alone() {
    needs!(UserNamespaces);
    let root = root_with_dev();
    let mut inside = Forked::as_plain_user(|life| {
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        unshare(CloneFlags::CLONE_NEWUSER)?;
        map::write_single(user, group)?;
        let error = with_queues(root.path()).unwrap_err();
        anyhow::ensure!(error.downcast_ref() == Some(&Errno::EPERM), "not EPERM: {error:?}");
        life.say(format!("{error:#}"));
        unshare(CloneFlags::CLONE_NEWIPC)?;
        with_queues(root.path())?;
        make_queue()?;
        life.say("made");
        Ok(())
    });
    assert!(inside.line().contains("the IPC namespace is the host's"));
    assert_eq!(inside.line(), "made");
    assert_eq!(queues_of(&inside, root.path()), [PathBuf::from("hull-test")]);
    let queue = format!("/proc/{}/root{}/dev/mqueue/hull-test", inside.pid(), root.path().display());
    assert_eq!(fs::metadata(queue).unwrap().uid(), testing::PlainUser::get().uid.as_raw());
}

fn each_of_the_sysctls_is_the_namespaces_own() {
    needs!(Root);
    let file = |name: &str| Path::new("/proc/sys").join(name.replace('.', "/"));
    let queues = fs::read_dir("/proc/sys/fs/mqueue").unwrap();
    let queues = queues.map(|entry| format!("fs.mqueue.{}", entry.unwrap().file_name().to_string_lossy()));
    let names: Vec<String> = ipc::SYSCTLS.into_iter().map(String::from).chain(queues).collect();
    // Not on every kernel: auto_msgmni is obsolete, the three next_id belong to CRIU.
    let names: Vec<String> = names.into_iter().filter(|name| file(name).exists()).collect();
    assert!(names.len() >= 12, "{names:?}");
    assert!(names.iter().all(|name| ipc::has_sysctl(name)) && !ipc::has_sysctl("kernel.pid_max"));
    let read = |name: &String| fs::read_to_string(file(name)).unwrap();
    let before: Vec<String> = names.iter().map(read).collect();
    let mut inside = Forked::start(|life| {
        unshare(CloneFlags::CLONE_NEWIPC)?;
        for name in &names {
            // A value that none has by default, and that each accepts.
            let value = match name.as_str() {
                "kernel.sem" => "250 32000 32 77".to_string(),
                "kernel.shm_rmid_forced" => "1".into(),
                "kernel.auto_msgmni" => continue,
                name if name.starts_with("fs.mqueue.msgsize") => "777".into(),
                _ => "7".into(),
            };
            fs::write(file(name), &value).with_context(|| format!("write {value:?} to {name:?}"))?;
            let now = read(name).split_whitespace().collect::<Vec<_>>().join(" ");
            anyhow::ensure!(now == value, "{name} is {now:?}");
        }
        life.say("written");
        Ok(())
    });
    assert_eq!(inside.line(), "written");
    assert_eq!(names.iter().map(read).collect::<Vec<_>>(), before);
}
