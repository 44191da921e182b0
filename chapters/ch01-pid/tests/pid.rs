//! What it means to be PID 1, seen from outside.

use std::fs;
use std::time::Duration;

use testing::process::{children, exists, runs, status};
use testing::{Output, Program, Running, Sandbox, needs, poll};

const LIMIT: Duration = Duration::from_secs(30);

fn lesson() -> Program {
    Program::new(env!("CARGO_BIN_EXE_ch01-pid")).arg("--quiet")
}

/// The lesson's child, once it runs `command`, or has a child that does.
fn inside(lesson: &Running, command: &str) -> i32 {
    poll(LIMIT, || {
        let first = children(lesson.pid());
        first.iter().chain(&children(*first.first()?)).copied().find(|pid| runs(*pid, command))
    })
}

#[test]
fn the_command_alone_is_pid_1_and_behind_an_init_it_is_pid_2() {
    needs!(UserNamespaces);
    let run = |flags: &[&str]| lesson().as_plain_user().args(flags).args(["--", "sh", "-c", "echo $$"]).run();
    assert_eq!(run(&["--no-init"]).stdout, "1\n");
    assert_eq!(run(&[]).stdout, "2\n");
}

#[test]
fn the_host_counts_the_same_process_by_another_number() {
    needs!(Root);
    let running = lesson().args(["--no-init", "--", "sleep", "30"]).spawn();
    let pid = inside(&running, "sleep");
    assert_eq!(status(pid, "NSpid"), Some(format!("{pid} 1")));
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
    assert_ne!(namespace(&pid.to_string()), namespace("self"));
}

#[test]
fn without_arguments_the_experiments_show_what_the_book_says() {
    needs!(UserNamespaces);
    let output = Program::new(env!("CARGO_BIN_EXE_ch01-pid")).as_plain_user().run();
    assert_eq!(output.code, Some(0), "{output}");
    assert_eq!(output.stdout, "sh: my process id is 2\n");
    for answer in [
        "= inside, getpid() is 1\n",
        "after they have ended: State: Z (zombie), State: Z (zombie)",
        "the orphan's parent is now PID 1 of its namespace",
        "after SIGTERM from inside: State: S (sleeping)",
        "after SIGTERM from outside: State: S (sleeping)",
        "after SIGKILL from outside: gone, with status 137 (128 + 9)",
        "after SIGTERM from outside: gone, with status 143 (128 + 15)",
        "inside, /proc shows more than this one process: true",
    ] {
        assert!(output.stderr.contains(answer), "{answer:?} in {output}");
    }
    assert_eq!(
        output.stderr.matches("exists: false").count(),
        2,
        "the orphan and the command are gone: {output}"
    );
}

#[test]
fn an_init_reaps_orphans() {
    needs!(Root);
    let command = "(sleep 0.2 &) ; exec sleep 30";
    let running = lesson().args(["--", "sh", "-c", command]).spawn();
    // The orphan runs `sleep` too, and may be found in the command's place; what counts are init's children.
    inside(&running, "sleep");
    let init = children(running.pid())[0];
    poll(LIMIT, || (children(init).len() == 1).then_some(()));
    let rest = children(init);
    assert!(
        rest.len() == 1 && !status(rest[0], "State").unwrap().starts_with('Z'),
        "the command alone is left, and no zombie"
    );
}

#[test]
fn without_an_init_orphans_stay_zombies() {
    needs!(Root);
    let running = lesson().args(["--no-init", "--", "sh", "-c", "(sleep 0.2 &) ; exec sleep 30"]).spawn();
    let first = poll(LIMIT, || children(running.pid()).first().copied());
    let is_zombie = |pid: &i32| status(*pid, "State").is_some_and(|state| state.starts_with('Z'));
    // The subshell is a zombie too, until the shell has waited for it; `sleep` is one for good.
    poll(LIMIT, || (runs(first, "sleep") && children(first).iter().any(is_zombie)).then_some(()));
}

#[test]
fn the_death_of_pid_1_kills_all_others() {
    needs!(Root);
    let running = lesson().args(["--", "sh", "-c", "sleep 300 & exec sleep 300"]).spawn();
    inside(&running, "sleep");
    let init = children(running.pid())[0];
    let others = poll(LIMIT, || Some(children(init)).filter(|others| !others.is_empty()));
    // SAFETY: kill(2) touches no memory; the process is a child of our own lesson.
    assert_eq!(unsafe { libc::kill(init, libc::SIGKILL) }, 0);
    assert_eq!(running.wait().code, Some(137));
    assert!(others.iter().all(|pid| !exists(*pid)));
}

