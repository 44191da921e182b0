//! What this machine lacks for the lessons: a line for each thing that some lesson needs.
//!
//! Whether a thing works is tried, not guessed: user namespaces alone can be forbidden by five mechanisms,
//! and each leaves a different trace. A check that would change the process runs in a forked child, in
//! namespaces of its own.

use std::fmt;

use anyhow::Result;

use crate::distribution::Remedy;
use crate::machine::Machine;
use crate::{cgroups, files, joining, kernel, namespaces, network, powers};

/// How it stands with a need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It works here.
    Ok,
    /// It is not here.
    Missing,
    /// It is here, but something forbids it, or it is too small or switched off.
    Restricted,
    /// It could not be tried; the detail says why.
    Unknown,
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            State::Ok => "ok",
            State::Missing => "missing",
            State::Restricted => "restricted",
            State::Unknown => "unknown",
        })
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it stands.
    pub state: State,
    /// What was seen, or what was tried and the errno.
    pub detail: String,
    /// What mends it where the cause is known better than [`Need::remedy`] knows it.
    pub remedy: Option<Remedy>,
}

impl Finding {
    pub fn new(state: State, detail: impl Into<String>) -> Self {
        Finding { state, detail: detail.into(), remedy: None }
    }

    pub fn mended_by(self, remedy: Remedy) -> Self {
        Finding { remedy: Some(remedy), ..self }
    }
}

/// One thing that some lesson needs.
pub struct Need {
    /// Its name, a word or three.
    pub name: &'static str,
    /// The first chapter that uses it, or `all`.
    pub chapter: &'static str,
    /// Whether a lesson cannot run without it. Without the others a lesson does less, and says so.
    pub needed: bool,
    check: fn(&Machine) -> Finding,
    /// What mends it.
    pub remedy: Remedy,
}

/// All needs, those of every lesson first.
#[rustfmt::skip]
pub static NEEDS: [Need; 22] = [
    Need { name: "kernel",              chapter: "all",  needed: true,  check: kernel::version,
        remedy: Remedy::Advice("install a newer kernel") },
    Need { name: "user namespaces",     chapter: "all",  needed: true,  check: namespaces::user_namespaces,
        remedy: Remedy::Advice("run it outside of this container, or as root") },
    Need { name: "newuidmap",           chapter: "all",  needed: false, check: namespaces::newuidmap,
        remedy: Remedy::Package { debian: "uidmap", fedora: "shadow-utils", arch: "shadow", alpine: "shadow-uidmap" } },
    Need { name: "static busybox",      chapter: "all",  needed: false, check: files::busybox,
        remedy: Remedy::Package { debian: "busybox-static", fedora: "busybox", arch: "busybox", alpine: "busybox-static" } },
    Need { name: "room on disk",        chapter: "all",  needed: true,  check: files::room,
        remedy: Remedy::Advice("free some, or set CARGO_TARGET_DIR to a directory on a larger disk") },
    Need { name: "clone3",              chapter: "ch01", needed: true,  check: kernel::clone3,
        remedy: Remedy::Advice("run it outside of this container, or start that with --security-opt seccomp=unconfined") },
    Need { name: "a new /proc",         chapter: "ch02", needed: false, check: namespaces::new_proc,
        remedy: Remedy::Advice("run it outside of this container, or start that with --security-opt systempaths=unconfined") },
    Need { name: "veth, bridge, tbf",   chapter: "ch03", needed: false, check: network::links,
        remedy: Remedy::Root("modprobe -a veth bridge sch_tbf") },
    Need { name: "ip_forward",          chapter: "ch03", needed: false, check: network::ip_forward,
        remedy: Remedy::Root("sysctl -w net.ipv4.ip_forward=1") },
    Need { name: "nft",                 chapter: "ch03", needed: false, check: network::nft,
        remedy: Remedy::Package { debian: "nftables", fedora: "nftables", arch: "nftables", alpine: "nftables" } },
    Need { name: "pasta",               chapter: "ch03", needed: false, check: network::pasta,
        remedy: Remedy::Package { debian: "passt", fedora: "passt", arch: "passt", alpine: "passt" } },
    Need { name: "cgroups",             chapter: "ch04", needed: true,  check: cgroups::mode,
        remedy: Remedy::Root("mount -t cgroup2 cgroup2 /sys/fs/cgroup") },
    Need { name: "cgroup delegation",   chapter: "ch04", needed: false, check: cgroups::delegation,
        remedy: Remedy::Advice("run the lesson with sudo") },
    Need { name: "overlayfs",           chapter: "ch05", needed: true,  check: files::overlayfs,
        remedy: Remedy::Root("modprobe overlay") },
    Need { name: "overlayfs in a user namespace", chapter: "ch05", needed: false, check: files::overlayfs_in_a_user_namespace,
        remedy: Remedy::Advice("a kernel of 5.11 or later; or run the lesson with sudo") },
    Need { name: "/dev/fuse",           chapter: "ch05", needed: true,  check: files::fuse,
        remedy: Remedy::Root("modprobe fuse") },
    Need { name: "fusermount3",         chapter: "ch05", needed: false, check: files::fusermount,
        remedy: Remedy::Package { debian: "fuse3", fedora: "fuse3", arch: "fuse3", alpine: "fuse3" } },
    Need { name: "setns of a pidfd",    chapter: "ch06", needed: false, check: joining::setns_of_a_pidfd,
        remedy: Remedy::Advice("a kernel of 5.8 or later") },
    Need { name: "own program protected", chapter: "ch06", needed: true, check: joining::own_program,
        remedy: Remedy::Advice("run the lesson with sudo") },
    Need { name: "seccomp filters",     chapter: "ch07", needed: true,  check: powers::seccomp,
        remedy: Remedy::Advice("install a kernel that has them, or run it outside of this container") },
    Need { name: "capabilities dropped", chapter: "ch07", needed: true, check: powers::bounding_set,
        remedy: Remedy::Advice("run it outside of this container") },
    Need { name: "time namespaces",     chapter: "ch07", needed: false, check: powers::time_namespaces,
        remedy: Remedy::Advice("a kernel of 5.6 or later with CONFIG_TIME_NS") },
];

