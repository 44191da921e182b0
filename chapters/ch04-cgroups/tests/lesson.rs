//! What a process may use, measured from outside.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{LESSON, LIMIT, World, cgroup, command, inside, lesson, number, root_on_a_disk};
use testing::{Program, Sandbox, assert_held_at, needs, poll};

in_both_worlds! {
    fn who_takes_more_memory_than_the_limit_is_killed_by_the_oom_killer(world: &World) {
        // dd fills a buffer of the size of a block.
        let script = "dd if=/dev/zero of=/dev/null bs=128M count=1; echo $?; exec sleep 60";
        let mut running = world.lesson().args(["--memory", "64M", "--", "sh", "-c", script]).spawn();
        assert_eq!(running.stdout_line(), "137", "dd was killed by SIGKILL");
        let files = [("memory.events", "oom_kill "), ("memory.oom_control", "oom_kill ")];
        assert_eq!(number(&cgroup(command(&running, "sleep"), "memory"), &files), Some(1));
        running.signal(libc::SIGTERM);
        running.wait();
    }
}

in_both_worlds! {
    fn a_busy_loop_gets_half_a_cpu_in_the_kernel_s_own_account(world: &World) {
        let busy = ["--cpus", "0.5", "--", "sh", "-c", "exec 2>&-; while :; do :; done"];
        let running = world.lesson().timeout(3 * LIMIT).args(busy).spawn();
        let pid = command(&running, "sh");
        // Never more; less while others want the processors too, so there are some attempts.
        poll(2 * LIMIT, || {
            let (start, before) = (Instant::now(), cpu_seconds(pid));
            // Long: an emulated machine gets its own ticks late, and then two at once.
            sleep(Duration::from_secs(6));
            let used = (cpu_seconds(pid) - before) / start.elapsed().as_secs_f64();
            assert!(used <= 0.55, "{used} CPUs");
            (used >= 0.45).then_some(())
        });
        running.signal(libc::SIGTERM);
        running.wait();
    }
}

/// Fields 14 and 15 of /proc/PID/stat, in ticks of which there are 100 in a second: proc_pid_stat(5).
fn cpu_seconds(pid: i32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap());
    // SAFETY: sysconf takes and returns numbers.
    ticks.sum::<f64>() / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
}

in_both_worlds! {
    fn a_fork_bomb_stops_at_the_limit_and_no_process_of_it_outlives_the_lesson(world: &World) {
        // The limit counts init, the shell, and the shell that forks until it can't.
        let script = "(while :; do sleep 100 & done) 2> /dev/null & exec sleep 100";
        let running = world.lesson().args(["--pids", "20", "--", "sh", "-c", script]).spawn();
        let cgroup = cgroup(command(&running, "sleep"), "pids");
        poll(LIMIT, || number(&cgroup, &[("pids.events", "max ")]).filter(|refused| *refused > 0));
        let processes = inside(&running);
        assert!((18..=20).contains(&processes.len()), "{} processes", processes.len());
        running.signal(libc::SIGTERM);
        running.wait();
        poll(LIMIT, || processes.iter().all(|pid| !testing::process::exists(*pid)).then_some(()));
    }
}

in_both_worlds! {
    fn a_fork_bomb_of_shells_does_not_get_out(world: &World) {
        // The bomb has a shell of its own: the first one, too, would end where a fork is refused.
        let script = "f() { f | f & }; f 2> /dev/null & exec sleep 4";
        let running = world.lesson().args(["--pids", "20", "--", "sh", "-c", script]).spawn();
        let cgroup = cgroup(command(&running, "sleep"), "pids");
        let (mut most, mut refused) = (0, 0);
        poll(LIMIT, || {
            // Not pids.current: a fork is counted there for an instant before it is refused.
            let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            most = most.max(processes.lines().count());
            refused = refused.max(number(&cgroup, &[("pids.events", "max ")]).unwrap_or_default());
            (!cgroup.exists()).then_some(())
        });
        assert!(most <= 20 && refused > 0, "{most} processes, {refused} forks refused");
        running.wait();
    }
}

