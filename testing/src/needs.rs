//! What a test needs of the machine, and how a test that lacks it is recorded.
//!
//! Each need is tried, not guessed from a version or a sysctl: user namespaces alone can be switched off by
//! five different mechanisms. What has been tried is remembered for the life of the test binary.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, geteuid};

use crate::Program;
use crate::cgroups::Hierarchy;
use crate::plain_user::PlainUser;

/// Something that a test needs and that a machine may lack. See [`needs!`](crate::needs).
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Uid 0 with what it takes to make mount, PID and network namespaces (`CAP_SYS_ADMIN`).
    Root,
    /// A program can be run as a plain user: we are root and may become one, or we are one.
    PlainUser,
    /// A plain user may create a user namespace and has its capabilities there.
    UserNamespaces,
    /// The kernel has time namespaces (Linux 5.6 with CONFIG_TIME_NS).
    TimeNamespaces,
    /// A program in `PATH`.
    Tool(&'static str),
    /// A shared library that the dynamic loader finds by this name: `libseccomp.so.2`.
    Library(&'static str),
    /// The setuid helpers `newuidmap` and `newgidmap`, and ranges for the plain user in `/etc/subuid` and
    /// `/etc/subgid`.
    Newuidmap,
    /// `/sys/fs/cgroup` is cgroup version 2.
    CgroupV2,
    /// A hierarchy of cgroup version 1 with a controller is mounted; version 2 may be as well.
    CgroupV1,
    /// A cgroup hierarchy, of whichever version, has this controller, as the sandbox's cgroups have it.
    CgroupController(&'static str),
    /// PID 1 is systemd, and the system's message bus answers.
    Systemd,
    /// The plain user's own systemd starts programs in a cgroup that the user may divide. They are run
    /// [with_user_manager](crate::Program::with_user_manager).
    DelegatedCgroup,
    /// This is the virtual machine of `scripts/vm`, of which nothing is lost: its clock may be set, its modules loaded.
    TestMachine,
    /// The processor is no emulated one, which takes ten times as long.
    RealProcessor,
    /// Who runs the tests may open `/dev/fuse`, the kernel has the file system `fuse`, and a plain user has
    /// `fusermount3`.
    Fuse,
    /// The same for the plain user, whoever runs the tests.
    FuseAsPlainUser,
}

impl Need {
    /// Whether the machine has it; if not, why, in a few words.
    pub fn met(self) -> Result<(), String> {
        static ROOT: Memo = Memo::new();
        static PLAIN_USER: Memo = Memo::new();
        static USER_NAMESPACES: Memo = Memo::new();
        static DELEGATED_CGROUP: Memo = Memo::new();
        static FUSE: Memo = Memo::new();
        static FUSE_AS_PLAIN_USER: Memo = Memo::new();
        match self {
            Need::Root => ROOT.get_or_init(root).clone(),
            Need::PlainUser => PLAIN_USER.get_or_init(plain_user).clone(),
            Need::UserNamespaces => USER_NAMESPACES.get_or_init(user_namespaces).clone(),
            Need::TimeNamespaces => time_namespaces(),
            Need::Tool(name) => tool(name),
            Need::Library(name) => library(name),
            Need::Newuidmap => newuidmap(),
            Need::CgroupV2 => cgroup_v2(),
            Need::CgroupV1 => cgroup_v1(),
            Need::CgroupController(name) => cgroup_controller(name),
            Need::Systemd => systemd(),
            Need::DelegatedCgroup => DELEGATED_CGROUP.get_or_init(delegated_cgroup).clone(),
            Need::TestMachine => test_machine(),
            Need::RealProcessor => real_processor(),
            Need::Fuse => FUSE.get_or_init(fuse).clone(),
            Need::FuseAsPlainUser => FUSE_AS_PLAIN_USER.get_or_init(fuse_as_plain_user).clone(),
        }
    }
}

type Memo = OnceLock<Result<(), String>>;

fn root() -> Result<(), String> {
    if !geteuid().is_root() {
        return Err(format!("the tests run as uid {}", geteuid()));
    }
    let namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET;
    tried(|| unshare(namespaces))
        .map_err(|errno| format!("unshare(CLONE_NEWNS|CLONE_NEWPID|CLONE_NEWNET): {errno}"))
}

fn plain_user() -> Result<(), String> {
    let user = PlainUser::get();
    tried(|| user.become_in_child()).map_err(|errno| format!("becoming uid {}: {errno}", user.uid))
}

fn user_namespaces() -> Result<(), String> {
    Need::PlainUser.met()?;
    let user = PlainUser::get();
    tried(|| {
        user.become_in_child()?;
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
    })
    .map_err(|errno| format!("unshare(CLONE_NEWUSER|CLONE_NEWNS) as uid {}: {errno}", user.uid))?;
    // Ubuntu's AppArmor lets anyone create the namespace, but without capabilities in it: only using one
    // shows that.
    tried(|| {
        user.become_in_child()?;
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
    })
    .map_err(|errno| format!("mount in a user namespace of uid {}: {errno}", user.uid))
}

fn time_namespaces() -> Result<(), String> {
    match Path::new("/proc/self/ns/time").exists() {
        true => Ok(()),
        false => Err("there is no /proc/self/ns/time".to_string()),
    }
}

fn tool(name: &str) -> Result<(), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let executable = |file: &Path| {
        fs::metadata(file)
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    match std::env::split_paths(&path).any(|directory| executable(&directory.join(name))) {
        true => Ok(()),
        false => Err(format!("no {name} in PATH")),
    }
}

fn library(name: &str) -> Result<(), String> {
    let file = CString::new(name).expect("a name without NUL");
    // SAFETY: the name is a string that lives through the call; what the library does when it is loaded, its user wants.
    let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_LAZY) };
    if handle.is_null() { Err(format!("no {name}")) } else { Ok(()) }
}

