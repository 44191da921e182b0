//! Claims about programs run by tests.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use testing::{PlainUser, Program, needs, poll};

const SOON: Duration = Duration::from_secs(10);

/// The message of the panic that `action` must end with.
fn panic_message<T>(action: impl FnOnce() -> T) -> String {
    match catch_unwind(AssertUnwindSafe(action)) {
        Ok(_) => panic!("there was no panic"),
        Err(panic) => *panic.downcast::<String>().expect("a formatted message"),
    }
}

fn shell(script: &str) -> Program {
    Program::new("sh").args(["-c", script])
}

#[test]
fn output_and_exit_status_are_passed_on() {
    let output = shell("cat; echo to-stderr >&2; exit 7").stdin("to-stdout").run();
    assert_eq!((output.code, output.signal), (Some(7), None));
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("to-stdout", "to-stderr\n"));
}

#[test]
fn a_signal_is_told_from_an_exit_status() {
    let output = shell("kill -TERM $$").run();
    assert_eq!((output.code, output.signal), (None, Some(15)));
}

#[test]
fn nothing_but_path_and_home_comes_from_the_environment_of_the_test() {
    let output = Program::new("env").env("ADDED", "1").run();
    let mut names: Vec<&str> = output.stdout.lines().map(|line| line.split('=').next().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["ADDED", "HOME", "LANG", "NO_COLOR", "PATH"]);
}

#[test]
fn at_the_time_limit_the_test_panics_with_the_output_and_all_processes_are_killed() {
    // The second sleep is in a session of its own, as a job on a new terminal is.
    let script = "sleep 1000 & echo $!; setsid sleep 1000 & echo $!; echo late >&2; wait";
    let message = panic_message(|| shell(script).timeout(Duration::from_secs(1)).run());
    assert!(message.contains("did not end in time") && message.contains("late"), "{message}");
    let pids: Vec<&str> = message.lines().filter(|line| line.parse::<i32>().is_ok()).collect();
    assert_eq!(pids.len(), 2, "{message}");
    for pid in pids {
        poll(SOON, || has_ended(pid).then_some(()));
    }
}

/// Whether the process is gone, or a zombie that its new parent has yet to reap.
fn has_ended(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

#[test]
fn a_dropped_program_is_killed_and_reaped() {
    let running = Program::new("sleep").args(["1000"]).spawn();
    let pid = running.pid();
    drop(running);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn lines_come_while_the_program_runs() {
    let mut running = shell("echo one; echo two; exec sleep 1000").spawn();
    assert_eq!(running.stdout_line(), "one");
    assert_eq!(running.stdout_line(), "two");
    running.signal(libc::SIGKILL);
    assert_eq!(running.wait().signal, Some(libc::SIGKILL));
}

#[test]
fn the_end_of_the_output_is_told_from_a_line() {
    let mut running = shell("echo one; printf two").spawn();
    assert_eq!(running.stdout_line(), "one");
    let message = panic_message(|| running.stdout_line());
    assert!(message.contains("did not print another line") && message.contains("two"), "{message}");
}

#[test]
fn a_child_that_keeps_the_output_open_does_not_stop_the_test() {
    let output = shell("echo started; sleep 8 &").run();
    assert_eq!(output.stdout, "started\n");
}

#[test]
fn a_program_that_cannot_be_started_is_named() {
    let message = panic_message(|| Program::new("/no/such/program").args(["--flag"]).run());
    assert!(message.contains("start /no/such/program --flag: No such file"), "{message}");
}

#[test]
fn a_plain_user_has_its_ids_no_groups_and_a_home_of_its_own() {
    needs!(PlainUser);
    let user = PlainUser::get();
    let script = "id -u; id -g; grep Groups: /proc/self/status; pwd; touch made; stat -c %u made $HOME";
    // The program is given by its path, so it is run from a copy in the user's home.
    let output = Program::new("/bin/sh").args(["-c", script]).as_plain_user().run();
    let lines: Vec<&str> = output.stdout.lines().collect();
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    assert_eq!((lines[0], lines[1]), (&*uid, &*gid), "{output}");
    if nix::unistd::geteuid().is_root() {
        assert_eq!(lines[2].trim(), "Groups:", "{output}");
    }
    assert!(lines[3].contains("hull-test-"), "{output}");
    assert_eq!(&lines[4..], [&*uid, &*uid], "{output}");
    assert!(!Path::new(lines[3]).exists(), "the home is removed at the end");
}

#[test]
fn a_terminal_is_the_programs_controlling_terminal() {
    let mut running = Program::new("sh").args(["-i"]).env("PS1", "ready> ").pty().spawn();
    running.expect("ready> ", SOON);
    running.type_line("stty size; tty -s && echo is-$((40 + 2))");
    let answer = running.expect("is-42", SOON);
    assert!(answer.contains("24 80"), "{answer}");
    running.resize(30, 100);
    running.type_line("stty size");
    running.expect("30 100", SOON);
    // Ctrl-C becomes a signal only where the terminal controls the session and knows its foreground group.
    running.type_line("sleep 1000; echo status-$?");
    poll(SOON, || foreground_command(running.pid()).filter(|name| name == "sleep"));
    running.type_keys("\x03");
    running.expect("ready> ", SOON);
    running.type_line("exit 3");
    assert_eq!(running.wait().code, Some(3));
}

#[test]
fn a_plain_user_may_open_its_terminal_by_name() {
    needs!(PlainUser);
    let script = "echo by-name > $(tty); echo by-the-session > /dev/tty";
    let output = shell(script).as_plain_user().pty().run();
    assert_eq!(output.stdout, "by-name\r\nby-the-session\r\n", "{output}");
}

/// The name of the leader of the foreground process group of the terminal that controls `pid`.
fn foreground_command(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let group = stat.rsplit_once(')')?.1.split_whitespace().nth(5)?;
    Some(fs::read_to_string(format!("/proc/{group}/comm")).ok()?.trim().to_string())
}
