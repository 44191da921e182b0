// ANCHOR: policy
//! From a policy's lines to the errno that a call gets.
//!
//! A filter is a program for a small machine in the kernel, which runs at each system call of the process,
//! before the call. It sees the call's number and its arguments as numbers. Manual page: seccomp(2).

use anyhow::Result;
use ch07_privileges::no_new_privs;
use ch07_privileges::seccomp::{Template, compile, install};
use lesson::probe::{Refusal, in_child};
use lesson::untold;
use log::info;
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkdir;

use super::{answer, in_words};

/// Two lines more than "all is allowed". The calls of other architectures than this machine's own are not
/// looked at: who makes one is killed.
const POLICY: &str = "\
default allow
architectures
errno EROFS mkdir mkdirat
errno EPERM kill when arg1 == 9
";

/// A call that is tried under the filter.
type Call = fn() -> Result<String, Refusal>;

/// The policy, the program that it is compiled to, and what some calls return under it.
pub fn run() -> Result<()> {
    info!(target: "say", "A seccomp filter, from its policy:");
    for line in POLICY.lines() {
        info!(target: "say", "    {line}");
    }
    let policy = POLICY.parse::<Template>()?.policy(Default::default());
    let program = compile(&policy)?;
    info!(target: "say", "What the kernel gets: {} instructions, each compares or loads one number.",
         program.0.len());
    for line in program.to_string().lines() {
        info!(target: "say", "  {line}");
    }
    let calls: [(&str, Call); 3] = [
        ("mkdir(\"/tmp/x\")", make_directory),
        ("kill(own pid, 0)", || kill(0)),
        ("kill(own pid, SIGKILL)", || kill(9)),
    ];
    for (what, call) in calls {
        let answer = in_child(|| {
            let filter =
                untold(|| no_new_privs::set().and_then(|()| install(&program, &policy.flags, false)));
            filter.map_err(|error| Refusal::new(lesson::describe(&error), Errno::EINVAL))?;
            call()
        });
        info!(target: "kernel", "{what:<24} {}", in_words(&answer));
    }
    Ok(())
}

fn make_directory() -> Result<String, Refusal> {
    mkdir("/tmp/x", Mode::S_IRWXU).map_err(|errno| Refusal::new("mkdir", errno))?;
    Ok("made".into())
}

fn kill(signal: i32) -> Result<String, Refusal> {
    // SAFETY: kill(2) takes two numbers.
    let result = unsafe { libc::kill(libc::getpid(), signal) };
    answer("kill", result.into()).map(|_| "done".into())
}
// ANCHOR_END: policy
