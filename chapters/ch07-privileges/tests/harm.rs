//! What would do harm: the clock is really set, a module really loaded. In the machine of `scripts/vm` alone.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use ch07_privileges::capabilities::{Capability, Sets};
use testing::needs;

/// Runs a program as root, with or without one capability.
fn run(program: &str, arguments: &[&str], without: Option<Capability>) -> Output {
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(capability) = without {
        let sets = Sets::bounded_by(Sets::own().unwrap().permitted.without(capability));
        let drop = move || {
            sets.before_user_change().and_then(|()| sets.apply()).map(|_| ()).map_err(std::io::Error::other)
        };
        // SAFETY: the closure allocates, which glibc allows after a fork, and takes no lock that another
        // thread may hold.
        unsafe { command.pre_exec(drop) };
    }
    command.output().unwrap()
}

#[test]
fn the_clock_is_set_with_cap_sys_time_and_not_without() {
    needs!(Root, TestMachine, Tool("date"));
    let before = SystemTime::now();
    let an_hour_later = before + Duration::from_secs(3600);
    let seconds = an_hour_later.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let set = [format!("--set=@{seconds}")];
    let set: Vec<&str> = set.iter().map(String::as_str).collect();

    let refused = run("date", &set, Some(Capability::SYS_TIME));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Operation not permitted"), "{refused:?}");
    assert!(SystemTime::now() < before + Duration::from_secs(1800));

    let done = run("date", &set, None);
    assert!(done.status.success(), "{done:?}");
    assert!(SystemTime::now() > before + Duration::from_secs(1800), "{done:?}");
    let back = SystemTime::now() - Duration::from_secs(3600);
    let seconds = back.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(run("date", &[&format!("--set=@{seconds}")], None).status.success());
}

#[test]
fn a_module_is_loaded_with_cap_sys_module_and_not_without() {
    needs!(Root, TestMachine, Tool("modprobe"));
    // A network device that does nothing, which nobody uses.
    let is_loaded = || fs::exists("/sys/module/dummy").unwrap();
    run("modprobe", &["-r", "dummy"], None);
    assert!(!is_loaded());
    let refused = run("modprobe", &["dummy"], Some(Capability::SYS_MODULE));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Operation not permitted"), "{refused:?}");
    assert!(!is_loaded());
    let done = run("modprobe", &["dummy"], None);
    assert!(done.status.success() && is_loaded(), "{done:?}");
    assert!(run("modprobe", &["-r", "dummy"], None).status.success());
}
