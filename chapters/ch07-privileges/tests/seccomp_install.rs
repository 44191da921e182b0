//! What the kernel does with an installed filter, seen from outside of the process that has it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use ch07_privileges::seccomp::architecture::Architecture;
use ch07_privileges::seccomp::install::is_available;
use ch07_privileges::seccomp::policy::{Action, Condition, Flag, Operator, Rule};
use ch07_privileges::seccomp::program::Instruction;
use ch07_privileges::seccomp::{Policy, Program, compile, install};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, Uid, fork};
use testing::PlainUser;

fn rule(name: &str, action: Action, conditions: &[Condition]) -> Rule {
    Rule { names: vec![name.to_string()], action, conditions: conditions.to_vec() }
}

/// Everything is allowed but what these rules say.
fn allow_but(rules: Vec<Rule>) -> Policy {
    Policy { default: Action::Allow, architectures: Vec::new(), flags: Vec::new(), rules }
}

/// Runs `body` in a child; its value is the exit status.
fn child(body: impl FnOnce() -> i32) -> Pid {
    // SAFETY: the child has this thread alone. It takes no lock that another one of libtest's threads may
    // have held: it prints nothing, and glibc's allocator is made to be forked.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // It dies with a test that fails.
            // SAFETY: numbers only.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let status = catch_unwind(AssertUnwindSafe(body)).unwrap_or(254);
            // SAFETY: _exit(2) ends the process and touches no memory of it.
            unsafe { libc::_exit(status) }
        }
    }
}

fn status_of(body: impl FnOnce() -> i32) -> WaitStatus {
    waitpid(child(body), None).unwrap()
}

fn no_new_privs() {
    // SAFETY: numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
}

/// Runs `body` in a child under the policy.
fn filtered(policy: &Policy, body: impl FnOnce() -> i32) -> WaitStatus {
    let program = compile(policy).unwrap();
    status_of(|| {
        no_new_privs();
        match install(&program, &policy.flags, false) {
            Ok(_) => body(),
            Err(_) => 255,
        }
    })
}

/// The call's errno, 0 for none. Numbers only: no argument is used as an address by the calls that are made
/// so.
fn errno_of(number: libc::c_long, arguments: [u64; 6]) -> i32 {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the calls that are made so take no addresses.
    match Errno::result(unsafe { libc::syscall(number, a, b, c, d, e, f) }) {
        Ok(_) => 0,
        Err(errno) => errno as i32,
    }
}

fn exit_code(status: WaitStatus) -> i32 {
    match status {
        WaitStatus::Exited(_, code) => code,
        other => panic!("{other:?}"),
    }
}

