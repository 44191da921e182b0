//! Claims about `needs!`.

use std::env;

use testing::{Need, Program, needs};

/// Plays a test that lacks something: this test runs its own binary again, with this variable set.
const PLAY_SKIPPED: &str = "PLAY_SKIPPED";

#[test]
fn a_test_that_lacks_a_need_is_recorded_and_returns() {
    if env::var_os(PLAY_SKIPPED).is_some() {
        needs!(Tool("no-such-program"));
        panic!("the test went on without what it needs");
    }
    let directory = tempfile::tempdir().unwrap();
    let record = directory.path().join("record");
    let binary = env::current_exe().unwrap();
    let test = "a_test_that_lacks_a_need_is_recorded_and_returns";
    let reason = "needs Tool(\"no-such-program\"): no no-such-program in PATH";

    let play = Program::new(&binary).args([test, "--exact"]).env(PLAY_SKIPPED, "1");
    let output = play.clone().env("HULL_TEST_RECORD", &record).run();
    assert_eq!(output.code, Some(0), "{output}");
    assert!(output.stderr.contains(&format!("SKIPPED {test}: {reason}\n")), "{output}");
    let line = format!("{}\t{test}\t{reason}\n", binary.file_name().unwrap().to_str().unwrap());
    assert_eq!(std::fs::read_to_string(&record).unwrap(), line);

    play.env("HULL_TEST_RECORD", &record).run();
    assert_eq!(std::fs::read_to_string(&record).unwrap(), line.repeat(2), "a second one is appended");
}

mod module {
    #[test]
    fn the_recorded_name_has_the_modules_of_the_test() {
        if std::env::var_os(super::PLAY_SKIPPED).is_some() {
            testing::needs!(Tool("no-such-program"));
        }
        let binary = std::env::current_exe().unwrap();
        let test = "module::the_recorded_name_has_the_modules_of_the_test";
        let play = testing::Program::new(&binary).args([test, "--exact"]);
        if std::env::var_os(super::PLAY_SKIPPED).is_none() {
            let output = play.env(super::PLAY_SKIPPED, "1").run();
            assert!(output.stderr.contains(&format!("SKIPPED {test}: ")), "{output}");
        }
    }
}

#[test]
fn root_is_found_where_unshare_says_so() {
    needs!(Tool("unshare"));
    let output = Program::new("unshare").args(["--mount", "--pid", "--net", "--fork", "true"]).run();
    assert_eq!(Need::Root.met().is_ok(), output.code == Some(0), "{output}");
}

#[test]
fn user_namespaces_are_found_where_unshare_says_so() {
    needs!(PlainUser, Tool("unshare"));
    let arguments = ["--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/tmp"];
    let output = Program::new("unshare").args(arguments).as_plain_user().run();
    assert_eq!(Need::UserNamespaces.met().is_ok(), output.code == Some(0), "{output}");
}

#[test]
fn cgroup_v2_is_found_where_it_lists_its_controllers() {
    let is_v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    assert_eq!(Need::CgroupV2.met().is_ok(), is_v2);
}

#[test]
fn cgroup_v1_is_found_where_the_kernel_lists_a_controller_of_it() {
    // proc_cgroups(5): the name, the hierarchy, 0 for version 2 or none, and two more columns.
    let unknown = Need::CgroupController("no-such-controller").met().unwrap_err();
    assert!(unknown.contains("no hierarchy has the controller no-such-controller"), "{unknown}");
    let table = std::fs::read_to_string("/proc/cgroups").unwrap();
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    let in_v1 = rows.map(|row| row.split_whitespace().collect::<Vec<_>>()).filter(|row| row[1] != "0");
    let in_v1: Vec<&str> = in_v1.map(|row| row[0]).collect();
    assert_eq!(Need::CgroupV1.met().is_ok(), !in_v1.is_empty(), "{in_v1:?}");
}

#[test]
fn systemd_is_found_where_systemctl_reaches_it() {
    needs!(Tool("systemctl"));
    let output = Program::new("systemctl").args(["--no-pager", "list-units", "--type=target"]).run();
    assert_eq!(Need::Systemd.met().is_ok(), output.code == Some(0), "{output}");
}

#[test]
fn fuse_is_found_where_a_fuse_file_system_can_be_mounted() {
    needs!(Root, Tool("unshare"));
    // The descriptor's file system is mounted without a server: nothing in it may be touched.
    let script =
        "exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 fuse /mnt";
    let output = Program::new("unshare").args(["--mount", "sh", "-c", script]).run();
    assert_eq!(Need::Fuse.met().is_ok(), output.code == Some(0), "{output}");
}

#[test]
fn a_plain_user_has_fuse_where_fusermount3_mounts_for_it() {
    needs!(PlainUser, Tool("python3"));
    // fusermount3 sends the descriptor of /dev/fuse through a socket, whose number is in _FUSE_COMMFD.
    let script = r#"
import os, socket, subprocess, sys
ours, theirs = socket.socketpair()
directory = os.path.join(os.environ["HOME"], "mount point")
os.mkdir(directory)
environment = dict(os.environ, _FUSE_COMMFD=str(theirs.fileno()))
mount = subprocess.run(["fusermount3", "--", directory], env=environment, pass_fds=[theirs.fileno()])
if mount.returncode == 0:
    subprocess.run(["fusermount3", "-u", "-z", "--", directory], check=True)
sys.exit(mount.returncode)
"#;
    let output = Program::new("python3").args(["-c", script]).as_plain_user().run();
    assert_eq!(Need::FuseAsPlainUser.met().is_ok(), output.code == Some(0), "{output}");
}
