//! Limits reach the kernel, hold, and are read back; use is counted.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ch04_cgroups::limits::{Cpu, Cpuset, IoDevice, Memory};
use ch04_cgroups::{Bound, Limits};
use testing::{assert_held_at, needs, poll};

mod cgroup_support;
use cgroup_support::{Made, Waiting, file, text};

const MEBIBYTE: u64 = 1 << 20;

fn memory(max: Bound, swap: Option<Bound>) -> Limits {
    Limits { memory: Memory { max: Some(max), swap, ..Memory::default() }, ..Limits::default() }
}

fn cpu(cpu: Cpu) -> Limits {
    Limits { cpu, ..Limits::default() }
}

#[test]
fn limits_need_the_controllers_of_their_files_and_no_others() {
    let needed = |limits: Limits| limits.controllers().into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(needed(Limits::default()), "");
    assert_eq!(needed(Limits { pids: Some(Bound::At(5)), ..Limits::default() }), "pids");
    assert_eq!(needed(memory(Bound::Max, None)), "memory");
    assert_eq!(needed(cpu(Cpu { weight: Some(1), ..Cpu::default() })), "cpu");
    let mut io = Limits::default();
    io.io.weight = Some(10);
    assert_eq!(needed(io.clone()), "io");
    let write = IoDevice { wbps: Some(Bound::At(1)), ..IoDevice::default() };
    io.io.devices.insert("8:0".parse().unwrap(), write);
    assert_eq!(needed(io), "io memory", "a page of the cache is held by its owner");
    let unified = [("cgroup.max.depth", "1"), ("hugetlb.2MB.max", "0"), ("misc.max", "sev 1")];
    let unified = unified.map(|(file, value)| (file.to_string(), value.to_string())).into();
    assert_eq!(needed(Limits { unified, ..Limits::default() }), "hugetlb misc");
}

#[test]
fn memory_is_raised_and_lowered_with_swap_in_an_order_that_the_kernel_takes() {
    needs!(Root, CgroupController("memory"));
    let cgroup = Made::new();
    let max = || text(&cgroup, "memory", "memory.limit_in_bytes", "memory.max");
    for (bound, swap) in [(64, 0), (256, 16), (32, 0), (32, 64), (128, 0)] {
        let (bound, swap) = (Bound::At(bound * MEBIBYTE), Bound::At(swap * MEBIBYTE));
        cgroup.apply(&memory(bound, Some(swap))).unwrap();
        assert_eq!(max(), bound.to_string());
        let limits = cgroup.limits().unwrap().memory;
        assert_eq!((limits.max, limits.swap), (Some(bound), Some(swap)));
    }
    cgroup.apply(&memory(Bound::At(512 * MEBIBYTE), None)).unwrap();
    assert_eq!(cgroup.limits().unwrap().memory.swap, Some(Bound::At(0)), "swap keeps its limit");
    cgroup.apply(&memory(Bound::Max, Some(Bound::Max))).unwrap();
    assert_eq!(cgroup.limits().unwrap().memory.max, Some(Bound::Max));
}

#[test]
fn beyond_memory_max_a_process_is_killed_and_the_kill_is_counted() {
    needs!(Root, CgroupController("memory"));
    let cgroup = Made::new();
    cgroup.apply(&memory(Bound::At(32 * MEBIBYTE), Some(Bound::At(0)))).unwrap();
    let mut process = Waiting::inside(&cgroup, "exec tail /dev/zero");
    process.go();
    assert_eq!(process.0.wait().unwrap().signal(), Some(libc::SIGKILL));
    let events = text(&cgroup, "memory", "memory.oom_control", "memory.events");
    assert!(events.lines().any(|line| line == "oom_kill 1"), "{events}");
    let usage = cgroup.usage().unwrap().memory;
    assert_eq!(usage.oom_kills, Some(1));
    assert_ne!(usage.max_events, Some(0), "what nobody counts is absent");
    let peak = file(&cgroup, "memory", "memory.max_usage_in_bytes", "memory.peak");
    assert_eq!(usage.peak.is_some(), peak.exists());
    assert!(usage.peak.is_none_or(|peak| peak > 31 * MEBIBYTE && peak <= 32 * MEBIBYTE), "{usage:?}");
}

#[test]
fn quota_period_and_burst_change_in_an_order_that_the_kernel_takes() {
    needs!(Root, CgroupController("cpu"));
    let cgroup = Made::new();
    for (quota, period, burst) in
        [(50_000, 100_000, 20_000), (5_000, 10_000, 1_000), (200_000, 100_000, 150_000)]
    {
        let wanted =
            Cpu { quota: Some(Bound::At(quota)), period: Some(period), burst: Some(burst), ..Cpu::default() };
        cgroup.apply(&cpu(wanted)).unwrap();
        assert_eq!(text(&cgroup, "cpu", "cpu.cfs_burst_us", "cpu.max.burst"), burst.to_string());
        let limits = cgroup.limits().unwrap().cpu;
        assert_eq!((limits.quota, limits.period), (wanted.quota, wanted.period));
    }
    cgroup.apply(&cpu(Cpu { burst: Some(0), ..Cpu::default() })).unwrap();
    cgroup.apply(&cpu(Cpu { period: Some(50_000), ..Cpu::default() })).unwrap();
    let limits = cgroup.limits().unwrap().cpu;
    assert_eq!((limits.quota, limits.period), (Some(Bound::At(200_000)), Some(50_000)), "the quota stays");
}