fn died_of(status: WaitStatus) -> Signal {
    match status {
        WaitStatus::Signaled(_, signal, _) => signal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_forbidden_call_returns_the_errno_of_its_rule() {
    for errno in [Errno::EPERM, Errno::E2BIG, Errno::ENOSYS] {
        let policy = allow_but(vec![rule("getppid", Action::Errno(errno as u16), &[])]);
        assert_eq!(exit_code(filtered(&policy, || errno_of(libc::SYS_getppid, [0; 6]))), errno as i32);
        assert_eq!(exit_code(filtered(&policy, || errno_of(libc::SYS_getpid, [0; 6]))), 0);
    }
}

#[test]
fn each_operator_compares_64_bits_in_the_kernel() {
    let operators = [
        Operator::NotEqual,
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Equal,
        Operator::GreaterOrEqual,
        Operator::Greater,
        Operator::MaskedEqual,
    ];
    let values = [0, 5, 0xffff_ffff, (1 << 32) + 5, u64::MAX];
    for (index, operator) in operators.into_iter().enumerate() {
        for value in values {
            let argument = index as u8 % 6;
            let condition = Condition { argument, operator, value, value_two: 5 };
            let policy = allow_but(vec![rule("getppid", Action::Errno(7), &[condition])]);
            let arguments =
                values.iter().flat_map(|value| [value.wrapping_sub(1), *value, value.wrapping_add(1)]);
            let wrong = filtered(&policy, || {
                let is_wrong = |value: u64| {
                    let mut arguments = [0x77; 6];
                    arguments[usize::from(argument)] = value;
                    (errno_of(libc::SYS_getppid, arguments) == 7) != condition.holds(value)
                };
                arguments.filter(|value| is_wrong(*value)).count() as i32
            });
            assert_eq!(exit_code(wrong), 0, "{condition:?}");
        }
    }
}

#[test]
fn kill_process_ends_all_threads_and_kill_thread_one() {
    let in_a_thread = || {
        thread::spawn(|| errno_of(libc::SYS_getppid, [0; 6]));
        thread::sleep(Duration::from_millis(500));
        3
    };
    let policy = allow_but(vec![rule("getppid", Action::KillProcess, &[])]);
    assert_eq!(died_of(filtered(&policy, in_a_thread)), Signal::SIGSYS);
    let policy = allow_but(vec![rule("getppid", Action::KillThread, &[])]);
    assert_eq!(exit_code(filtered(&policy, in_a_thread)), 3);
}

/// The call and the architecture that a SIGSYS told of.
static TRAPPED: AtomicI64 = AtomicI64::new(-1);
static TRAPPED_ARCHITECTURE: AtomicI64 = AtomicI64::new(-1);

extern "C" fn trapped(_: i32, information: *mut libc::siginfo_t, _: *mut libc::c_void) {
    /// `siginfo_t` as far as SIGSYS has it: sigaction(2).
    #[repr(C)]
    struct Sigsys {
        numbers: [i32; 3],
        call_address: *mut libc::c_void,
        syscall: i32,
        architecture: u32,
    }
    // SAFETY: the kernel gives a SIGSYS this structure.
    let sigsys = unsafe { &*information.cast::<Sigsys>() };
    TRAPPED.store(sigsys.syscall.into(), Ordering::Relaxed);
    TRAPPED_ARCHITECTURE.store(sigsys.architecture.into(), Ordering::Relaxed);
}

#[test]
fn trap_sends_a_signal_that_names_the_call() {
    let policy = allow_but(vec![rule("getppid", Action::Trap, &[])]);
    assert_eq!(died_of(filtered(&policy, || errno_of(libc::SYS_getppid, [0; 6]))), Signal::SIGSYS);
    let status = filtered(&policy, || {
        // SAFETY: zero is a value of each field; the handler stores two numbers.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = trapped as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGSYS, &action, null_mut());
        }
        errno_of(libc::SYS_getppid, [0; 6]);
        let is_getppid = TRAPPED.load(Ordering::Relaxed) == libc::SYS_getppid;
        let audit = Architecture::native().unwrap().audit();
        i32::from(is_getppid && TRAPPED_ARCHITECTURE.load(Ordering::Relaxed) == i64::from(audit))
    });
    assert_eq!(exit_code(status), 1);
}

#[test]
fn trace_asks_the_tracer_and_without_one_returns_enosys() {
    let policy = allow_but(vec![rule("getppid", Action::Trace(77), &[])]);
    assert_eq!(exit_code(filtered(&policy, || errno_of(libc::SYS_getppid, [0; 6]))), Errno::ENOSYS as i32);
    let program = compile(&policy).unwrap();
    let pid = child(|| {
        no_new_privs();
        // SAFETY: numbers and null only.
        unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, null_mut::<u8>(), null_mut::<u8>()) };
        kill(Pid::this(), Signal::SIGSTOP).unwrap();
        if install(&program, &[], false).is_err() {
            return 255;
        }
        errno_of(libc::SYS_getppid, [0; 6])
    });
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Stopped(pid, Signal::SIGSTOP));
    let mut status = 0;
    let mut message: libc::c_ulong = 0;
    // SAFETY: the kernel writes the status and the message, which outlive the calls.
    unsafe {
        let options = libc::PTRACE_O_TRACESECCOMP | libc::PTRACE_O_EXITKILL;
        assert_eq!(
            libc::ptrace(libc::PTRACE_SETOPTIONS, pid.as_raw(), null_mut::<u8>(), options as libc::c_long),
            0
        );
        assert_eq!(libc::ptrace(libc::PTRACE_CONT, pid.as_raw(), null_mut::<u8>(), 0_usize), 0);
        assert_eq!(libc::waitpid(pid.as_raw(), &mut status, 0), pid.as_raw());
        assert_eq!(status >> 8, libc::SIGTRAP | libc::PTRACE_EVENT_SECCOMP << 8);
        assert_eq!(
            libc::ptrace(libc::PTRACE_GETEVENTMSG, pid.as_raw(), null_mut::<u8>(), &raw mut message),
            0
        );
        assert_eq!(message, 77);
        // The tracer lets it be made.
        assert_eq!(libc::ptrace(libc::PTRACE_CONT, pid.as_raw(), null_mut::<u8>(), 0_usize), 0);
    }
    assert_eq!(exit_code(waitpid(pid, None).unwrap()), 0);
}

