//! A process is moved into a cgroup: its pid is written to `cgroup.procs`, in each hierarchy.

use anyhow::Result;
use log::{debug, info};
use nix::errno::Errno;
use nix::unistd::Pid;

use super::Cgroup;
use crate::file::Directory;

// ANCHOR: enter
impl Cgroup {
    /// Moves a process into it, with all its threads, in every hierarchy. Its children stay where they are;
    /// those that it has later are born here.
    ///
    /// A cgroup of version 2 that hands controllers down takes no process: the rule of no internal processes.
    /// A container with a service manager inside comes to that. Then the process joins the container's first
    /// process, in whichever cgroup below that is.
    ///
    /// # Errors
    ///
    /// Names the directory.
    pub fn enter(&self, pid: Pid) -> Result<()> {
        let (Some(first), count) = (self.directories.first(), self.directories.len()) else { return Ok(()) };
        info!(
            target: "syscall",
            "write({:?}, \"{pid}\")  move it into the cgroup{}",
            first.path.join("cgroup.procs"),
            if count == 1 { "".into() } else { format!(", in each of {count} hierarchies") }
        );
        self.directories.iter().try_for_each(|directory| enter(directory, pid))
    }
}

fn enter(directory: &Directory, pid: Pid) -> Result<()> {
    let value = pid.to_string();
    debug!(target: "syscall", "write({:?}, \"{value}\")", directory.path.join("cgroup.procs"));
    let refused = match directory.try_write("cgroup.procs", &value) {
        Ok(()) => return Ok(()),
        Err(errno) => errno,
    };
    if refused == Errno::EBUSY {
        for leaf in populated_below(directory)? {
            // The processes there may be gone by now, or move on: then the next cgroup is tried.
            if leaf.try_write("cgroup.procs", &value).is_ok() {
                let file = leaf.path.join("cgroup.procs");
                info!(target: "syscall", "write({file:?}, {value:?})  the one above takes none");
                return Ok(());
            }
        }
    }
    Err(directory.refusal(refused, "cgroup.procs", &value))
}
// ANCHOR_END: enter

// ANCHOR: populated
/// The cgroups below that have processes, the one with the lowest pid first: a container's first process.
fn populated_below(directory: &Directory) -> Result<Vec<Directory>> {
    let mut found = Vec::new();
    let mut open = directory.children()?;
    while let Some(directory) = open.pop() {
        open.extend(directory.children()?);
        let pids = directory.try_read("cgroup.procs").unwrap_or_default();
        if let Some(lowest) = pids.lines().filter_map(|line| line.parse::<i32>().ok()).min() {
            found.push((lowest, directory));
        }
    }
    found.sort_by_key(|(lowest, _)| *lowest);
    Ok(found.into_iter().map(|(_, directory)| directory).collect())
}
// ANCHOR_END: populated