/// The report: its text, and whether all lessons can run.
pub struct Report {
    /// One line for each need, then one that sums up.
    pub text: String,
    /// No need without which a lesson cannot run is missing or restricted.
    pub all_lessons_run: bool,
}

/// Checks everything in [`NEEDS`]. Fails only where not even `/proc` can be read.
pub fn examine(colour: bool) -> Result<Report> {
    let machine = Machine::here()?;
    let mut text = line(["STATE", "CHAPTER", "NEED", "DETAIL"], "");
    let mut lacking = Vec::new();
    for need in &NEEDS {
        let finding = (need.check)(&machine);
        let broken = matches!(finding.state, State::Missing | State::Restricted);
        if broken && need.needed {
            lacking.push(format!("{} ({})", need.name, need.chapter));
        }
        let remedy = finding.remedy.unwrap_or(need.remedy).command(machine.distribution, machine.root);
        let detail = match finding.state {
            State::Ok | State::Unknown => finding.detail,
            _ => format!("{}; to mend it: {remedy}", finding.detail),
        };
        // The colour's bytes are put around the padded word: inside of it they would count as width.
        let state = finding.state.to_string();
        text += &line(
            [&state, need.chapter, need.name, &detail],
            if colour { paint(finding.state, need.needed) } else { "" },
        );
    }
    text += &match lacking.as_slice() {
        [] => "\nAll lessons can run as this user.\n".to_owned(),
        names => {
            format!("\nSome lessons cannot run as this user, for want of: {}.\n", names.join(", "))
        }
    };
    Ok(Report { text, all_lessons_run: lacking.is_empty() })
}

fn line([state, chapter, need, detail]: [&str; 4], colour: &str) -> String {
    let end = if colour.is_empty() { "" } else { "\x1b[0m" };
    format!("{colour}{state:<11}{end}{chapter:<9}{need:<30} {detail}\n")
}

/// Green, yellow where a lesson does less, red where one cannot run.
fn paint(state: State, needed: bool) -> &'static str {
    match state {
        State::Ok => "\x1b[32m",
        State::Missing | State::Restricted if needed => "\x1b[31m",
        _ => "\x1b[33m",
    }
}
