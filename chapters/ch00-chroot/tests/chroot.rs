//! What chroot(2) changes, and what it does not.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use nix::errno::Errno;
use testing::{Program, Sandbox, needs, poll, process};

fn lesson() -> Program {
    Program::new(env!("CARGO_BIN_EXE_ch00-chroot"))
}

#[test]
fn without_arguments_it_lists_the_new_root() {
    needs!(UserNamespaces);
    let output = lesson().as_plain_user().run();
    assert_eq!(output.code, Some(0), "{output}");
    let names: Vec<&str> = output.stdout.lines().collect();
    assert!(["bin", "dev", "etc", "proc", "root", "tmp"].iter().all(|name| names.contains(name)), "{output}");
    assert!(output.stderr.contains("chroot("), "{output}");
}

#[test]
fn the_process_has_the_new_root_directory_and_its_old_mount_table() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let root = rootfs_builder::default_root().expect("a root file system");
    let running = lesson().in_sandbox(&sandbox).args(["--", "sleep", "30"]).spawn();
    // The lesson's process becomes the command.
    let link = format!("/proc/{}/root", running.pid());
    poll(Duration::from_secs(20), || (fs::read_link(&link).ok()? == root).then_some(()));
    assert_eq!(
        process::status(running.pid(), "NSpid").unwrap().split(' ').count(),
        2,
        "no PID namespace of its own"
    );
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).expect("the mount namespace");
    assert_eq!(namespace(running.pid()), namespace(sandbox.pid()));
    running.signal(libc::SIGKILL);
    assert_eq!(running.wait().signal, Some(libc::SIGKILL));
    sandbox.check();
}

/// The command after the escape is found in the host's root, and says which directory that is.
fn root_after_escape(program: Program) -> String {
    let output = program.args(["--escape", "--", "stat", "-c", "%d %i", "/"]).run();
    assert_eq!(output.code, Some(0), "{output}");
    output.stdout.trim().into()
}

#[test]
fn the_escape_ends_in_the_host_s_root_as_root() {
    needs!(Root);
    let host = fs::metadata("/").unwrap();
    assert_eq!(root_after_escape(lesson()), format!("{} {}", host.dev(), host.ino()));
}

#[test]
fn the_escape_ends_in_the_host_s_root_as_a_plain_user() {
    needs!(UserNamespaces);
    let host = fs::metadata("/").unwrap();
    assert_eq!(root_after_escape(lesson().as_plain_user()), format!("{} {}", host.dev(), host.ino()));
}

#[test]
fn the_command_gets_the_statuses_that_a_shell_gives() {
    needs!(UserNamespaces);
    let run = |command: &[&str]| lesson().as_plain_user().arg("-q").arg("--").args(command).run();
    assert_eq!(run(&["sh", "-c", "exit 7"]).code, Some(7));
    assert_eq!(run(&["sh", "-c", "kill -KILL $$"]).signal, Some(libc::SIGKILL));
    assert_eq!(run(&["sh", "-c", "kill -PIPE $$"]).signal, Some(libc::SIGPIPE), "SIGPIPE is deadly again");

    let missing = run(&["no-such-command"]);
    assert_eq!(missing.code, Some(127), "{missing}");
    assert!(missing.stderr.contains("\"no-such-command\": No such file or directory (ENOENT)"), "{missing}");
    let absolute = run(&["/bin/no-such-command"]);
    assert_eq!(absolute.code, Some(127), "{absolute}");
    let not_executable = run(&["/etc/passwd"]);
    assert_eq!(not_executable.code, Some(126), "{not_executable}");
    assert!(
        not_executable.stderr.contains("\"/etc/passwd\": Permission denied (EACCES)"),
        "{not_executable}"
    );
    let directory = run(&["/etc"]);
    assert_eq!(directory.code, Some(126), "{directory}");
}

