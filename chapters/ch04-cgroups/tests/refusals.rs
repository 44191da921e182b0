//! A limit that can't be set is an error that says what is in the way.

mod common;

use std::fs;

use common::{LESSON, World, lesson, root_on_a_disk};
use testing::{Program, Sandbox, needs};

#[test]
fn a_limit_of_writes_where_there_is_no_disk_is_an_error_that_says_why() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().display();
    let script = format!("mount -t tmpfs none {root} && {LESSON} -q --rootfs {root} --io-write 1M -- true");
    let output = Program::new("sh").args(["-c", &script]).in_sandbox(&sandbox).run();
    assert_eq!(output.code, Some(125), "{output}");
    let reason = format!(
        "--io-write limits the disk of the root file system: \"{root}\" is a tmpfs, which is on no disk"
    );
    assert!(output.stderr.contains(&reason), "{output}");
    let output = Program::new("umount").arg(directory.path()).in_sandbox(&sandbox).run();
    assert_eq!(output.code, Some(0), "{output}");
}

#[test]
fn a_controller_that_is_not_mounted_is_named() {
    needs!(Root, CgroupV1, CgroupController("pids"));
    let sandbox = Sandbox::new();
    let mount_point = sandbox.cgroup("pids").unwrap();
    let mount_point = mount_point.ancestors().find(|path| {
        testing::process::mount_points(sandbox.pid()).iter().any(|point| path == &std::path::Path::new(point))
    });
    let script = format!("umount {} && {LESSON} -q --pids 20 -- true", mount_point.unwrap().display());
    let output = Program::new("unshare").args(["--mount", "sh", "-c", &script]).in_sandbox(&sandbox).run();
    assert_eq!(output.code, Some(125), "{output}");
    let reason = "the controller pids is in use by a hierarchy of version 1";
    assert!(output.stderr.contains(reason), "{output}");
}

/// The lesson as a plain user in a cgroup of which the user has all but the file that hands controllers down;
/// root has handed `controllers` down.
fn in_a_narrow_cgroup(controllers: &str, arguments: &str) -> testing::Output {
    let sandbox = Sandbox::new();
    let (user, root) = (testing::PlainUser::get(), root_on_a_disk());
    let narrow = sandbox.cgroup("pids").unwrap().join("narrow");
    let script = format!(
        "cd {narrow} && mkdir leaf && chown {uid} . cgroup.procs leaf leaf/cgroup.procs &&
         echo {controllers} > cgroup.subtree_control && echo 0 > leaf/cgroup.procs &&
         cd {root} && cp {LESSON} lesson &&
         exec setpriv --reuid {uid} --regid {gid} --clear-groups ./lesson --quiet --rootfs {root} {arguments}",
        narrow = narrow.display(),
        uid = user.uid,
        gid = user.gid,
        root = root.path().display(),
    );
    fs::create_dir(&narrow).unwrap();
    let output = Program::new("sh").args(["-c", &script]).in_sandbox(&sandbox).run();
    assert_eq!(
        fs::read_dir(&narrow).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count(),
        1
    );
    fs::remove_dir(narrow.join("leaf")).unwrap();
    fs::remove_dir(narrow).unwrap();
    output
}

#[test]
fn a_controller_that_was_not_delegated_is_named_with_the_file_and_the_reason() {
    needs!(Root, CgroupV2, UserNamespaces, Tool("setpriv"));
    let output = in_a_narrow_cgroup("", "--pids 20 -- true");
    assert_eq!(output.code, Some(125), "{output}");
    for words in ["\"+pids\"", "narrow/cgroup.subtree_control", "not delegated", "(EACCES)"] {
        assert!(output.stderr.contains(words), "{words:?} in {output}");
    }
}

#[test]
fn where_one_controller_alone_can_be_had_a_limit_of_it_holds_and_one_of_another_is_refused() {
    needs!(Root, CgroupV2, UserNamespaces, Tool("setpriv"));
    let output = in_a_narrow_cgroup("+pids", "--pids 2 -- sh -c 'true & true'");
    assert!(output.stderr.contains("can't fork"), "{output}");
    let output = in_a_narrow_cgroup("+pids", "--pids 20 --memory 64M -- true");
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("\"+memory\""), "{output}");
}

#[test]
fn root_in_a_container_that_may_only_read_its_cgroups_is_told_so() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let script = format!(
        "for point in $(awk '$3 ~ /^cgroup/ {{ print $2 }}' /proc/mounts); do mount -o remount,bind,ro $point; done
         exec {LESSON} --quiet --pids 20 -- true"
    );
    let output = Program::new("unshare").args(["--mount", "sh", "-c", &script]).in_sandbox(&sandbox).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("is mounted read-only"), "{output}");
    assert!(!output.stderr.contains("sudo"), "{output}");
}

#[test]
fn a_plain_user_without_systemd_is_told_to_use_sudo() {
    needs!(Root, CgroupV1, PlainUser);
    let sandbox = Sandbox::new();
    let output = lesson(&sandbox).as_plain_user().args(["--pids", "20", "--", "true"]).run();
    assert_eq!(output.code, Some(125), "{output}");
    for words in ["was not delegated to this user", "use sudo"] {
        assert!(output.stderr.contains(words), "{words:?} in {output}");
    }
}

#[test]
fn a_limit_without_a_command_and_a_wrong_amount_are_refused() {
    for (arguments, words) in [
        (&["--memory", "64M"][..], "COMMAND"),
        (&["--memory", "much", "--", "true"], "\"much\" is no size such as 64M"),
        (&["--cpus", "0", "--", "true"], "at least 0.01"),
        (&["--record", "file", "--", "true"], "cannot be used with"),
    ] {
        let output = Program::new(LESSON).args(arguments).run();
        assert_eq!(output.code, Some(125), "{output}");
        assert!(output.stderr.contains(words), "{words:?} in {output}");
    }
}

#[test]
fn a_rate_of_the_network_takes_root() {
    needs!(DelegatedCgroup, UserNamespaces);
    let output = World::PlainUser.lesson().args(["--net-rate", "16mbit", "--", "true"]).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("--net-rate needs a bridge on the host, and that takes root"), "{output}");
}