fn newuidmap() -> Result<(), String> {
    tool("newuidmap")?;
    tool("newgidmap")?;
    let user = PlainUser::get();
    for file in ["/etc/subuid", "/etc/subgid"] {
        let ranges = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        let owner = |line: &str| line.split(':').next().unwrap_or_default().to_string();
        if !ranges.lines().map(owner).any(|owner| owner == user.name || owner == user.uid.to_string()) {
            return Err(format!("{file} has no range for {} (uid {})", user.name, user.uid));
        }
    }
    Ok(())
}

fn cgroup_v2() -> Result<(), String> {
    let file_system = statfs("/sys/fs/cgroup").map_err(|errno| format!("statfs /sys/fs/cgroup: {errno}"))?;
    match file_system.filesystem_type() == CGROUP2_SUPER_MAGIC {
        true => Ok(()),
        false => Err("/sys/fs/cgroup is not a cgroup2 file system".to_string()),
    }
}

fn cgroup_v1() -> Result<(), String> {
    match Hierarchy::all().iter().any(Hierarchy::is_v1_with_controllers) {
        true => Ok(()),
        false => Err("no hierarchy of cgroup version 1 is mounted".to_string()),
    }
}

fn cgroup_controller(name: &str) -> Result<(), String> {
    let hierarchies = Hierarchy::all();
    let controllers: Vec<&String> = hierarchies.iter().flat_map(|hierarchy| &hierarchy.controllers).collect();
    match controllers.iter().any(|controller| *controller == name) {
        true => Ok(()),
        false => Err(format!("no hierarchy has the controller {name}, only {controllers:?}")),
    }
}

fn systemd() -> Result<(), String> {
    // As sd_booted(3) finds out.
    if !Path::new("/run/systemd/system").is_dir() {
        return Err("PID 1 is not systemd: no /run/systemd/system".to_string());
    }
    let bus = "/run/dbus/system_bus_socket";
    UnixStream::connect(bus).map(drop).map_err(|error| format!("connect to {bus}: {error}"))
}

fn test_machine() -> Result<(), String> {
    // scripts/vm.d/provision makes this unit, by which the machine tells its host that it is up.
    let unit = "/etc/systemd/system/hull-ready.service";
    match fs::read_to_string(unit) {
        Ok(text) if text.contains("hull-vm: ready") => Ok(()),
        Ok(_) => Err(format!("{unit} is another one's")),
        Err(error) => Err(format!("not the machine of scripts/vm: {unit}: {error}")),
    }
}

fn real_processor() -> Result<(), String> {
    let text = fs::read_to_string("/proc/cpuinfo").map_err(|error| format!("/proc/cpuinfo: {error}"))?;
    match text.lines().find(|line| line.contains("QEMU TCG")) {
        Some(line) => Err(format!("/proc/cpuinfo has {line:?}")),
        None => Ok(()),
    }
}

fn delegated_cgroup() -> Result<(), String> {
    systemd()?;
    tool("systemd-run")?;
    Need::PlainUser.met()?;
    let arguments = ["--user", "--scope", "--quiet", "-p", "Delegate=yes", "cat", "/proc/self/cgroup"];
    let output = Program::new("systemd-run").args(arguments).with_user_manager().run();
    match output.code {
        Some(0) => Ok(()),
        _ => Err(format!(
            "systemd-run {} as uid {}: {}",
            arguments.join(" "),
            PlainUser::get().uid,
            output.stderr
        )),
    }
}

