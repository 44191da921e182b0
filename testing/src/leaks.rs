//! What there is in a sandbox at one moment, read from outside, so that two moments can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The kernel objects that a sandbox counts: what identifies each, and a line that describes it.
#[derive(Debug)]
pub(crate) struct State {
    objects: BTreeMap<String, String>,
}

impl State {
    /// Reads the state of the sandbox whose PID 1 is `holder`.
    pub(crate) fn read(holder: u32) -> State {
        let mut objects = BTreeMap::new();
        objects.extend(mounts(holder));
        objects.extend(links(holder));
        objects.extend(processes(holder));
        objects.extend(empty_cgroups(Path::new("/sys/fs/cgroup")));
        State { objects }
    }

    /// What is here and was not there in `before`.
    pub(crate) fn more_than(&self, before: &State) -> Vec<String> {
        let is_new = |identity: &String| !before.objects.contains_key(identity);
        let new = self.objects.iter().filter(|(identity, _)| is_new(identity));
        new.map(|(identity, description)| format!("{identity}: {description}")).collect()
    }
}

/// The mount table, proc_pid_mountinfo(5). Two mounts never have the same id while they exist, so a second
/// mount on the same place counts. A namespace that is kept by a bind mount is found here too: its type is
/// nsfs.
fn mounts(holder: u32) -> Vec<(String, String)> {
    let table = read(&format!("/proc/{holder}/mountinfo"));
    let lines = table.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(id, rest)| (format!("mount {id}"), rest.to_string())).collect()
}

/// The network links, with their counters. The table has two lines of heading; a name ends at the colon.
fn links(holder: u32) -> Vec<(String, String)> {
    let table = read(&format!("/proc/{holder}/net/dev"));
    let lines = table.lines().skip(2).filter_map(|line| line.split_once(':'));
    lines.map(|(name, counters)| (format!("link {}", name.trim()), counters.to_string())).collect()
}

/// All processes of the PID namespace and of those below it, zombies too, but PID 1. Each with the namespaces
/// that it does not share with PID 1: the kernel keeps a namespace while a process is in it, so these are
/// left behind as well.
fn processes(holder: u32) -> Vec<(String, String)> {
    // The sandbox's own /proc, which shows the PID namespace for which it was mounted, whoever reads it.
    let proc = format!("/proc/{holder}/root/proc");
    let entries = fs::read_dir(&proc).unwrap_or_else(|error| panic!("read {proc}: {error}"));
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != 1)
        .filter_map(|pid| {
            // A process that ends between the listing and this line is no leak.
            let stat = fs::read_to_string(format!("{proc}/{pid}/stat")).ok()?;
            let name_and_state = stat.get(stat.find('(')?..stat.rfind(')')? + 3)?;
            let namespaces_of_its_own = &namespaces(&proc, pid) - &namespaces(&proc, 1);
            Some((format!("process {pid}"), format!("{name_and_state} {namespaces_of_its_own:?}")))
        })
        .collect()
}

/// `/proc/PID/ns/*` as the kernel writes them: `mnt:[4026531841]`.
fn namespaces(proc: &str, pid: u32) -> BTreeSet<String> {
    // A zombie has no namespaces any more.
    let Ok(entries) = fs::read_dir(format!("{proc}/{pid}/ns")) else { return BTreeSet::new() };
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.map(|link| link.display().to_string()).collect()
}

/// Cgroups with `hull` in their name and no process in them. All tests share the cgroup tree, so those that
/// still have processes may belong to another test that runs at this moment.
fn empty_cgroups(directory: &Path) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        found.extend(empty_cgroups(&path));
        let members = fs::read_to_string(path.join("cgroup.procs"));
        let is_empty = members.is_ok_and(|members| members.is_empty());
        if is_empty && entry.file_name().to_string_lossy().contains("hull") {
            found.push((format!("cgroup {}", path.display()), "no process is in it".to_string()));
        }
    }
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("read {path}: {error}"))
}
