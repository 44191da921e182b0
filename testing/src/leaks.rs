//! What there is in a sandbox at one moment, read from outside, so that two moments can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::cgroups::Cgroups;
use crate::network::Network;
use crate::{Need, Program, state_directory};

/// Switches of the network namespace that decide whether packets pass through.
const SYSCTLS: [&str; 4] = [
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/conf/lo/route_localnet",
    "net/ipv6/conf/all/forwarding",
];

/// The kernel objects that a sandbox counts: what identifies each, and a line that describes it.
#[derive(Debug)]
pub(crate) struct State {
    objects: BTreeMap<String, String>,
}

impl State {
    /// Reads the state of the sandbox whose PID 1 is `holder`.
    pub(crate) fn read(holder: u32, network: &Network, cgroups: &Cgroups) -> State {
        let mut objects = BTreeMap::new();
        objects.extend(mounts(holder));
        objects.extend(links(holder));
        objects.extend(processes(holder));
        objects.extend(addresses(holder));
        objects.extend(routes(holder));
        objects.extend(network.run(sysctls));
        objects.extend(ruleset(network));
        objects.extend(cgroups.descendants());
        objects.extend(state_files(holder));
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

/// The IPv4 addresses: `/proc/PID/net/fib_trie` is a tree whose leaves, `|-- 192.0.2.1`, are addresses, and
/// the networks that are routed.
fn addresses(holder: u32) -> Vec<(String, String)> {
    let tree = read(&format!("/proc/{holder}/net/fib_trie"));
    let leaves = tree.lines().filter_map(|line| line.trim().strip_prefix("|-- "));
    leaves.map(|leaf| (format!("address {leaf}"), "in net/fib_trie".to_string())).collect()
}

/// The IPv4 routes of the main table, `/proc/PID/net/route`: the device, then numbers in hexadecimal, as the
/// machine stores them: destination, gateway, flags, two counters, metric, mask.
fn routes(holder: u32) -> Vec<(String, String)> {
    let table = read(&format!("/proc/{holder}/net/route"));
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| row.len() > 7);
    rows.map(|row| (format!("route {}/{} by {} dev {}", row[1], row[7], row[2], row[0]), row.join(" ")))
        .collect()
}

/// Each with its value, so that another value is another object. Runs in the network namespace.
fn sysctls() -> Vec<(String, String)> {
    // A kernel without IPv6 has not got its switch.
    let value = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).ok();
    let values = SYSCTLS.iter().filter_map(|name| Some((name, value(name)?)));
    let object = |(name, value): (&&str, String)| {
        (format!("sysctl {name} = {}", value.trim()), "at the start it had another value".to_string())
    };
    values.map(object).collect()
}

/// The nftables rules of all tables, without their counters, as one object: a rule of another's that is gone
/// is as bad as one of ours that is left. Where the kernel has no nftables, it is what `nft` says to that.
fn ruleset(network: &Network) -> Option<(String, String)> {
    Need::Tool("nft").met().ok()?;
    let listing = Program::new("nft").args(["--stateless", "list", "ruleset"]).in_network(network).run();
    let text = format!("nftables ruleset\n{}{}", listing.stdout, listing.stderr);
    Some((text, "at the start it was another".to_string()))
}

/// What is in the sandbox's own `/run/hull`.
fn state_files(holder: u32) -> Vec<(String, String)> {
    let root = format!("/proc/{holder}/root");
    let files = state_directory::files(Path::new(&format!("{root}{}", state_directory::PATH)));
    let names = files.iter().map(|file| format!("file {}", file.display()).replace(&root, ""));
    names.map(|name| (name, "is no lock".to_string())).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("read {path}: {error}"))
}
