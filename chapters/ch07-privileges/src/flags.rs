// ANCHOR: flags
//! The container on the command line.

use std::path::PathBuf;

use anyhow::{Context, Result};
use ch02_mount::Root;
use ch07_privileges::capabilities::{Capability, CapabilitySet};
use ch07_privileges::rlimits::Limit;
use ch07_privileges::seccomp::Template;
use ch07_privileges::time::{Offset, Offsets};
use ch07_privileges::user::look_up;
use lesson::privileges::Powers;
use nix::sched::CloneFlags;
use nix::time::{ClockId, clock_gettime};
use userns::IdMap;
use userns::map::{self, Ids};

use crate::container::{Container, Files};

/// How the container differs from the one that there is by default
#[derive(clap::Args, Clone, Debug)]
pub struct ContainerFlags {
    /// The container's name
    #[arg(long, default_value = "container")]
    hostname: String,
    /// Whom the command runs as: names of the container's /etc/passwd and /etc/group, or numbers
    #[arg(long, value_name = "USER[:GROUP]", default_value = "0")]
    user: String,
    /// One more capability, such as NET_ADMIN, or ALL
    #[arg(long, value_name = "NAME")]
    cap_add: Vec<String>,
    /// One less, or ALL; what --cap-add names stays
    #[arg(long, value_name = "NAME")]
    cap_drop: Vec<String>,
    /// The policy of the seccomp filter; `unconfined` for none
    #[arg(long, value_name = "FILE")]
    seccomp: Option<PathBuf>,
    /// Set-user-id programs work: without it, exec gives no new privileges
    #[arg(long)]
    new_privileges: bool,
    /// A limit of each process, such as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<Limit>,
    /// All capabilities and no seccomp filter; still in a user namespace
    #[arg(long, conflicts_with_all = ["cap_drop", "seccomp"])]
    privileged: bool,
}
// ANCHOR_END: flags

// ANCHOR: defaults
/// All namespaces that clone(2) makes.
const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWUSER
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWCGROUP);

impl ContainerFlags {
    /// The container that the flags ask for.
    pub fn container(&self, root: PathBuf, powers: Powers) -> Result<Container> {
        let capabilities = self.capabilities()?;
        let policy = match &self.seccomp {
            None if self.privileged => None,
            Some(file) if file.as_os_str() == "unconfined" => None,
            None => Some(Template::default_policy().policy(capabilities)),
            Some(file) => Some(self.policy(file, capabilities)?),
        };
        Ok(Container {
            files: Files::Layer,
            namespaces: NAMESPACES,
            maps: Some(maps(powers)?),
            hostname: self.hostname.clone(),
            clocks: Some(started_now()?),
            limits: self.ulimit.clone(),
            user: look_up(&Root::open(&root)?, &self.user)?.user,
            capabilities,
            no_new_privs: !self.new_privileges,
            policy,
            careless: false,
            root,
        })
    }
}
// ANCHOR_END: defaults

// ANCHOR: maps
/// The first of 65536 ids that nobody has: they are above those that systemd gives to containers, and below
/// those that it keeps for others (systemd's "Users, Groups, UIDs and GIDs", its table of reserved ranges).
const NOBODY_HAS: u32 = 0x7000_0000;
const COUNT: u32 = 65536;

/// Who is who. Started by root, root inside is a number that no user of the host has. A plain user has a
/// range of numbers at best, of which the lesson's own user namespace is made; root inside is this user then.
fn maps(powers: Powers) -> Result<Vec<IdMap>> {
    let own = map::own(Ids::Users)?;
    let exists = |id| map::to_outside(&own, id).is_some();
    if powers == Powers::Host && exists(NOBODY_HAS) && exists(NOBODY_HAS + COUNT - 1) {
        return Ok(vec![IdMap { inside: 0, outside: NOBODY_HAS, count: COUNT }]);
    }
    Ok(own.into_iter().map(|map| IdMap { outside: map.inside, ..map }).collect())
}
// ANCHOR_END: maps

// ANCHOR: clocks
/// The clocks of a machine that has been started just now: what they show is taken off.
fn started_now() -> Result<Offsets> {
    let off = |clock| -> Result<Option<Offset>> {
        let now = clock_gettime(clock).with_context(|| format!("clock_gettime({clock})"))?;
        Ok(Some(Offset { seconds: -now.tv_sec(), nanoseconds: 0 }))
    };
    Ok(Offsets { monotonic: off(ClockId::CLOCK_MONOTONIC)?, boottime: off(ClockId::CLOCK_BOOTTIME)? })
}
// ANCHOR_END: clocks

// ANCHOR: capabilities
impl ContainerFlags {
    /// As `docker run` reads them: what is dropped goes first, then the others are added.
    fn capabilities(&self) -> Result<CapabilitySet> {
        let is_all = |name: &String| name.eq_ignore_ascii_case("all");
        if self.privileged {
            return CapabilitySet::all();
        }
        let mut set =
            if self.cap_add.iter().any(is_all) { CapabilitySet::all()? } else { CapabilitySet::DEFAULT };
        if self.cap_drop.iter().any(is_all) {
            set = CapabilitySet::EMPTY;
        }
        for name in self.cap_drop.iter().filter(|name| !is_all(name)) {
            set = set.without(Capability::from_flag(name)?);
        }
        for name in self.cap_add.iter().filter(|name| !is_all(name)) {
            set = set.with(Capability::from_flag(name)?);
        }
        Ok(set)
    }

    fn policy(
        &self,
        file: &PathBuf,
        capabilities: CapabilitySet,
    ) -> Result<ch07_privileges::seccomp::Policy> {
        let text = std::fs::read_to_string(file).with_context(|| format!("read the policy {file:?}"))?;
        let template: Template = text.parse().with_context(|| format!("the policy {file:?}"))?;
        Ok(template.policy(capabilities))
    }
}
// ANCHOR_END: capabilities
