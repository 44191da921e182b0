//! A crash in the middle of a change: the writer is killed before each of its system calls in turn.

mod union_stack;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ch05_layers::Directory;
use nix::fcntl::OFlag;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use union_stack::Stack;

/// What is tried: a name, what is there before, and the change.
type Operation = (&'static str, fn(&Stack), Change);
type Change = fn(&Stack) -> ch05_layers::union::Result<()>;

const OPERATIONS: [Operation; 11] = [
    ("remove", files, |stack| stack.remove("d/both")),
    ("rmdir", emptied, |stack| stack.rmdir("e")),
    ("mkdir", deleted, |stack| stack.mkdir("gone")),
    ("create", deleted, |stack| stack.create("gone-file")),
    ("copy_up", files, |stack| stack.copy_up("d/lower")),
    ("link", deleted, |stack| stack.link("d/lower", "gone-file")),
    ("rename", files, |stack| stack.rename("d/both", "d/lower", 0)),
    ("rename_over_deleted", deleted, |stack| stack.rename("d/lower", "gone-file", 0)),
    ("rename_directory", deleted, |stack| stack.rename("new", "gone", 0)),
    ("rename_over_directory", emptied, |stack| stack.rename("new", "e", 0)),
    ("exchange", files, |stack| stack.rename("d/both", "d/lower", libc::RENAME_EXCHANGE)),
];

fn files(stack: &Stack) {
    stack.put(0, "d/both", "upper");
    stack.put(1, "d/both", "lower");
    stack.put(1, "d/lower", "");
    // Data, a hole, data: more than one call to copy.
    let file = File::options().write(true).open(stack.path(1, "d/lower")).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"end", 1 << 14).unwrap();
}

fn emptied(stack: &Stack) {
    stack.put(0, "e/.wh.one", "");
    stack.put(0, "e/.wh.two", "");
    stack.put(1, "e/one", "");
    stack.put(1, "e/two", "");
    stack.put(0, "new/file", "");
}

fn deleted(stack: &Stack) {
    files(stack);
    stack.put(1, "gone/one", "");
    stack.put(0, ".wh.gone", "");
    stack.put(1, "gone-file", "old");
    stack.put(0, ".wh.gone-file", "");
    stack.put(0, "new/file", "");
}

#[test]
fn a_writer_that_is_killed_at_any_moment_leaves_the_union_as_before_or_after_the_change() {
    for (name, prepare, operation) in OPERATIONS {
        let stack = || {
            let stack = Stack::new(2);
            prepare(&stack);
            stack
        };
        let before = view(&stack());
        let whole = stack();
        operation(&whole).unwrap();
        let after = view(&whole);
        let mut crashes = 0;
        loop {
            let mut stack = stack();
            if !is_killed(&stack.directory, operation, crashes) {
                break;
            }
            stack.reopen();
            let seen = view(&stack);
            assert!(
                seen == before || seen == after,
                "{name}, killed before system call {crashes}: {seen:#?}"
            );
            // The next writer is not in the way of what is left.
            if seen == before && before != after {
                assert_eq!(operation(&stack), Ok(()), "{name}, killed before system call {crashes}");
                assert_eq!(view(&stack), after, "{name}, killed before system call {crashes}");
            }
            crashes += 1;
        }
        assert!(crashes > 2, "{name}: only {crashes} system calls were seen");
    }
}

/// Carries out the change in a process of its own, and kills it before its system call `number` of those that may
/// change something; false when it has ended before.
fn is_killed(directory: &Path, operation: Change, number: usize) -> bool {
    // SAFETY: the child is a copy of this thread alone. It uses the memory allocator, which the C library keeps
    // usable after fork(2), and no lock that another thread could have held.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let result = ptrace::traceme().and_then(|()| raise(Signal::SIGSTOP));
            let status = result.and_then(|()| operation(&Stack::of(directory, 2))).map_or(1, |()| 0);
            // SAFETY: it ends the process at once, and with it nothing that others rely on.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => child,
    };
    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Stopped(child, Signal::SIGSTOP));
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(child, options).unwrap();
    let mut seen = 0;
    loop {
        ptrace::syscall(child, None).unwrap();
        match waitpid(child, None).unwrap() {
            WaitStatus::PtraceSyscall(_) if !may_change_something(child) => (),
            WaitStatus::PtraceSyscall(_) if seen < number => seen += 1,
            WaitStatus::PtraceSyscall(_) => {
                // It is stopped before the call, which is never made.
                kill(child, Signal::SIGKILL).unwrap();
                assert_eq!(
                    waitpid(child, None).unwrap(),
                    WaitStatus::Signaled(child, Signal::SIGKILL, false)
                );
                return true;
            }
            WaitStatus::Exited(_, status) => {
                assert_eq!(status, 0, "the change failed");
                return false;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Whether the process stands before a system call other than those that only look.
fn may_change_something(child: Pid) -> bool {
    let information = ptrace::syscall_info(child).unwrap();
    if information.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return false;
    }
    // SAFETY: `op` tells that the kernel has filled this part of the union.
    let number = unsafe { information.u.entry.nr } as libc::c_long;
    let looks = [
        libc::SYS_openat2,
        libc::SYS_newfstatat,
        libc::SYS_fstat,
        libc::SYS_statx,
        libc::SYS_fcntl,
        libc::SYS_close,
        libc::SYS_lseek,
        libc::SYS_getdents64,
        libc::SYS_readlinkat,
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
    ];
    !looks.contains(&number)
}

/// The whole union, as one sees it.
fn view(stack: &Stack) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    collect(stack, &stack.union.root().unwrap(), &mut found);
    found
}

fn collect(stack: &Stack, directory: &Directory, found: &mut BTreeMap<PathBuf, String>) {
    for listed in stack.union.list(directory).unwrap() {
        let path = directory.child(&listed.name);
        let entry = stack.union.lookup(directory, &listed.name).unwrap();
        let mut content = String::new();
        if entry.is_directory() {
            collect(stack, &stack.union.enter(directory, &listed.name).unwrap(), found);
        } else {
            let file = stack.union.open(entry.branch, &path, OFlag::O_RDONLY).unwrap();
            File::from(file).read_to_string(&mut content).unwrap();
        }
        let content = content.replace('\0', "");
        found.insert(path, format!("{:o} {} {content:?}", entry.status.st_mode, entry.status.st_uid));
    }
}
