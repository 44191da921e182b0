//! How a lesson speaks.

use std::time::Duration;

use testing::{Program, needs};

const LIMIT: Duration = Duration::from_secs(30);

fn lesson() -> Program {
    Program::new(env!("CARGO_BIN_EXE_ch00-chroot")).as_plain_user()
}

#[test]
fn step_waits_for_enter_before_each_step() {
    needs!(UserNamespaces);
    let mut running = lesson().pty().args(["--step", "--", "echo", "hello"]).spawn();
    running.expect("  1 host ", LIMIT);
    for next in 2..=12 {
        // Nothing moves by itself.
        std::thread::sleep(Duration::from_millis(50));
        running.type_line("");
        let more = running.expect("\r\n", LIMIT) + &running.expect("\r\n", LIMIT);
        if more.contains("execve") {
            break;
        }
        assert!(next < 12, "the command is a step at last: {more}");
    }
    running.type_line("");
    let output = running.wait();
    assert_eq!(output.code, Some(0), "{output}");
    assert!(output.stdout.contains("hello"), "{output}");
}

#[test]
fn step_reads_from_the_terminal_and_leaves_stdin_to_the_command() {
    needs!(UserNamespaces);
    let mut running = lesson().pty().args(["--step", "--", "cat"]).spawn();
    running.expect("  1 host ", LIMIT);
    // One line for each step there can be; the rest of them is what cat reads.
    for _ in 0..12 {
        running.type_line("");
    }
    running.expect("execve", LIMIT);
    running.type_line("for cat");
    // Once by the terminal's echo, once by cat.
    running.expect("for cat\r\n", LIMIT);
    running.expect("for cat\r\n", LIMIT);
    running.type_keys("\x04");
    assert_eq!(running.wait().code, Some(0));
}

#[test]
fn step_without_a_terminal_is_an_error() {
    needs!(UserNamespaces);
    let output = lesson().args(["--step", "--", "true"]).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("/dev/tty") && output.stderr.contains("ENXIO"), "{output}");
}

#[test]
fn colour_is_for_terminals_without_no_color() {
    needs!(UserNamespaces);
    let has_colour = |program: Program| program.args(["--", "true"]).run().to_string().contains('\x1b');
    assert!(has_colour(lesson().pty().env_remove("NO_COLOR")));
    assert!(!has_colour(lesson().pty().env("NO_COLOR", "1")));
    assert!(!has_colour(lesson().env_remove("NO_COLOR")));
}

#[test]
fn a_closed_stderr_does_not_stop_the_command() {
    needs!(Root);
    let script = format!("{} -- echo hello 2>&-", env!("CARGO_BIN_EXE_ch00-chroot"));
    let output = Program::new("sh").args(["-c", &script]).run();
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "hello\n"), "{output}");
}
