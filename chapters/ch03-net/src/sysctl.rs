//! A few numbers of the network namespace: which packets the kernel forwards and accepts.
//!
//! A *sysctl* is a file below /proc/sys; those below /proc/sys/net belong to the network namespace of the thread that
//! opens them. Described in the kernel's
//! [ip-sysctl](https://docs.kernel.org/networking/ip-sysctl.html), and sysctl(8).
//!
//! `ip_forward` is the namespace's. It is put back when our last bridge goes, so a program that was started meanwhile,
//! found it on, and relies on it, must then turn it on itself. The others belong to our bridge and
//! its ports, and go with them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use log::info;

const SYSCTLS: &str = "/proc/sys/net";
const IP_FORWARD: &str = "ipv4/ip_forward";
/// The first line of a record that is being put back.
const BEGUN: &str = "restoring";

// ANCHOR: forwarding_on
/// Turns `net.ipv4.ip_forward` on. What was before is written to the file `record` first, unless one is there already.
/// Nothing happens where it is on.
///
/// # Errors
///
/// Names the file: EROFS in a container whose /proc/sys is read-only.
pub fn forwarding_on(record: &Path) -> Result<()> {
    if read(IP_FORWARD)? != "0" {
        return Ok(());
    }
    write_record(record)?;
    info!(target: "syscall", "write({SYSCTLS}/{IP_FORWARD}, \"1\")  the host forwards packets between its links");
    write(IP_FORWARD, "1")
}

/// The devices from which nothing was forwarded before [`forwarding_on`], which need not have been called yet. None
/// where it has nothing to do.
///
/// # Errors
///
/// Names the file.
pub fn closed(record: &Path) -> Result<Vec<String>> {
    if read(IP_FORWARD)? == "0" {
        write_record(record)?;
    }
    let lines = match fs::read_to_string(record) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        lines => lines.with_context(|| format!("read {record:?}"))?,
    };
    let device =
        |line: &str| line.strip_prefix("ipv4/conf/")?.strip_suffix("/forwarding 0").map(String::from);
    Ok(lines.lines().filter_map(device).filter(|device| device != "default").collect())
}

/// Writes down what a write to `ip_forward` changes, unless it is: itself, and, since it means "for all devices",
/// each device's own `forwarding` and whether ICMP redirects are accepted.
fn write_record(record: &Path) -> Result<()> {
    if fs::exists(record).with_context(|| format!("stat {record:?}"))? {
        return Ok(());
    }
    let mut changed = vec![IP_FORWARD.to_string(), "ipv4/conf/all/accept_redirects".to_string()];
    let directory = format!("{SYSCTLS}/ipv4/conf");
    for entry in fs::read_dir(&directory).with_context(|| format!("read the directory {directory:?}"))? {
        let device = entry.with_context(|| format!("read the directory {directory:?}"))?.file_name();
        if device != "all" {
            changed.push(format!("ipv4/conf/{}/forwarding", device.to_string_lossy()));
        }
    }
    let mut lines = String::new();
    for name in changed {
        // A device may go while we read.
        if let Some(value) = read_if_there(&name)? {
            lines += &format!("{name} {value}\n");
        }
    }
    replace(record, &lines)
}

/// In one instant, or a crash could leave half of it.
fn replace(record: &Path, text: &str) -> Result<()> {
    let draft = record.with_extension("draft");
    fs::write(&draft, text).with_context(|| format!("write {draft:?}"))?;
    fs::rename(&draft, record).with_context(|| format!("rename {draft:?} to {record:?}"))
}
// ANCHOR_END: forwarding_on

