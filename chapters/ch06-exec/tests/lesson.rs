//! A process that has joined a container, looked at from outside.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{LESSON, LIMIT, NAMESPACES, World, cgroups, first, joined, link, namespace, pids, stop};
use testing::process::{exists, status};
use testing::{Program, Sandbox, needs, poll};

// A lesson of a plain user's takes seconds on a slow machine (systemd executes it, and it copies itself), so claims about
// the same process share one.
in_both_worlds! {
    fn the_joined_process_has_all_of_the_container_and_nothing_of_the_host(world: &World) {
        // Descriptor 9 is the host's root directory, as a careless caller has it open.
        let inside = "echo $PPID; pwd; exec sleep 300";
        let script = "exec 9< /; exec \"$0\" --quiet -w /tmp -- sh -c \"$1\"";
        // A shell finds the lesson by its path, so that has to be one that the user may enter.
        let directory = testing::plain_user_directory();
        let copy = directory.path().join("ch06-exec");
        // By another program: a child that a test beside this one makes would have our descriptor, and the copy be busy.
        assert_eq!(Program::new("cp").args([LESSON.as_ref(), copy.as_os_str()]).run().code, Some(0));
        let program = world.program("sh").args(["-c", script]).arg(&copy).arg(inside);
        let mut lesson = program.env("SECRET", "hull").spawn();
        assert_eq!((lesson.stdout_line(), lesson.stdout_line()), ("0".into(), "/tmp".into()), "parent and directory");
        let (joined, first) = (joined(&lesson, "sleep"), first(&lesson));

        for kind in NAMESPACES {
            assert_eq!(namespace(joined, kind), namespace(first, kind), "{kind}");
            assert_ne!(namespace(joined, kind), namespace(lesson.pid(), kind), "{kind}");
        }
        assert_eq!(pids(joined).len(), pids(lesson.pid()).len() + 1);
        assert_eq!(status(joined, "PPid"), Some(lesson.pid().to_string()));
        assert_eq!(cgroups(joined), cgroups(first));
        assert_eq!(cgroups(joined) != cgroups(lesson.pid()), world.has_cgroup(), "{}", cgroups(joined));
        let root = |pid: i32| {
            let metadata = fs::metadata(format!("/proc/{pid}/root")).unwrap();
            (metadata.dev(), metadata.ino())
        };
        assert_eq!(root(joined), root(first));
        assert_ne!(root(joined), root(lesson.pid()));

        let environment = fs::read_to_string(format!("/proc/{joined}/environ")).unwrap();
        assert!(environment.contains("PATH=") && !environment.contains("SECRET"), "{environment:?}");
        let descriptors = fs::read_dir(format!("/proc/{joined}/fd")).unwrap();
        let mut descriptors: Vec<String> = descriptors
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        descriptors.sort();
        assert_eq!(descriptors, ["0", "1", "2"]);

        another_lesson_joins_it_by_its_pid(world, first);
        // The end of the container is the end of who has joined.
        // SAFETY: kill touches no memory; the pid is that of a living descendant of the test.
        assert_eq!(unsafe { libc::kill(first, libc::SIGKILL) }, 0);
        assert_eq!(lesson.wait().code, Some(137));
        assert!(!exists(joined) && !exists(first));
    }
}

fn another_lesson_joins_it_by_its_pid(world: &World, target: i32) {
    // Its number as the second lesson counts: in the sandbox that is another one than ours.
    let numbers = pids(target);
    let number = numbers[numbers.len() - 2].to_string();
    let script = "hostname; exec sleep 200";
    let mut lesson = world.lesson().args(["--pid", &number, "--", "sh", "-c", script]).spawn();
    assert_eq!(lesson.stdout_line(), "container");
    let joined = joined(&lesson, "sleep");
    for kind in NAMESPACES.iter().chain(&["user"]) {
        assert_eq!(namespace(joined, kind), namespace(target, kind), "{kind}");
    }
    stop(lesson);
    assert!(exists(target), "it is not ours to end");
    // A plain user has the powers that this takes in the user namespace alone.
    let only = if matches!(world, World::Root(_)) { "net" } else { "user,net" };
    let script = "hostname; tail -n +3 /proc/net/dev | cut -d : -f 1";
    let output = world.lesson().args(["--pid", &number, "--only", only, "--", "sh", "-c", script]).run();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(output.stdout, format!("{}\n    lo\n", host.trim()), "{output}");
}