in_both_worlds! {
    fn writes_to_a_disk_are_held_at_a_mebibyte_per_second(world: &World) {
        let root = root_on_a_disk();
        let dd = ["dd", "if=/dev/zero", "of=/tmp/file", "bs=16k", "count=2560", "oflag=direct"];
        let program = world.lesson().arg("--rootfs").arg(root.path()).args(["--io-write", "1M", "--"]).args(dd);
        let running = program.spawn();
        let pid = command(&running, "dd");
        // proc_pid_io(5). Each write waits for the disk, so at most one is counted too early.
        let written = || number(format!("/proc/{pid}").as_ref(), &[("io", "write_bytes:")]).unwrap();
        poll(LIMIT, || (written() > 0).then_some(()));
        assert_held_at(1.0, || {
            let (start, before) = (Instant::now(), written());
            sleep(Duration::from_secs(4));
            (written() - before) as f64 / start.elapsed().as_secs_f64() / 1048576.0
        });
        running.signal(libc::SIGTERM);
        running.wait();
    }
}

in_both_worlds! {
    fn statuses_pass_through(world: &World) {
        let run = |script: &str| world.lesson().args(["--pids", "20", "--", "sh", "-c", script]).run();
        assert_eq!(run("exit 7").code, Some(7));
        assert_eq!(run("kill -KILL $$").code, Some(137));
        let output = world.lesson().args(["--", "no-such-command"]).run();
        assert_eq!(output.code, Some(127), "{output}");
    }
}

in_both_worlds! {
    fn after_a_kill_the_next_run_leaves_nothing_of_either(world: &World) {
        // Of the lesson with a command, whose init dies with it; and of the experiments, at several moments: the fork
        // bomb's processes have no init.
        let running = world.lesson().args(["--pids", "20", "--", "sleep", "300"]).spawn();
        command(&running, "sleep");
        running.signal(libc::SIGKILL);
        running.wait();
        for milliseconds in [50, 500, 2500, 7000] {
            let running = world.lesson().spawn();
            sleep(Duration::from_millis(milliseconds));
            running.signal(libc::SIGKILL);
            running.wait();
        }
        let output = world.lesson().args(["--", "true"]).run();
        assert_eq!(output.code, Some(0), "{output}");
        world.check();
    }
}

in_both_worlds! {
    fn ctrl_c_at_any_moment_leaves_nothing_behind(world: &World) {
        for milliseconds in (0..300).step_by(15) {
            for arguments in [&["--pids", "20", "--", "sleep", "300"][..], &[]] {
                let running = world.lesson().args(arguments).spawn();
                sleep(Duration::from_millis(milliseconds));
                running.signal(libc::SIGINT);
                let output = running.wait();
                let by_signal = output.code == Some(130) || output.signal == Some(libc::SIGINT);
                assert!(by_signal, "after {milliseconds} ms: {output}");
                world.check();
            }
        }
    }
}

#[test]
fn what_another_user_has_left_is_no_hindrance() {
    needs!(Root, CgroupV2, DelegatedCgroup, UserNamespaces);
    let left = std::path::Path::new("/sys/fs/cgroup/hull-lesson-1-left");
    // A lesson of root's beside it may have swept it meanwhile, and then nothing was in the way.
    let is_still_there = || {
        fs::create_dir(left).unwrap();
        let output = World::PlainUser.lesson().args(["--pids", "20", "--", "true"]).run();
        assert_eq!(output.code, Some(0), "{output}");
        fs::remove_dir(left).is_ok()
    };
    assert!((0..10).any(|_| is_still_there()));
}

#[test]
fn where_the_kernel_kills_a_cgroup_as_a_whole_none_is_frozen_for_that() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let output = Program::new(LESSON).in_sandbox(&sandbox).timeout(2 * LIMIT).run();
    assert_eq!(output.code, Some(0), "{output}");
    let told = |text: &str| output.stderr.contains(text);
    assert_ne!(told("cgroup.kill\", \"1\")"), told("freezer.state"), "{output}");
}

#[test]
fn a_living_lesson_is_not_swept_by_another() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let running = lesson(&sandbox).args(["--pids", "20", "--", "sleep", "300"]).spawn();
    let pid = command(&running, "sleep");
    let cgroup = cgroup(pid, "pids");
    let output = lesson(&sandbox).args(["--pids", "10", "--", "true"]).run();
    assert_eq!(output.code, Some(0), "{output}");
    assert!(testing::process::exists(pid));
    assert_eq!(number(&cgroup, &[("pids.max", "")]), Some(20));
    running.signal(libc::SIGTERM);
    running.wait();
}