#[test]
fn a_weight_is_set_on_an_idle_cgroup_when_it_stops_to_be_idle() {
    needs!(Root, CgroupController("cpu"));
    let cgroup = Made::new();
    cgroup.apply(&cpu(Cpu { weight: Some(200), idle: Some(true), ..Cpu::default() })).unwrap();
    assert_eq!(text(&cgroup, "cpu", "cpu.idle", "cpu.idle"), "1");
    let error = cgroup.apply(&cpu(Cpu { weight: Some(300), ..Cpu::default() })).unwrap_err();
    assert!(format!("{error:#}").contains("cpu.idle is 1"), "{error:#}");
    cgroup.apply(&cpu(Cpu { weight: Some(300), idle: Some(false), ..Cpu::default() })).unwrap();
    assert_eq!(cgroup.limits().unwrap().cpu.weight, Some(300));
    cgroup.apply(&cpu(Cpu { shares: Some(1024), ..Cpu::default() })).unwrap();
    let share = text(&cgroup, "cpu", "cpu.shares", "cpu.weight");
    assert!(["1024", "100"].contains(&share.as_str()), "{share}");
}

#[test]
fn a_busy_loop_gets_its_quota_and_the_rest_is_counted_as_throttled() {
    needs!(Root, CgroupController("cpu"));
    let cgroup = Made::new();
    let quota = Cpu { quota: Some(Bound::At(20_000)), period: Some(100_000), ..Cpu::default() };
    cgroup.apply(&cpu(quota)).unwrap();
    let mut process = Waiting::inside(&cgroup, "while :; do :; done");
    process.go();
    assert_held_at(0.2, || {
        let (start, before) = (Instant::now(), process.ticks());
        sleep(Duration::from_secs(3));
        (process.ticks() - before) as f64 / 100.0 / start.elapsed().as_secs_f64()
    });
    let usage = cgroup.usage().unwrap().cpu;
    assert!(usage.throttled_periods > Some(0) && usage.throttled > Some(0), "{usage:?}");
    assert!(usage.usage > Some(0) && usage.periods >= usage.throttled_periods, "{usage:?}");
}

#[test]
fn forks_beyond_pids_max_are_refused_and_counted() {
    needs!(Root, CgroupController("pids"));
    let cgroup = Made::new();
    cgroup.apply(&Limits { pids: Some(Bound::At(8)), ..Limits::default() }).unwrap();
    let mut process = Waiting::inside(&cgroup, "while :; do sleep 100 & done");
    process.go();
    poll(Duration::from_secs(10), || (cgroup.usage().unwrap().pids.max_events > Some(0)).then_some(()));
    let processes = fs::read_to_string(file(&cgroup, "pids", "cgroup.procs", "cgroup.procs")).unwrap();
    assert!(processes.lines().count() <= 8, "{processes}");
    // A fork that is refused is counted for an instant.
    poll(Duration::from_secs(10), || (cgroup.usage().unwrap().pids.current <= Some(8)).then_some(()));
}

#[test]
fn a_cpuset_binds_a_process_to_its_processors() {
    needs!(Root, CgroupController("cpuset"));
    let cgroup = Made::new();
    cgroup
        .apply(&Limits {
            cpuset: Cpuset { cpus: Some("0".into()), mems: Some("0".into()) },
            ..Limits::default()
        })
        .unwrap();
    let process = Waiting::inside(&cgroup, "true");
    assert_eq!(testing::process::status(process.pid().as_raw(), "Cpus_allowed_list").as_deref(), Some("0"));
}

#[test]
fn a_limit_that_the_kernel_refuses_is_told_with_file_value_and_errno() {
    needs!(Root, CgroupController("cpu"), CgroupController("cpuset"));
    let cgroup = Made::new();
    let wrong = cpu(Cpu { quota: Some(Bound::At(1)), ..Cpu::default() });
    let error = format!("{:#}", cgroup.apply(&wrong).unwrap_err());
    let path = file(&cgroup, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(
        error.contains(path.to_str().unwrap()) && error.contains("\"1\"") && error.contains("EINVAL"),
        "{error}"
    );

    let unknown = Limits { rdma: [("none".into(), Default::default())].into(), ..Limits::default() };
    let error = format!("{:#}", cgroup.apply(&unknown).unwrap_err());
    assert!(error.contains("rdma"), "{error}");
}

#[test]
fn any_file_of_version_2_is_written_by_name_and_no_other() {
    needs!(Root, CgroupV2);
    let cgroup = Made::new();
    let unified = |name: &str| Limits { unified: [(name.into(), "1".into())].into(), ..Limits::default() };
    cgroup.apply(&unified("memory.oom.group")).unwrap();
    assert_eq!(text(&cgroup, "memory", "", "memory.oom.group"), "1");
    let error = format!("{:#}", cgroup.apply(&unified("../cgroup.freeze")).unwrap_err());
    assert!(error.contains("no name of a file"), "{error}");
}