#[test]
fn a_list_of_namespaces_is_joined_and_all_others_stay_the_host_s() {
    needs!(Root);
    let world = World::Root(Sandbox::new());
    for (list, kinds) in [("net,pid", &["net", "pid"][..]), ("mnt", &["mnt"])] {
        let lesson =
            world.lesson().args(["--only", list, "--", "sleep", "300"]).env("SECRET", "hull").spawn();
        let (joined, first) = (joined(&lesson, "sleep"), first(&lesson));
        for kind in NAMESPACES {
            let from = if kinds.contains(&kind) { first } else { lesson.pid() };
            assert_eq!(namespace(joined, kind), namespace(from, kind), "{kind} with --only {list}");
        }
        // The environment is the host's, as long as the files are.
        let environment = fs::read_to_string(format!("/proc/{joined}/environ")).unwrap();
        assert_eq!(environment.contains("SECRET"), list != "mnt", "{environment:?}");
        stop(lesson);
    }
    world.check();
}

#[test]
fn input_output_and_statuses_are_passed_on() {
    needs!(Root);
    let world = World::Root(Sandbox::new());
    let output = world.lesson().args(["--", "sh", "-c", "cat; echo error >&2; exit 7"]).stdin("text\n").run();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("text\n", "error\n"), "{output}");
    assert_eq!(output.code, Some(7), "{output}");
    for (command, status) in [("no-such-command", 127), ("/etc/os-release", 126)] {
        let output = world.lesson().args(["--", command]).run();
        assert_eq!(output.code, Some(status), "{command}: {output}");
    }
    world.check();
}

#[test]
fn what_the_lesson_itself_can_t_do_is_125() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let run = |arguments: &[&str]| Program::new(LESSON).in_sandbox(&sandbox).arg("-q").args(arguments).run();
    for (arguments, answer) in [
        (&["--only", "nonsense", "--", "true"][..], "nonsense"),
        (&["--pid", "4000000", "--", "true"], "4000000"),
        (&["--pid", "1"], "COMMAND"),
        (&["--tty", "--", "true"], "no terminal"),
        (&["--workdir", "/no/such", "--", "true"], "/no/such"),
    ] {
        let output = run(arguments);
        assert_eq!(output.code, Some(125), "{arguments:?}: {output}");
        assert!(output.stderr.contains(answer), "{arguments:?}: {output}");
    }
}

#[test]
fn a_signal_reaches_the_command() {
    needs!(Root);
    let world = World::Root(Sandbox::new());
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let mut lesson = world.lesson().args(["--", "sh", "-c", script]).spawn();
    assert_eq!(lesson.stdout_line(), "ready");
    lesson.signal(libc::SIGTERM);
    assert_eq!(lesson.wait().code, Some(9));
    world.check();
}

in_both_worlds! {
    fn a_terminal_is_one_of_the_container_s_with_job_control(world: &World) {
        let program = world.lesson().pty().args(["-t", "--", "sh", "-i"]).env("PS1", "> ");
        let mut lesson = program.env("TERM", "xterm").spawn();
        let greeting = lesson.expect("# ", LIMIT);
        assert!(!greeting.contains("job control"), "no complaint: {greeting}");
        let shell = joined(&lesson, "sh");
        let (inside, outside) = (link(shell, "fd/0"), link(lesson.pid(), "fd/0"));
        assert!(inside.starts_with("/dev/pts/"), "{inside}");
        let terminal = |pid: i32| fs::metadata(format!("/proc/{pid}/fd/0")).unwrap().dev();
        assert_ne!(terminal(shell), terminal(lesson.pid()), "{inside} and {outside} are of one devpts");
        lesson.type_line("tty; stty size");
        lesson.expect(&inside, LIMIT);
        lesson.expect("24 80", LIMIT);
        lesson.type_line("sleep 300");
        let is_asleep = || testing::process::children(shell).into_iter().any(|pid| testing::process::runs(pid, "sleep"));
        poll(LIMIT, || is_asleep().then_some(()));
        lesson.type_keys("\x03");
        lesson.type_line("echo after-$?");
        lesson.expect("after-130", LIMIT);
        lesson.type_line("exit 5");
        assert_eq!(lesson.wait().code, Some(5));
    }
}

