// ANCHOR: cgroups
//! Chapter 4: the files in which its limits stand.

use std::fs::{self, OpenOptions};
use std::path::Path;

use anyhow::Result;
use nix::mount::{MsFlags, mount};

use super::stage::{Stage, refused, refused_io};
use crate::container::Container;
use crate::inside::Answer;

/// Mounts the file system of cgroups, and opens the list of a cgroup's processes to write: who may do that
/// may write a limit. It writes nothing.
pub fn raise_limit(stage: &Stage, container: &Container) -> Result<Answer> {
    let (kind, options) = hierarchy();
    stage.ask(container, &[], || mount_and_open(kind, options.as_deref(), "cgroup.procs"))
}

/// CVE-2022-0492: the kernel runs this program, as the host's root, when a cgroup of version 1 becomes empty.
/// Opened, and not written. Where the machine mounts no version 1, a hierarchy without controllers does as
/// well.
pub fn release_agent(stage: &Stage, container: &Container) -> Result<Answer> {
    let options = match hierarchy() {
        ("cgroup", Some(controllers)) => controllers,
        _ => "none,name=hull-lesson".into(),
    };
    stage.ask(container, &[], || mount_and_open("cgroup", Some(&options), "release_agent"))
}

fn mount_and_open(kind: &str, options: Option<&str>, file: &str) -> Answer {
    let place = Path::new("/mnt");
    mount(Some("cgroup"), place, Some(kind), MsFlags::empty(), options)
        .map_err(|errno| refused("mount(cgroup)", errno))?;
    match OpenOptions::new().write(true).open(place.join(file)) {
        Ok(_) => Ok(format!("{file} is open to write")),
        Err(error) => Err(refused_io("open", &error)),
    }
}

/// The kind of file system that has the machine's cgroups, and which of them: a hierarchy of version 1 that
/// has a controller, else version 2.
fn hierarchy() -> (&'static str, Option<String>) {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let controllers = text.lines().filter_map(|line| line.split(':').nth(1));
    let v1 = controllers.filter(|name| !name.is_empty() && !name.starts_with("name=")).min();
    match v1 {
        Some(controllers) => ("cgroup", Some(controllers.into())),
        None => ("cgroup2", None),
    }
}
// ANCHOR_END: cgroups