#[test]
fn a_script_whose_interpreter_is_missing_is_126_and_says_so() {
    needs!(Root);
    let root = tempfile::tempdir().unwrap();
    let script = root.path().join("script");
    fs::write(&script, "#!/no/interpreter\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(root.path().join("garbage"), "no program at all").unwrap();
    fs::set_permissions(root.path().join("garbage"), fs::Permissions::from_mode(0o755)).unwrap();
    let run = |command: &str| lesson().arg("-q").arg("--rootfs").arg(root.path()).args(["--", command]).run();

    let output = run("/script");
    assert_eq!(output.code, Some(126), "{output}");
    assert!(output.stderr.contains("ENOENT") && output.stderr.contains("interpreter"), "{output}");
    let output = run("/garbage");
    assert_eq!(output.code, Some(126), "{output}");
    assert!(output.stderr.contains("ENOEXEC"), "{output}");
}

#[test]
fn a_root_that_can_t_be_entered_is_125_and_named() {
    needs!(UserNamespaces);
    let directory = testing::plain_user_directory();
    let (missing, file) = (directory.path().join("missing"), directory.path().join("file"));
    fs::write(&file, "").unwrap();
    for (root, errno) in [(&missing, "ENOENT"), (&file, "ENOTDIR")] {
        let output = lesson().as_plain_user().arg("--rootfs").arg(root).args(["--", "true"]).run();
        assert_eq!(output.code, Some(125), "{output}");
        assert!(
            output.stderr.contains(&format!("chroot {root:?}")) && output.stderr.contains(errno),
            "{output}"
        );
    }
}

#[test]
fn a_root_that_is_closed_to_the_user_is_125_and_named() {
    // The directory must be somebody else's, who is not mapped in the user's namespace.
    needs!(Root, UserNamespaces);
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let output = lesson().as_plain_user().arg("--rootfs").arg(directory.path()).args(["--", "true"]).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(
        output.stderr.contains(&format!("chroot {:?}", directory.path())) && output.stderr.contains("EACCES"),
        "{output}"
    );
}

#[test]
fn an_empty_root_has_no_command_and_says_so() {
    needs!(UserNamespaces);
    let root = testing::plain_user_directory();
    let output = lesson().as_plain_user().arg("--rootfs").arg(root.path()).args(["--", "sh"]).run();
    assert_eq!(output.code, Some(127), "{output}");
    assert!(output.stderr.contains("\"sh\": No such file or directory (ENOENT)"), "{output}");
}

#[test]
fn the_command_may_follow_with_and_without_two_dashes_and_keeps_its_flags() {
    needs!(UserNamespaces);
    for arguments in [&["-q", "echo", "-n", "--quiet", "x"][..], &["-q", "--", "echo", "-n", "--quiet", "x"]]
    {
        let output = lesson().as_plain_user().args(arguments).run();
        assert_eq!((output.code, output.stdout.as_str()), (Some(0), "--quiet x"), "{output}");
    }
}

#[test]
fn an_unknown_flag_is_125_and_named() {
    let output = lesson().arg("--no-such-flag").run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("--no-such-flag"), "{output}");
    assert_eq!(lesson().arg("--help").run().code, Some(0));
}

#[test]
fn where_user_namespaces_are_forbidden_it_says_so_and_names_the_command_for_root() {
    needs!(PlainUser);
    let output =
        lesson().as_plain_user().deny(libc::SYS_unshare, Errno::EPERM).args(["--", "echo", "it's"]).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("unshare(CLONE_NEWUSER") && output.stderr.contains("EPERM"), "{output}");
    assert!(output.stderr.contains("sudo /") && output.stderr.contains(r"-- echo 'it'\''s'"), "{output}");
}

#[test]
fn where_the_capabilities_are_denied_it_says_so_before_it_has_moved() {
    needs!(UserNamespaces);
    // As AppArmor does on Ubuntu: the namespace is made, and then mount(2) is refused.
    let output = lesson().as_plain_user().deny(libc::SYS_mount, Errno::EACCES).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("MS_PRIVATE") && output.stderr.contains("EACCES"), "{output}");
    assert!(!output.stderr.contains("uid_map"), "this process is not in the namespace: {output}");
}

#[test]
fn on_a_terminal_sudo_is_offered_and_a_no_is_a_no() {
    needs!(PlainUser);
    let mut running = lesson().as_plain_user().pty().deny(libc::SYS_unshare, Errno::EPERM).spawn();
    running.expect("Use sudo now? [y/N] ", Duration::from_secs(20));
    running.type_line("n");
    assert_eq!(running.wait().code, Some(125));
}

#[test]
fn root_without_capabilities_is_not_told_to_use_sudo() {
    needs!(Root, Tool("setpriv"));
    let lesson = env!("CARGO_BIN_EXE_ch00-chroot");
    let output = Program::new("setpriv")
        .args(["--bounding-set", "-sys_admin", lesson])
        .deny(libc::SYS_unshare, Errno::EPERM)
        .run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("--cap-add SYS_ADMIN") && !output.stderr.contains("sudo"), "{output}");
}

#[test]
fn root_that_may_not_map_itself_is_told_which_capability_is_missing() {
    needs!(Root, Tool("setpriv"));
    let lesson = env!("CARGO_BIN_EXE_ch00-chroot");
    let output = Program::new("setpriv").args(["--bounding-set", "-sys_admin,-setfcap", lesson]).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("uid_map") && output.stderr.contains("--cap-add SETFCAP"), "{output}");
}

#[test]
fn the_command_s_output_is_alone_on_stdout_and_quiet_is_quiet() {
    needs!(UserNamespaces);
    let output = lesson().as_plain_user().args(["--", "echo", "hello"]).run();
    assert_eq!(output.stdout, "hello\n");
    assert!(output.stderr.contains("chroot("), "{output}");
    let output = lesson().as_plain_user().args(["--quiet", "--", "echo", "hello"]).run();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello\n", ""));
}

#[test]
fn the_view_shows_that_the_root_differs_and_the_namespaces_do_not() {
    needs!(Root);
    let output = lesson().args(["--quiet", "--view", "--", "true"]).run();
    assert_eq!(output.code, Some(0), "{output}");
    let row =
        |name: &str| output.stderr.lines().find(|line| line.starts_with(name)).expect("a row").to_string();
    let root = fs::metadata(rootfs_builder::default_root().unwrap()).unwrap();
    assert!(row("root ").contains(&format!("{}", root.ino())) && row("root ").contains('|'), "{output}");
    for same in ["hostname ", "Uid ", "namespaces ", "Seccomp "] {
        assert!(!row(same).contains(['|', '<', '>']), "{same} is the same: {output}");
    }
}