#[test]
fn without_the_flag_there_is_no_terminal() {
    needs!(Root);
    let world = World::Root(Sandbox::new());
    let script = "tty; echo pwned > /dev/tty || echo none; read line; echo got $line";
    let mut lesson = world.lesson().pty().args(["--", "sh", "-c", script]).spawn();
    let printed = lesson.expect("none", LIMIT);
    assert!(printed.contains("not a tty"), "{printed}");
    lesson.type_line("hello");
    lesson.expect("got hello", LIMIT);
    assert_eq!(lesson.wait().code, Some(0));
    world.check();
}

/// Moments in the life of a lesson, spread evenly however many are taken: as many as a few seconds allow, since an
/// emulated machine needs ten times as long for each. Each is a part of the whole, from 0 to 1.
fn moments(seconds: u64) -> impl Iterator<Item = f64> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let golden = |number: u32| (0.2 + 0.618_034 * f64::from(number)).fract();
    (0..40).take_while(move |number| *number < 2 || Instant::now() < end).map(golden)
}

/// Of both lives of a lesson, with a command and without: its arguments, and how long a short one takes.
fn lives(world: &World) -> [(&'static [&'static str], Duration); 2] {
    let lives: [(&[&str], &[&str]); 2] = [(&["--", "sleep", "300"], &["--", "true"]), (&[], &[])];
    lives.map(|(arguments, short)| {
        let begin = Instant::now();
        assert_eq!(world.lesson().args(short).run().code, Some(0));
        (arguments, begin.elapsed())
    })
}

/// Ends a lesson by Ctrl-C at some moment.
fn interrupt(world: &World, arguments: &[&str], after: Duration) {
    let lesson = world.lesson().args(arguments).spawn();
    sleep(after);
    lesson.signal(libc::SIGINT);
    let output = lesson.wait();
    let by_signal = output.code == Some(130) || output.signal == Some(libc::SIGINT);
    // The experiments may be over by then.
    let is_over = arguments.is_empty() && output.code == Some(0);
    assert!(by_signal || is_over, "after {after:?}: {output}");
    world.check();
}

#[test]
fn a_signal_at_any_moment_leaves_nothing_behind() {
    needs!(Root);
    let world = World::Root(Sandbox::new());
    for (arguments, whole) in lives(&world) {
        for moment in moments(3) {
            interrupt(&world, arguments, whole.mul_f64(moment));
        }
        // Of one that is killed the next one takes down what is left.
        for moment in moments(1) {
            let lesson = world.lesson().args(arguments).spawn();
            sleep(whole.mul_f64(moment));
            lesson.signal(libc::SIGKILL);
            lesson.wait();
        }
        let output = world.lesson().args(["--", "true"]).run();
        assert_eq!(output.code, Some(0), "{output}");
        world.check();
    }
}

#[test]
fn a_signal_leaves_nothing_of_a_plain_user_s_behind() {
    needs!(UserNamespaces);
    let world = World::PlainUser;
    let lesson = world.lesson().args(["--", "sleep", "300"]).spawn();
    let begin = Instant::now();
    joined(&lesson, "sleep");
    let whole = begin.elapsed();
    lesson.signal(libc::SIGINT);
    assert_eq!(lesson.wait().code, Some(130));
    world.check();
    // On its way to the container, and while it joins that.
    for moment in [0.6, 0.9] {
        interrupt(&world, &["--", "sleep", "300"], whole.mul_f64(moment));
    }
}

#[test]
fn ctrl_c_at_a_step_leaves_nothing_behind() {
    needs!(Root);
    let sandbox = Sandbox::new();
    for (arguments, short) in
        [(&["--step", "--", "sleep", "300"][..], &["--", "true"][..]), (&["--step"], &[])]
    {
        let told = Program::new(LESSON).in_sandbox(&sandbox).args(short).run().stderr;
        let is_step = |line: &&str| line.trim_start().starts_with(|first: char| first.is_ascii_digit());
        let steps = told.lines().filter(is_step).count();
        for moment in moments(3) {
            let enters = (moment * steps as f64) as usize;
            let program = Program::new(LESSON).in_sandbox(&sandbox).pty();
            let mut running = program.timeout(LIMIT).args(arguments).spawn();
            for step in 1..=enters {
                running.expect(&format!("\n{step:>3} "), LIMIT);
                running.type_line("");
            }
            running.expect(&format!("\n{:>3} ", enters + 1), LIMIT);
            running.type_keys("\x03");
            let output = running.wait();
            let by_signal = output.code == Some(130) || output.signal == Some(libc::SIGINT);
            assert!(by_signal, "{enters} steps: {output}");
            sandbox.check();
        }
    }
}

