//! Firewall, forwarding, and the network of those who are not root. nft(8), pasta(1), ip_forward in ip(7).

use std::process::Command;

use nix::errno::Errno;
use nix::sched::CloneFlags;

use crate::distribution::Remedy;
use crate::examine::{Finding, State};
use crate::machine::Machine;
use crate::machine::{find, refusal, sysctl};
use lesson::probe::{Refusal, in_child};

pub(crate) fn ip_forward(_: &Machine) -> Finding {
    match sysctl("net.ipv4.ip_forward").as_deref() {
        Some("1") => Finding::new(State::Ok, "on"),
        Some(value) => Finding::new(
            State::Restricted,
            format!("net.ipv4.ip_forward is {value}: no packet leaves a bridge"),
        ),
        None => Finding::new(State::Unknown, "/proc/sys/net/ipv4/ip_forward is not readable"),
    }
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
        let output = Command::new(&path).args(["add", "table", "inet", "doctor"]).output();
        let output = output.map_err(|error| refusal(format!("run {}", path.display()), &error))?;
        if output.status.success() {
            return Ok(String::new());
        }
        let said = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
        Err(Refusal::new(format!("nft add table: {said}"), Errno::EOPNOTSUPP))
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
