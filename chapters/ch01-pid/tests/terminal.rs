//! A terminal of its own: job control, keys, size.

use std::time::Duration;

use testing::{Program, needs};

const LIMIT: Duration = Duration::from_secs(30);

fn lesson() -> Program {
    Program::new(env!("CARGO_BIN_EXE_ch01-pid")).as_plain_user().pty().args(["--quiet", "--"])
}

#[test]
fn a_shell_has_a_terminal_of_its_own_with_job_control() {
    needs!(UserNamespaces);
    let mut running = lesson().args(["sh", "-i"]).env("PS1", "> ").spawn();
    let greeting = running.expect("> ", LIMIT);
    assert!(!greeting.contains("job control"), "no complaint: {greeting}");
    running.type_line("sleep 300");
    std::thread::sleep(Duration::from_millis(300));
    running.type_keys("\x03");
    running.type_line("echo after-$?");
    running.expect("after-130", LIMIT);
    running.type_line("exit 5");
    assert_eq!(running.wait().code, Some(5));
}

#[test]
fn ctrl_c_ends_the_command_and_the_lesson() {
    needs!(UserNamespaces);
    let mut running = lesson().args(["sh", "-c", "echo ready; exec sleep 300"]).spawn();
    running.expect("ready", LIMIT);
    running.type_keys("\x03");
    assert_eq!(running.wait().code, Some(130));
}

#[test]
fn the_terminal_has_the_size_of_the_user_s_and_follows_it() {
    needs!(UserNamespaces);
    let script = "stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.1; done";
    let mut running = lesson().args(["sh", "-c", script]).spawn();
    let before = running.expect("ready", LIMIT);
    assert!(before.contains("24 80"), "{before}");
    running.resize(50, 132);
    running.expect("50 132", LIMIT);
    assert_eq!(running.wait().code, Some(0));
}

#[test]
fn the_user_s_terminal_is_as_before_in_the_end() {
    needs!(UserNamespaces);
    let script = format!(
        "before=$(stty -g); {} --quiet -- true; [ \"$before\" = \"$(stty -g)\" ] && echo same",
        env!("CARGO_BIN_EXE_ch01-pid")
    );
    // The lesson's file is not copied for a shell, so this one runs as we are.
    let output = Program::new("sh").pty().args(["-c", &script]).run();
    assert!(output.stdout.contains("same"), "{output}");
}

#[test]
fn a_command_whose_output_is_a_pipe_gets_no_terminal() {
    needs!(UserNamespaces);
    let output = Program::new(env!("CARGO_BIN_EXE_ch01-pid")).as_plain_user();
    let output = output.args(["--quiet", "--", "sh", "-c", "test -t 1 || echo no terminal"]).run();
    assert_eq!(output.stdout, "no terminal\n");
}

#[test]
fn a_large_paste_neither_hangs_nor_loses_a_byte() {
    needs!(UserNamespaces);
    let mut running = lesson().args(["sh", "-c", "stty -echo; echo ready; head -c 200000 | cksum"]).spawn();
    running.expect("ready", LIMIT);
    let paste = "0123456789012345678901234567890123456789012345678\n".repeat(4000);
    running.type_keys(&paste);
    assert_eq!(running.wait().code, Some(0));
}

#[test]
fn a_command_that_does_not_read_does_not_keep_the_lesson_from_ending() {
    needs!(UserNamespaces);
    let mut running = lesson().args(["sh", "-c", "echo ready; exec sleep 1"]).spawn();
    running.expect("ready", LIMIT);
    running.type_keys(&"0123456789\n".repeat(3000));
    assert_eq!(running.wait().code, Some(0));
}

#[test]
fn without_a_terminal_of_its_own_the_command_has_none_at_all() {
    needs!(UserNamespaces);
    // Standard output is a pipe, so the command gets no terminal; the user's must be out of its reach.
    let script = format!(
        "{} -q -- sh -c 'echo pwned > /dev/tty; echo status $?' | cat",
        env!("CARGO_BIN_EXE_ch01-pid")
    );
    let output = Program::new("sh").pty().args(["-c", &script]).run();
    assert!(output.stdout.contains("/dev/tty") && !output.stdout.contains("status 0"), "{output}");
}

#[test]
fn ctrl_c_ends_the_lesson_at_every_step() {
    needs!(UserNamespaces);
    let mut steps = 0;
    for enters in 0..12 {
        let program = Program::new(env!("CARGO_BIN_EXE_ch01-pid")).as_plain_user().pty();
        let mut running = program.args(["--step", "--", "sleep", "300"]).spawn();
        for step in 1..=enters {
            running.expect(&format!("{step:>3} "), LIMIT);
            running.type_line("");
        }
        let next = running.expect("# ", LIMIT) + &running.expect("\r\n", LIMIT);
        running.type_keys("\x03");
        let output = running.wait();
        assert!(
            output.code == Some(130) || output.signal == Some(libc::SIGINT),
            "after {enters} steps: {output}"
        );
        steps = enters;
        if next.contains("execve") || output.stdout.contains("execve") {
            break;
        }
    }
    assert!(steps > 4, "it had steps: {steps}");
}