#[test]
fn log_lets_the_call_be_made() {
    let policy = Policy { default: Action::Log, ..allow_but(Vec::new()) };
    assert_eq!(exit_code(filtered(&policy, || errno_of(libc::SYS_getppid, [0; 6]))), 0);
}

/// A line of `/proc/PID/status`.
fn status_line(path: &str, key: &str) -> String {
    let status = fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_string()
}

/// Runs `install` in a child that lives until the socket is closed; returns the child once it has done that.
fn living(install: impl FnOnce()) -> (Pid, UnixStream) {
    let (mut here, mut there) = UnixStream::pair().unwrap();
    let pid = child(|| {
        install();
        let _ = there.write_all(b"x");
        let _ = there.read(&mut [0]);
        0
    });
    here.read_exact(&mut [0]).unwrap();
    (pid, here)
}

fn end(pid: Pid) {
    kill(pid, Signal::SIGKILL).unwrap();
    waitpid(pid, None).unwrap();
}

#[test]
fn the_process_shows_how_many_filters_it_has() {
    let program = compile(&allow_but(Vec::new())).unwrap();
    let (pid, socket) = living(|| {
        no_new_privs();
        install(&program, &[], false).unwrap();
        install(&program, &[Flag::Log, Flag::SpecAllow], false).unwrap();
    });
    let own = |key: &str| status_line("/proc/self/status", key).parse::<u32>().unwrap_or(0);
    let status = format!("/proc/{pid}/status");
    assert_eq!(status_line(&status, "Seccomp"), "2");
    // Linux 5.9; our own filters, where the tests run in a container, are the child's too.
    if !status_line(&status, "Seccomp_filters").is_empty() {
        assert_eq!(status_line(&status, "Seccomp_filters"), (own("Seccomp_filters") + 2).to_string());
    }
    drop(socket);
    end(pid);
}

#[test]
fn all_threads_get_the_filter_with_tsync_and_one_without() {
    let program = compile(&allow_but(Vec::new())).unwrap();
    for (flags, filtered) in [(vec![], 1), (vec![Flag::ThreadSync], 2)] {
        let (pid, socket) = living(|| {
            no_new_privs();
            thread::spawn(|| thread::sleep(Duration::from_secs(60)));
            install(&program, &flags, false).unwrap();
        });
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let tasks: Vec<String> = tasks.map(|task| task.unwrap().path().display().to_string()).collect();
        let own = status_line("/proc/self/status", "Seccomp");
        let has = |task: &&String| status_line(&format!("{task}/status"), "Seccomp") != own;
        assert_eq!(tasks.len(), 2);
        if own == "0" {
            assert_eq!(tasks.iter().filter(has).count(), filtered, "{flags:?}");
        }
        drop(socket);
        end(pid);
    }
}

/// The error of an installation in a child, after `before`.
fn error_of(before: impl FnOnce(), program: &Program, flags: &[Flag], notifies: bool) -> String {
    let (mut here, mut there) = UnixStream::pair().unwrap();
    let pid = child(|| {
        before();
        let text = match install(program, flags, notifies) {
            Ok(_) => "installed".to_string(),
            Err(error) => format!("{error:#}"),
        };
        let _ = there.write_all(text.as_bytes());
        0
    });
    drop(there);
    let mut text = String::new();
    here.read_to_string(&mut text).unwrap();
    waitpid(pid, None).unwrap();
    text
}

#[test]
fn without_privileges_it_takes_no_new_privs_and_the_error_says_so() {
    testing::needs!(PlainUser);
    let become_plain = || {
        let user = PlainUser::get();
        if Uid::effective().is_root() {
            nix::unistd::setresuid(user.uid, user.uid, user.uid).unwrap();
        }
    };
    let program = compile(&allow_but(Vec::new())).unwrap();
    let error = error_of(become_plain, &program, &[], false);
    assert!(error.contains("no_new_privs") && error.contains("EACCES"), "{error}");
    let with = || {
        become_plain();
        no_new_privs();
    };
    assert_eq!(error_of(with, &program, &[], false), "installed");
}

#[test]
fn root_needs_no_new_privs_not() {
    testing::needs!(Root);
    let program = compile(&allow_but(Vec::new())).unwrap();
    assert_eq!(error_of(|| (), &program, &[], false), "installed");
}

#[test]
fn a_second_listener_is_refused_and_the_error_says_why() {
    let program = compile(&allow_but(vec![rule("getppid", Action::Notify, &[])])).unwrap();
    let first = || {
        no_new_privs();
        std::mem::forget(install(&program, &[], true).unwrap());
    };
    let error = error_of(first, &program, &[], true);
    assert!(error.contains("EBUSY") && error.contains("at most one"), "{error}");
}

