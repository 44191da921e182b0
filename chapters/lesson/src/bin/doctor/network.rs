//! Links, firewall, forwarding, and the network of those who are not root. veth(4), nft(8), pasta(1), ip_forward in
//! ip(7).

use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::{AccessFlags, access};

use crate::distribution::Remedy;
use crate::examine::{Finding, State};
use crate::machine::Machine;
use crate::machine::{find, refusal, sysctl};
use lesson::probe::{Refusal, in_child};

/// A lesson that runs as root switches it on for as long as it needs it, so it only has to be writable.
pub(crate) fn ip_forward(machine: &Machine) -> Finding {
    let file = "/proc/sys/net/ipv4/ip_forward";
    match sysctl("net.ipv4.ip_forward").as_deref() {
        Some("1") => Finding::new(State::Ok, "on"),
        Some(_) if !machine.root => {
            Finding::new(State::Ok, "off; not used: without root, pasta does its work")
        }
        Some(value) => match access(file, AccessFlags::W_OK) {
            Ok(()) => Finding::new(State::Ok, "off; a lesson that needs it switches it on and off again"),
            Err(errno) => Finding::new(
                State::Restricted,
                format!(
                    "net.ipv4.ip_forward is {value}, and {file} is not to be written: {} ({errno:?})",
                    errno.desc()
                ),
            ),
        },
        None => Finding::new(State::Unknown, format!("{file} is not readable")),
    }
}

/// Makes each kind of link, and a limit on one, in a network namespace made for it: a kernel may come without
/// the modules. `ip` and `tc` are not used by any lesson, but are the short way to ask.
pub(crate) fn links(machine: &Machine) -> Finding {
    let (Some(ip), Some(tc)) = (find("ip"), find("tc")) else {
        return Finding::new(State::Unknown, "not tried: it takes ip and tc, of iproute2");
    };
    if !machine.can_isolate() {
        return Finding::new(State::Unknown, "not tried: it takes a user namespace");
    }
    let commands = [
        (&ip, "link add doctor type veth peer name other"),
        (&ip, "link add bridge type bridge"),
        (&tc, "qdisc add dev doctor root tbf rate 1mbit burst 10kb latency 50ms"),
    ];
    let answer = in_child(|| {
        machine.isolate(CloneFlags::CLONE_NEWNET)?;
        commands.iter().try_for_each(|(path, arguments)| run(path, arguments))?;
        Ok(String::new())
    });
    match answer {
        Ok(_) => Finding::new(State::Ok, "made a veth pair and a bridge, and limited a rate"),
        Err(refusal) => Finding::new(State::Restricted, refusal.operation),
    }
}

/// Runs a program in a child that has been isolated; its first line of complaint is the refusal.
fn run(path: &Path, arguments: &str) -> Result<(), Refusal> {
    let output = Command::new(path).args(arguments.split(' ')).output();
    let output = output.map_err(|error| refusal(format!("run {}", path.display()), &error))?;
    if output.status.success() {
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let said = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
    Err(Refusal::new(format!("{name} {arguments}: {said}"), Errno::EOPNOTSUPP))
}

/// Adds a table to a network namespace made for it: the program may be there and the kernel's part not.
pub(crate) fn nft(machine: &Machine) -> Finding {
    let Some(path) = find("nft") else {
        return Finding::new(State::Missing, "not found in PATH");
    };
    if !machine.can_isolate() {
        return Finding::new(
            State::Unknown,
            format!("{}; not tried: it takes a user namespace", path.display()),
        );
    }
    let answer = in_child(|| {
        machine.isolate(CloneFlags::CLONE_NEWNET)?;
        run(&path, "add table inet doctor")?;
        Ok(String::new())
    });
    match answer {
        Ok(_) => Finding::new(State::Ok, format!("{} added a table", path.display())),
        Err(refusal) => {
            Finding::new(State::Restricted, refusal.operation).mended_by(Remedy::Root("modprobe nf_tables"))
        }
    }
}

pub(crate) fn pasta(machine: &Machine) -> Finding {
    if machine.root {
        return Finding::new(State::Ok, "not used: root makes links by itself");
    }
    match find("pasta") {
        Some(path) => Finding::new(State::Ok, path.display().to_string()),
        None => Finding::new(State::Missing, "not found in PATH: without root, a container has no way out"),
    }
}
