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

/// A pipeline in which the command gets no terminal, while standard input is one.
fn in_a_pipeline(command: &str) -> Program {
    let script = format!("{} -q -- {command} | cat", env!("CARGO_BIN_EXE_ch01-pid"));
    Program::new("sh").pty().args(["-c", &script])
}

#[test]
fn in_a_pipeline_the_command_still_reads_what_is_typed() {
    needs!(UserNamespaces);
    let mut running = in_a_pipeline("sh -c 'echo ready; read line; echo got $line; cat; echo end'").spawn();
    running.expect("ready", LIMIT);
    running.type_line("hello");
    running.expect("got hello", LIMIT);
    running.type_keys("\x04");
    running.expect("end", LIMIT);
    assert_eq!(running.wait().code, Some(0));
}

#[test]
fn in_a_pipeline_ctrl_c_ends_all_that_the_command_has_started() {
    needs!(UserNamespaces, Tool("bash"));
    let mut running = in_a_pipeline("bash -c 'echo ready; sleep 2; echo after'").spawn();
    running.expect("ready", LIMIT);
    std::thread::sleep(Duration::from_millis(300));
    running.type_keys("\x03");
    let output = running.wait();
    assert!(!output.stdout.contains("after"), "{output}");
}

#[test]
fn ctrl_z_gives_the_shell_its_terminal_back() {
    needs!(UserNamespaces, Tool("bash"));
    let lesson = env!("CARGO_BIN_EXE_ch01-pid");
    for command in [
        format!("{lesson} -q -- sh -c 'echo rea''dy; read line; echo got-$line' | cat"),
        format!("{lesson} --step -- true"),
    ] {
        let mut shell = Program::new("bash").args(["--norc", "-i"]).env("PS1", "> ").pty().spawn();
        shell.expect("> ", LIMIT);
        shell.type_line(&command);
        shell.expect(if command.contains("--step") { "  1 " } else { "ready" }, LIMIT);
        std::thread::sleep(Duration::from_millis(200));
        shell.type_keys("\x1a");
        shell.expect("Stopped", LIMIT);
        // Each key arrives at the shell, and none inside.
        for number in 1..=5 {
            shell.type_line(&format!("echo outer-$(({number} * 11))"));
            shell.expect(&format!("outer-{}", number * 11), LIMIT);
        }
        shell.type_line("fg");
        std::thread::sleep(Duration::from_millis(300));
        if command.contains("--step") {
            (0..12).for_each(|_| shell.type_line(""));
            shell.expect("execve", LIMIT);
        } else {
            shell.type_line("inner");
            shell.expect("got-inner", LIMIT);
        }
        shell.expect("> ", LIMIT);
        shell.type_line("exit 3");
        assert_eq!(shell.wait().code, Some(3));
    }
}

#[test]
fn an_ignored_signal_does_not_end_the_lesson() {
    needs!(UserNamespaces);
    let script = format!("trap '' HUP; exec {} --step -- echo ran", env!("CARGO_BIN_EXE_ch01-pid"));
    let mut running = Program::new("sh").pty().args(["-c", &script]).spawn();
    for step in 1..=3 {
        running.expect(&format!("{step:>3} "), LIMIT);
        if step < 3 {
            running.type_line("");
        }
    }
    running.signal(libc::SIGHUP);
    std::thread::sleep(Duration::from_millis(200));
    (0..12).for_each(|_| running.type_line(""));
    let output = running.wait();
    assert!(output.code == Some(0) && output.stdout.contains("ran"), "{output}");
}

#[test]
fn the_last_output_reaches_a_terminal_that_is_slow() {
    needs!(UserNamespaces);
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    let pty = ch01_pid::terminal::open_pty(std::path::Path::new("/dev/ptmx")).unwrap();
    let slave = || std::process::Stdio::from(pty.slave.try_clone().unwrap());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ch01-pid"));
    command.args(["-q", "--", "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo END"]);
    command.stdin(slave()).stdout(slave()).stderr(slave());
    // SAFETY: both calls take numbers, and neither allocates.
    unsafe {
        command.pre_exec(|| {
            let made = libc::setsid() != -1 && libc::ioctl(0, libc::TIOCSCTTY, 0) != -1;
            if made { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        })
    };
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut terminal = std::fs::File::from(pty.master);
    drop(pty.slave);
    let mut output = Vec::new();
    let mut piece = [0; 1000];
    // EIO: the last one has closed it.
    while let Ok(length @ 1..) = terminal.read(&mut piece) {
        output.extend(&piece[..length]);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let end = String::from_utf8_lossy(&output[output.len().saturating_sub(8)..]).into_owned();
    assert!(end.ends_with("END\r\n") && output.len() == 300_005, "{} bytes, ending in {end:?}", output.len());
}