#[test]
fn a_signal_to_the_lesson_reaches_the_command() {
    needs!(UserNamespaces);
    for (signal, code) in [(libc::SIGTERM, 143), (libc::SIGINT, 130), (libc::SIGHUP, 129)] {
        let running = lesson().as_plain_user().args(["--", "sleep", "30"]).spawn();
        let command = inside(&running, "sleep");
        running.signal(signal);
        assert_eq!(shell_status(&running.wait()), Some(code));
        poll(LIMIT, || (!exists(command)).then_some(()));
    }
}

/// What a shell shows. In the command's first instant, before init has let go of the host's files, the lesson ends by
/// the signal itself, and the command with it.
fn shell_status(output: &Output) -> Option<i32> {
    output.code.or(output.signal.map(|signal| 128 + signal))
}

#[test]
fn a_command_s_own_handler_gets_each_signal_once() {
    needs!(UserNamespaces);
    let script = "n=0; trap 'n=$((n+1)); echo got $n' USR1; trap 'echo end; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = lesson().as_plain_user().args(["--", "sh", "-c", script]).spawn();
    assert_eq!(running.stdout_line(), "ready");
    for number in 1..=3 {
        running.signal(libc::SIGUSR1);
        assert_eq!(running.stdout_line(), format!("got {number}"));
        // One more would come now.
        std::thread::sleep(Duration::from_millis(200));
    }
    running.signal(libc::SIGTERM);
    let output = running.wait();
    assert_eq!((output.code, output.stdout.lines().last()), (Some(0), Some("end")), "{output}");
}

#[test]
fn a_real_time_signal_is_passed_on_too() {
    needs!(UserNamespaces);
    let running = lesson().as_plain_user().args(["--", "sleep", "30"]).spawn();
    inside(&running, "sleep");
    let signal = libc::SIGRTMIN() + 3;
    running.signal(signal);
    assert_eq!(shell_status(&running.wait()), Some(128 + signal));
}

#[test]
fn a_parent_that_ignores_sigchld_does_not_make_it_hang() {
    needs!(Root);
    let script = format!("trap '' CHLD; exec {} -q -- sh -c 'exit 7'", env!("CARGO_BIN_EXE_ch01-pid"));
    // dash refuses to ignore SIGCHLD; bash does not.
    let output = Program::new("bash").args(["-c", &script]).run();
    assert_eq!(output.code, Some(7), "{output}");
}

#[test]
fn the_environment_of_the_host_s_user_is_not_in_init() {
    needs!(Root);
    let running = lesson().env("SECRET", "tok3n").args(["--", "sleep", "30"]).spawn();
    let command = inside(&running, "sleep");
    let environment = |pid: i32| fs::read(format!("/proc/{pid}/environ")).unwrap();
    let has_secret = |pid: i32| environment(pid).windows(5).any(|window| window == b"tok3n");
    // The command on the host's own root keeps the user's environment; init needs none. In the midst of an exec a
    // process has its new name already, and no environment yet.
    poll(LIMIT, || has_secret(command).then_some(()));
    poll(LIMIT, || (!has_secret(children(running.pid())[0])).then_some(()));
}

#[test]
fn statuses_pass_through_init() {
    needs!(UserNamespaces);
    let run = |command: &[&str]| lesson().as_plain_user().arg("--").args(command).run();
    assert_eq!(run(&["sh", "-c", "exit 7"]).code, Some(7));
    assert_eq!(run(&["sh", "-c", "kill -KILL $$"]).code, Some(137));
    let missing = run(&["no-such-command"]);
    assert_eq!(missing.code, Some(127), "{missing}");
    assert!(missing.stderr.contains("\"no-such-command\": No such file or directory (ENOENT)"), "{missing}");
    assert_eq!(run(&["/etc/passwd"]).code, Some(126));
}

#[test]
fn an_error_of_the_child_is_reported_as_the_parent_s_own() {
    needs!(UserNamespaces);
    let output = lesson().as_plain_user().args(["--rootfs", "/no/such/root", "--", "true"]).run();
    assert_eq!(output.code, Some(125), "{output}");
    let message =
        "error: chroot \"/no/such/root\" (there is no such directory): No such file or directory (ENOENT)\n";
    assert_eq!(output.stderr, message);
}

#[test]
fn nothing_is_left_of_a_lesson_that_is_killed() {
    needs!(Root);
    let sandbox = Sandbox::new();
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let running =
            lesson().in_sandbox(&sandbox).args(["--", "sh", "-c", "sleep 300 & exec sleep 300"]).spawn();
        inside(&running, "sleep");
        running.signal(signal);
        running.wait();
        sandbox.check();
    }
}
