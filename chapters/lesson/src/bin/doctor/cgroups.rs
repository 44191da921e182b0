//! Which version of cgroups is mounted, and whether this user may make one. cgroups(7),
//! systemd.resource-control(5).

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process;

use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{AccessFlags, UnlinkatFlags, access, unlinkat};

use crate::distribution::Remedy;
use crate::examine::{Finding, State};
use crate::machine::Machine;
use lesson::view::own_cgroups;

/// The controllers that chapter 4 limits with. Without `io` (version 1: `blkio`) it goes on without a limit of
/// the disk, so a machine may lack that one; but that it is delegated is worth a command.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
const DELEGATED: [&str; 4] = ["cpu", "memory", "pids", "io"];

pub(crate) fn mode(machine: &Machine) -> Finding {
    let version1 = version1_controllers(machine);
    let version2 = version2_mount(machine);
    let version2_controllers = version2.as_ref().map(|point| words(point.join("cgroup.controllers")));
    let (mode, all) = match (version1.is_empty(), version2_controllers) {
        (true, None) => return Finding::new(State::Missing, "no cgroup file system is mounted"),
        (true, Some(controllers)) => ("v2", controllers),
        (false, None) => ("v1", version1),
        (false, Some(controllers)) => ("hybrid of v1 and v2", [version1, controllers].concat()),
    };
    let detail = format!("{mode}: {}", all.join(" "));
    match lacking(&CONTROLLERS, &all) {
        None => Finding::new(State::Ok, detail),
        Some(name) => Finding::new(State::Restricted, format!("{detail}; the controller {name} is missing"))
            .mended_by(Remedy::Advice(
                "add cgroup_enable=memory to the kernel's command line, or use another kernel",
            )),
    }
}

pub(crate) fn delegation(machine: &Machine) -> Finding {
    // On a hybrid, the controllers are where version 1 is; its hierarchies are then those that count.
    let version1 = version1_controllers(machine);
    let counts = |controllers: &str| match version1.is_empty() {
        true => controllers.is_empty(),
        false => controllers.split(',').any(|name| CONTROLLERS.contains(&name)),
    };
    let own: Vec<(String, OwnedFd)> =
        own_cgroups().into_iter().filter(|(controllers, _)| counts(controllers)).collect();
    let Some((_, first)) = own.first() else {
        return Finding::new(State::Missing, "no mounted cgroup file system shows our own cgroup");
    };
    let own_controllers = || words(format!("/proc/self/fd/{}/cgroup.controllers", first.as_raw_fd()));
    match own.iter().try_for_each(|(_, directory)| make_and_remove(directory)) {
        // Root may begin at the hierarchy's own root, and in version 1 a hierarchy always has its
        // controllers.
        Ok(()) if machine.root || !version1.is_empty() => {
            Finding::new(State::Ok, "made a cgroup below our own")
        }
        Ok(()) => delegated("our own cgroup has", &own_controllers(), ""),
        Err(errno) => delegated_by_systemd(machine).unwrap_or_else(|| {
            let detail = format!("mkdir below our own cgroup: {} ({errno:?})", errno.desc());
            Finding::new(State::Restricted, detail)
        }),
    }
}

/// systemd gives each user who is logged in a cgroup of his own, but a terminal's shell often stands outside
/// of it.
fn delegated_by_systemd(machine: &Machine) -> Option<Finding> {
    let user = machine.user;
    let service = format!("user.slice/user-{user}.slice/user@{user}.service");
    let service = version2_mount(machine)?.join(service);
    access(&service, AccessFlags::W_OK).ok()?;
    let how = ", under `systemd-run --user --scope -p Delegate=yes COMMAND`";
    Some(delegated("systemd delegates", &words(service.join("cgroup.controllers")), how))
}

fn delegated(who: &str, controllers: &[String], how: &str) -> Finding {
    let detail = format!("{who} {}", controllers.join(" "));
    match lacking(&DELEGATED, controllers) {
        None => Finding::new(State::Ok, format!("{detail}{how}")),
        Some(name) => Finding::new(State::Restricted, format!("{detail}, but not {name}")).mended_by(Remedy::Root(
            "sh -c 'mkdir -p /etc/systemd/system/user@.service.d && \
             printf \"[Service]\\nDelegate=cpu cpuset io memory pids\\n\" \
             > /etc/systemd/system/user@.service.d/delegate.conf && systemctl daemon-reload', then log in again",
        )),
    }
}

fn lacking(wanted: &[&'static str], controllers: &[String]) -> Option<&'static str> {
    wanted.iter().copied().find(|name| !controllers.iter().any(|controller| controller == name))
}

fn make_and_remove(directory: &OwnedFd) -> Result<(), Errno> {
    let name = format!("hull-doctor-{}", process::id());
    mkdirat(directory, name.as_str(), Mode::from_bits_truncate(0o755))?;
    unlinkat(directory, name.as_str(), UnlinkatFlags::RemoveDir)
}

fn version2_mount(machine: &Machine) -> Option<PathBuf> {
    let mounts = machine.view.mounts.as_ref().ok()?;
    mounts.iter().find(|mount| mount.kind == "cgroup2").map(|mount| mount.point_path())
}

/// The controllers of mounted version 1 hierarchies.
fn version1_controllers(machine: &Machine) -> Vec<String> {
    let (Ok(mounts), Ok(cgroups)) = (&machine.view.mounts, &machine.view.cgroups) else { return Vec::new() };
    let options: Vec<&str> = mounts
        .iter()
        .filter(|mount| mount.kind == "cgroup")
        .flat_map(|mount| mount.super_options.split(','))
        .collect();
    // Options of the file system stand among the controllers' names; the lines of /proc/self/cgroup have
    // names alone.
    let names = cgroups.iter().filter_map(|line| line.split(':').nth(1)).flat_map(|names| names.split(','));
    names
        .filter(|name| !name.is_empty() && !name.starts_with("name=") && options.contains(name))
        .map(str::to_owned)
        .collect()
}

fn words(file: impl AsRef<Path>) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}