fn fuse() -> Result<(), String> {
    if !geteuid().is_root() {
        return fuse_as_plain_user();
    }
    tried(open_fuse).map_err(|errno| format!("open /dev/fuse: {errno}"))?;
    fuse_in_kernel()
}

fn fuse_as_plain_user() -> Result<(), String> {
    Need::PlainUser.met()?;
    let user = PlainUser::get();
    tried(|| user.become_in_child().and_then(|()| open_fuse()))
        .map_err(|errno| format!("open /dev/fuse as uid {}: {errno}", user.uid))?;
    fuse_in_kernel()?;
    // It mounts for those who may not: setuid root. mount.fuse3(8)
    tool("fusermount3")
}

fn open_fuse() -> nix::Result<()> {
    open("/dev/fuse", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map(drop)
}

/// Asked after `/dev/fuse` was opened, which makes the kernel load the module.
fn fuse_in_kernel() -> Result<(), String> {
    let known =
        fs::read_to_string("/proc/filesystems").map_err(|error| format!("/proc/filesystems: {error}"))?;
    // Each line is `nodev` or nothing, a tab, the name: proc_filesystems(5).
    match known.lines().any(|line| line.split('\t').nth(1) == Some("fuse")) {
        true => Ok(()),
        false => Err("/proc/filesystems does not list fuse".to_string()),
    }
}

/// What `attempt` returns in a forked child: what it changes dies with that child.
///
/// `attempt` runs in the child of a process with several threads, so it may do nothing but system calls.
fn tried(attempt: impl Fn() -> nix::Result<()>) -> Result<(), Errno> {
    // SAFETY: the child makes system calls only, takes no lock and allocates nothing; then it leaves with
    // _exit.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            let status = attempt().err().map_or(0, |errno| errno as i32);
            // SAFETY: _exit ends the child without running the exit handlers of the test process.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => match waitpid(child, None).expect("waitpid") {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, errno) => Err(Errno::from_raw(errno)),
            other => panic!("the child that tries what the machine can do ended with {other:?}"),
        },
    }
}

/// Makes a test return where the machine lacks something that it needs; the first line of such a test.
///
/// The arguments are variants of [`Need`]: `needs!(Root)`, `needs!(UserNamespaces, Tool("strace"))`. A
/// missing one is printed as `SKIPPED test: needs Root: the tests run as uid 1000`, and appended to the file
/// that the variable `HULL_TEST_RECORD` names: `test binary<TAB>test<TAB>reason`.
#[macro_export]
macro_rules! needs {
    ($($need:ident $(($argument:expr))?),+ $(,)?) => {$(
        if let Err(reason) = $crate::Need::$need $(($argument))? .met() {
            fn here() {}
            $crate::skip(here, $crate::Need::$need $(($argument))?, &reason);
            return;
        }
    )+};
}

/// Records that the test in which the function `here` was declared is skipped. Called by
/// [`needs!`](crate::needs).
///
/// # Panics
/// When the record can't be written: a skip that nobody counts would pass for a test that ran.
pub fn skip<Here>(_here: Here, need: Need, reason: &str) {
    let test = test_name(std::any::type_name::<Here>());
    let reason = format!("needs {need:?}: {reason}").replace(['\n', '\t'], " ");
    // Written to the stream itself: eprintln! would be captured, and shown for failed tests only.
    let _ = io::stderr().write_all(format!("SKIPPED {test}: {reason}\n").as_bytes());

    let Some(record) = std::env::var_os("HULL_TEST_RECORD") else { return };
    let binary = std::env::current_exe().expect("/proc/self/exe");
    let binary = binary.file_name().unwrap_or_default().to_string_lossy();
    let line = format!("{binary}\t{test}\t{reason}\n");
    // Test binaries share the file: with O_APPEND, a line that is written by one call stays whole.
    let written = OpenOptions::new().create(true).append(true).open(&record);
    let written = written.and_then(|mut file| file.write_all(line.as_bytes()));
    written.unwrap_or_else(|error| panic!("append to {record:?}: {error}"));
}

/// The name that cargo's test harness gives to a test: `crate::module::test::here` without crate and `here`.
fn test_name(here: &str) -> String {
    let parts: Vec<&str> = here.split("::").filter(|part| *part != "{{closure}}").collect();
    parts[1..parts.len() - 1].join("::")
}