#[test]
fn a_program_that_the_kernel_does_not_take_is_told_from_an_unknown_flag() {
    let endless = Program(vec![Instruction { code: 0x20, jt: 0, jf: 0, k: 0 }]);
    let error = error_of(no_new_privs, &endless, &[Flag::Log], false);
    assert!(error.contains("EINVAL") && error.contains("does not take this program"), "{error}");
}

#[test]
fn a_listener_and_all_threads_go_together() {
    let program = compile(&allow_but(vec![rule("getppid", Action::Notify, &[])])).unwrap();
    let flags = [Flag::ThreadSync, Flag::WaitKillable];
    assert_eq!(error_of(no_new_privs, &program, &flags, true), "installed");
}

#[test]
fn what_concerns_a_supervisor_does_no_harm_where_there_is_none() {
    let program = compile(&allow_but(vec![rule("getppid", Action::Errno(7), &[])])).unwrap();
    assert_eq!(error_of(no_new_privs, &program, &[Flag::WaitKillable], false), "installed");
}

#[test]
fn this_kernel_tells_the_actions_that_it_has() {
    // /proc/sys/kernel/seccomp/actions_avail has their names.
    let Ok(names) = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") else { return };
    let names: Vec<&str> = names.split_whitespace().collect();
    let known =
        [(Action::KillProcess, "kill_process"), (Action::Notify, "user_notif"), (Action::Allow, "allow")];
    for (action, name) in known {
        assert_eq!(is_available(action), names.contains(&name), "{name}");
    }
}

/// A 32-bit call from this 64-bit program; what is in the upper half of the first argument is the caller's
/// affair.
#[cfg(target_arch = "x86_64")]
fn int_0x80(number: u64, argument: u64) -> i32 {
    let mut result = number;
    // SAFETY: getppid takes no address. The kernel may change r8 to r11.
    unsafe {
        std::arch::asm!("xchg rbx, {argument}", "int 0x80", "xchg rbx, {argument}",
            argument = inout(reg) argument => _, inout("rax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    (result as i32).min(0).wrapping_neg()
}

/// getppid of x86.
#[cfg(target_arch = "x86_64")]
const GETPPID: u64 = 64;

#[cfg(target_arch = "x86_64")]
#[test]
fn a_call_through_an_architecture_that_is_not_in_the_policy_kills() {
    let has_x86 = matches!(status_of(|| int_0x80(GETPPID, 0)), WaitStatus::Exited(_, 0));
    if has_x86 {
        let policy = allow_but(Vec::new());
        assert_eq!(died_of(filtered(&policy, || int_0x80(GETPPID, 0))), Signal::SIGSYS);
        let policy = Policy { architectures: vec![Architecture::X86], ..policy };
        assert_eq!(exit_code(filtered(&policy, || int_0x80(GETPPID, 0))), 0);
    }
    let x32 = libc::SYS_getppid | 0x4000_0000;
    let policy = allow_but(vec![rule("getpid", Action::Errno(7), &[])]);
    assert_eq!(died_of(filtered(&policy, || errno_of(x32, [0; 6]))), Signal::SIGSYS);
    assert_eq!(exit_code(filtered(&policy, || errno_of(-1, [0; 6]))), Errno::ENOSYS as i32);
    let policy = Policy { architectures: vec![Architecture::X32], ..policy };
    let getpid = libc::SYS_getpid | 0x4000_0000;
    assert_eq!(exit_code(filtered(&policy, || errno_of(getpid, [0; 6]))), 7);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_32_bit_call_does_not_pass_a_condition_by_with_bits_that_it_does_not_have() {
    if !matches!(status_of(|| int_0x80(GETPPID, 0)), WaitStatus::Exited(_, 0)) {
        return;
    }
    let condition = Condition { argument: 0, operator: Operator::Equal, value: 40, value_two: 0 };
    let policy = allow_but(vec![rule("getppid", Action::Errno(7), &[condition])]);
    let policy = Policy { architectures: vec![Architecture::X86], ..policy };
    for (argument, errno) in [(40, 7), (41, 0), ((1 << 32) + 40, 7)] {
        assert_eq!(exit_code(filtered(&policy, || int_0x80(GETPPID, argument))), errno, "{argument:#x}");
    }
}

#[test]
fn a_filter_stays_after_exec() {
    let policy = allow_but(vec![rule("uname", Action::Errno(7), &[])]);
    let mut command = Command::new("uname");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let status = filtered(&policy, || command.exec().raw_os_error().unwrap_or(255));
    assert_eq!(exit_code(status), 1);
}