#[test]
fn the_report_tells_what_the_command_has_used() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let script = "dd if=/dev/zero of=/dev/null bs=32M count=1 2> /dev/null
        dd if=/dev/zero of=/dev/null bs=128M count=1
        end=$(($(date +%s) + 2)); while [ $(date +%s) -lt $end ]; do :; done";
    let arguments = ["--memory", "64M", "--cpus", "0.5", "--pids", "20", "--", "sh", "-c", script];
    let output = Program::new(LESSON).in_sandbox(&sandbox).args(arguments).run();
    assert_eq!(output.code, Some(0), "{output}");
    assert_eq!(output.stdout, "", "{output}");
    for line in
        ["memory: 67108864 bytes", "swap: 0 bytes", "CPU: 50000 µs in each 100000 µs", "processes: 20"]
    {
        assert!(output.stderr.contains(&format!("= {line}\n")), "{line:?} in {output}");
    }
    assert!(output.stderr.contains("= OOM kills: 1\n"), "{output}");
    let told = |name: &str| -> f64 {
        let line = output.stderr.lines().find_map(|line| line.split_once(name)).unwrap().1;
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    // The one that was killed reached the limit.
    assert!((60.0..=64.0).contains(&told("= peak memory: ")), "{output}");
    assert!(told("= CPU time: ") > 0.5, "{output}");
    assert!(told("= throttled: for ") > 0.0, "{output}");
}

#[test]
fn the_report_names_what_is_not_counted_once() {
    needs!(Root, CgroupV2);
    let sandbox = Sandbox::new();
    let inner = sandbox.cgroup_v2().unwrap().join("plain");
    fs::create_dir(&inner).unwrap();
    let script = format!("echo 0 > {}/cgroup.procs && exec {LESSON} -- true", inner.display());
    let output = Program::new("sh").args(["-c", &script]).in_sandbox(&sandbox).run();
    fs::remove_dir(&inner).unwrap();
    assert_eq!(output.code, Some(0), "{output}");
    assert_eq!(output.stderr.matches("not counted here").count(), 1, "{output}");
    for (line, is_there) in [("= CPU time: ", true), ("= peak memory: ", false), ("= throttled: ", false)] {
        assert_eq!(output.stderr.contains(line), is_there, "{line} in {output}");
    }
}

#[test]
fn what_is_sent_and_what_is_received_is_held_at_the_rate_of_the_network() {
    needs!(Root, Tool("nft"), Tool("ip"));
    const BYTES: usize = 4_000_000;
    // The rate is that of whole packets: with each 1448 bytes of ours go the headers of Ethernet, IP and TCP.
    const EXPECTED: f64 = BYTES as f64 * (14.0 + 20.0 + 32.0 + 1448.0) / 1448.0 * 8.0 / 16e6;
    let sandbox = Sandbox::new();
    let script = format!(
        "nc -ll -p 9000 -e wc -c & nc -ll -p 9001 -e head -c {BYTES} /dev/zero & echo ready; exec sleep 300"
    );
    let program = lesson(&sandbox).args(["--net-rate", "16mbit", "--", "sh", "-c", &script]);
    let mut running = program.spawn();
    assert_eq!(running.stdout_line(), "ready");
    // In a new network the first container has the first address after the bridge's.
    let connect = |port| {
        let address = (Ipv4Addr::new(10, 77, 0, 2), port);
        poll(LIMIT, || sandbox.network().run(|| TcpStream::connect(address).ok()))
    };
    let rate_in = || {
        let (mut connection, begin, mut count) = (connect(9000), Instant::now(), String::new());
        connection.write_all(&vec![0; BYTES]).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        connection.read_to_string(&mut count).unwrap();
        assert_eq!(count.trim(), BYTES.to_string());
        EXPECTED / begin.elapsed().as_secs_f64()
    };
    assert_held_at(1.0, rate_in);
    let rate_out = || {
        let (begin, mut received) = (Instant::now(), Vec::new());
        connect(9001).read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), BYTES);
        EXPECTED / begin.elapsed().as_secs_f64()
    };
    assert_held_at(1.0, rate_out);

    running.signal(libc::SIGTERM);
    running.wait();
    sandbox.check();
}

#[test]
fn a_plain_user_gets_a_cgroup_from_systemd() {
    needs!(DelegatedCgroup, UserNamespaces);
    let script = "dd if=/dev/zero of=/dev/null bs=128M count=1; echo $?";
    let arguments = ["--memory", "64M", "--cpus", "0.5", "--pids", "20", "--", "sh", "-c", script];
    let output = Program::new(LESSON).with_user_manager().args(arguments).run();
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "137\n"), "{output}");
    assert!(output.stderr.contains("= OOM kills: 1\n"), "{output}");
}