in_both_worlds! {
    fn without_a_command_it_tells_what_a_joined_process_has(world: &World) {
        let output = world.program(LESSON).run();
        assert_eq!(output.code, Some(0), "{output}");
        // Of `hostname; ps`: the container's name, and its processes, of which the joined shell is one.
        let mut lines = output.stdout.lines();
        assert_eq!(lines.next(), Some("container"), "{output}");
        assert!(lines.any(|line| line.contains("sleep")) && lines.any(|line| line.ends_with(" ps")), "{output}");
        // Long lines are broken.
        let stderr = output.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        let told = |text: &str| stderr.matches(text).count();
        assert!(told("getppid() is 0") >= 2, "{output}");
        let of = |when: &str, name: &str| {
            let line = stderr.split(&format!("= {when}: getpid()")).nth(1).unwrap();
            let value = line.split(&format!("{name} is ")).nth(1).unwrap();
            value.split([',', ' ']).next().unwrap().to_owned()
        };
        for when in ["before", "after"] {
            let is_same = of(when, "/proc/self/ns/pid") == of(when, "pid_for_children");
            assert_eq!(is_same, when == "before", "{output}");
        }
        assert_eq!(of("before", "/proc/self/ns/pid"), of("after", "/proc/self/ns/pid"), "{output}");
        assert!(output.stderr.contains("ended with status 137:"), "{output}");
    }
}

#[test]
fn the_view_shows_both_sides() {
    needs!(Root);
    let world = World::Root(Sandbox::new());
    let output = world.lesson().args(["--view", "--", "true"]).run();
    assert_eq!(output.code, Some(0), "{output}");
    assert!(output.stderr.contains("container") && output.stderr.contains("namespaces"), "{output}");
    world.check();
}

#[test]
fn another_user_s_process_is_refused_with_the_reason() {
    needs!(Root, UserNamespaces);
    let other = Program::new("sleep").arg("300").spawn();
    let pid = other.pid().to_string();
    let output =
        Program::new(LESSON).as_plain_user().args(["--pid", &pid, "--only", "net", "--", "true"]).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains(&pid) && output.stderr.contains("(E"), "{output}");
}

#[test]
fn a_proc_that_hides_processes_does_not_hinder_a_plain_user() {
    needs!(Root, UserNamespaces, Tool("unshare"), Tool("setpriv"));
    let user = testing::PlainUser::get();
    let directory = testing::plain_user_directory();
    let copy = directory.path().join("ch06-exec");
    assert_eq!(Program::new("cp").args([LESSON.as_ref(), copy.as_os_str()]).run().code, Some(0));
    let script = format!(
        "mount -t proc -o hidepid=2 proc /proc && cd {directory} && export XDG_CACHE_HOME={directory} HOME={directory} &&
        exec setpriv --reuid {} --regid {} --clear-groups {} -- hostname",
        user.uid,
        user.gid,
        copy.display(),
        directory = directory.path().display()
    );
    let output = Program::new("unshare").args(["--mount", "sh", "-c", &script]).timeout(LIMIT).run();
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "container\n"), "{output}");
}

#[test]
fn a_program_that_runs_from_a_copy_makes_the_same_root_as_others() {
    needs!(Root, Tool("busybox"));
    let directory = tempfile::tempdir().unwrap();
    // Out of cargo's directory, where there is a root already.
    let copy = directory.path().join("ch06-exec");
    assert_eq!(Program::new("cp").args([LESSON.as_ref(), copy.as_os_str()]).run().code, Some(0));
    let output = Program::new(&copy).env("XDG_CACHE_HOME", directory.path()).args(["-q", "--", "true"]).run();
    assert_eq!(output.code, Some(0), "{output}");
    assert!(directory.path().join("hull/rootfs/busybox").exists(), "what a program is was not found out");
}
