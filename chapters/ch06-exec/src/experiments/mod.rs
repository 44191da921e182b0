// ANCHOR: imports
//! The experiments of chapter 6: what a process has that joins all of a container, or a part, and how it ends.

mod alone;
mod death;

use std::convert::Infallible;

use anyhow::Result;
use ch00_chroot::exec;
use ch00_chroot::exec::clean_environment;
use ch01_pid::attend::Console;
use ch01_pid::spawn::exit_now;
use ch01_pid::{Signals, attend};
use ch06_exec::{Exec, Kind, Target};
use lesson::Lesson;
use log::info;

use crate::container::Container;
use crate::joined;
// ANCHOR_END: imports

// ANCHOR: all
/// What all experiments use.
pub struct Stage<'a> {
    lesson: &'a Lesson,
    container: &'a mut Container,
    target: &'a Target,
    /// Ctrl-C and the like, which must not end the lesson before it has cleaned up.
    signals: &'a Signals,
}

/// All of them, in the order in which the book tells them.
pub fn all(lesson: &Lesson, container: &mut Container, signals: &Signals) -> Result<u8> {
    lesson.show_beside(container.pid().as_raw(), &["namespaces"])?;
    let target = &Target::open(container.pid())?;
    let mut stage = Stage { lesson, container, target, signals };
    let status = all_of_it(&mut stage)?;
    if status != 0 {
        return Ok(status);
    }
    info!(target: "say", "Join its net namespace alone: the container's links, and the host's files.");
    a_part(&mut stage, Kind::Network, &["hostname", "root", "links"])?;
    info!(target: "say", "Join its mnt namespace alone: the container's files, and the host's links.");
    a_part(&mut stage, Kind::Mount, &["sees pids", "hostname", "root", "links"])?;
    alone::without_the_fork(&mut stage)?;
    death::of_the_container(&mut stage)?;
    Ok(0)
}
// ANCHOR_END: all

// ANCHOR: stage
impl Stage<'_> {
    /// A process that joins `kinds` of the container, or all; there it runs `work`.
    fn join(
        &mut self,
        kinds: Option<&[Kind]>,
        work: impl FnOnce() -> Result<Infallible>,
    ) -> Result<ch01_pid::Child> {
        let join = Exec::new(self.target).keep(self.lesson.descriptors()).dies_with_parent();
        let join = match kinds {
            Some(kinds) => join.only(kinds),
            None => join,
        };
        let held = join.start(|_| {
            joined::tell_pids();
            work()
        })?;
        joined::tell(held.pid(), self.target.pid())?;
        held.release_or(Some(self.signals), || self.container.clean_up())
    }
}
// ANCHOR_END: stage

// ANCHOR: joins
/// What `docker exec` does.
fn all_of_it(stage: &mut Stage) -> Result<u8> {
    info!(target: "say", "Join it: `hostname; ps`.");
    let command = ["sh", "-c", "hostname; ps"].map(Into::into);
    let child = stage.join(None, || Ok(exec(&command, &clean_environment())?))?;
    attend(child, stage.signals, Console::None)
}

/// One namespace of the container, and the others stay ours: `rows` of the view.
fn a_part(stage: &mut Stage, kind: Kind, rows: &[&str]) -> Result<()> {
    let lesson = stage.lesson;
    let look = || {
        lesson.show_rows(rows)?;
        let own = std::fs::read_link("/proc/self");
        // The container's procfs counts in a PID namespace in which this process has no number.
        let own = own.map_or_else(|error| format!("{error}"), |path| path.display().to_string());
        info!(target: "kernel", "inside, /proc/self leads to: {own}");
        exit_now(0)
    };
    stage.join(Some(&[kind]), look)?.wait()?;
    stage.signals.stop_if_told()
}
// ANCHOR_END: joins