// ANCHOR: restore
/// Puts back what `record` says, and removes it. Nothing happens where it is missing, and nothing is put back where
/// somebody has turned forwarding off meanwhile.
///
/// # Errors
///
/// Names the file. The record stays then.
pub fn restore(record: &Path) -> Result<()> {
    let lines = match fs::read_to_string(record) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        lines => lines.with_context(|| format!("read {record:?}"))?,
    };
    // Were we killed between the first number and the last, the next one must not take forwarding, which is off by
    // then, to have been turned off by somebody.
    let is_begun = lines.starts_with(BEGUN);
    if is_begun || read(IP_FORWARD)? != "0" {
        if !is_begun {
            replace(record, &format!("{BEGUN}\n{lines}"))?;
        }
        info!(target: "syscall", "write({SYSCTLS}/{IP_FORWARD}, \"0\")  the host forwards no more than before");
        for line in lines.lines().filter(|line| *line != BEGUN) {
            let (name, value) =
                line.split_once(' ').with_context(|| format!("{record:?}: the line {line:?}"))?;
            // A device may be gone. A write, even of the same value, counts as "set by the user": only what differs.
            if read_if_there(name)?.is_some_and(|now| now != value) {
                write(name, value)?;
            }
        }
    }
    fs::remove_file(record).with_context(|| format!("unlink {record:?}"))
}
// ANCHOR_END: restore

// ANCHOR: write_bridge
/// Sets up a bridge of ours that was just made.
///
/// - `route_localnet`: packets from 127.0.0.1 may leave by it. A published port is spoken to under 127.0.0.1 on the host
///   itself, and only then are the addresses replaced. It also lets packets to 127.0.0.1 come *in*, which the firewall
///   drops (CVE-2020-8558).
/// - `disable_ipv6`: a router advertisement from a container must not give the host an address or a route
///   (CVE-2020-13401). A kernel without IPv6 has no such file.
///
/// # Errors
///
/// Names the file: ENOENT where there is no such bridge.
pub fn write_bridge(bridge: &str) -> Result<()> {
    let local = format!("ipv4/conf/{bridge}/route_localnet");
    info!(target: "syscall", "write({SYSCTLS}/{local}, \"1\")  127.0.0.1 may speak to published ports");
    write(&local, "1")?;
    disable_ipv6(bridge)
}

fn disable_ipv6(link: &str) -> Result<()> {
    let ipv6 = format!("ipv6/conf/{link}/disable_ipv6");
    if read_if_there(&ipv6)?.is_some() {
        info!(target: "syscall", "write({SYSCTLS}/{ipv6}, \"1\")  no router advertisement reaches the host");
        write(&ipv6, "1")?;
    }
    Ok(())
}
// ANCHOR_END: write_bridge

// ANCHOR: write_port
/// Sets up the host's end of a cable. It has no address: what comes out of it goes to the bridge. But a bridge hands
/// frames to most addresses from 01:80:c2:00:00:00 on, which are meant for the switch itself, to the port's own
/// interface, whatever is in them. Root inside can send there, past all rules for the bridge.
///
/// - `disable_ipv6`: as for the bridge.
/// - `drop_unicast_in_l2_multicast`: IPv4 packets for the host, under any source address, are not taken from there.
///
/// # Errors
///
/// Names the file: ENOENT where there is no such link.
pub fn write_port(link: &str) -> Result<()> {
    let unicast = format!("ipv4/conf/{link}/drop_unicast_in_l2_multicast");
    info!(target: "syscall", "write({SYSCTLS}/{unicast}, \"1\")  no packet gets past the bridge");
    write(&unicast, "1")?;
    disable_ipv6(link)
}
// ANCHOR_END: write_port

fn path(name: &str) -> PathBuf {
    Path::new(SYSCTLS).join(name)
}

fn read(name: &str) -> Result<String> {
    let path = path(name);
    Ok(fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?.trim_end().to_string())
}

fn read_if_there(name: &str) -> Result<Option<String>> {
    match read(name) {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.downcast_ref::<std::io::Error>() {
            Some(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            _ => Err(error),
        },
    }
}

fn write(name: &str, value: &str) -> Result<()> {
    let path = path(name);
    fs::write(&path, value).with_context(|| format!("write {value:?} to {path:?}"))
}
