//! The sandbox finds cgroups that are left behind. A test binary of its own, since all tests share the cgroup
//! tree.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use testing::{Sandbox, needs};

#[test]
fn a_leaked_cgroup_is_found() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let cgroup = some_cgroup_mount().join(format!("hull-leaked-{}", std::process::id()));
    fs::create_dir(&cgroup).unwrap();
    let result = catch_unwind(AssertUnwindSafe(|| sandbox.check_within(Duration::from_millis(100))));
    fs::remove_dir(&cgroup).unwrap();
    let complaint = *result.expect_err("check found nothing").downcast::<String>().unwrap();
    assert!(complaint.contains(cgroup.to_str().unwrap()), "{complaint}");
}

/// Where some cgroup hierarchy is mounted, of version 1 or 2.
fn some_cgroup_mount() -> PathBuf {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = table.lines().find(|line| line.contains(" - cgroup")).expect("a cgroup mount");
    PathBuf::from(mount.split(' ').nth(4).unwrap())
}
