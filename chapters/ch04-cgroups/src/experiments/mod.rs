// ANCHOR: imports
//! The experiments of chapter 4: a process that wants more than it may have, and what the kernel does.

mod cpu;
pub mod disk;
mod fork_bomb;
mod memory;

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ch01_pid::{Child, Report, Signals, Spawn};
use ch04_cgroups::{Cgroup, Limits, Owned, Place, Usage};
use lesson::Lesson;
use log::info;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::plot::{Output, Plot, Sample, Unit};
use crate::record::Record;
// ANCHOR_END: imports

// ANCHOR: all
/// What all experiments use.
pub struct Stage<'a> {
    /// The lesson, for its narration.
    pub lesson: &'a Lesson,
    /// Where each experiment makes its cgroup.
    pub place: &'a Place,
    /// Ctrl-C and the like, which must not end the lesson before it has cleaned up.
    pub signals: &'a Signals,
    /// Where the plots go.
    pub output: Output,
    /// Where the samples go too.
    pub record: Option<Record>,
}

/// All of them, in the order in which the book tells them.
pub fn all(stage: &mut Stage) -> Result<()> {
    memory::run(stage)?;
    cpu::run(stage)?;
    fork_bomb::run(stage)?;
    disk::run(stage)
}
// ANCHOR_END: all

// ANCHOR: stage
impl Stage<'_> {
    /// A cgroup with these limits. None where they can't be set here, which is said: the other experiments go on.
    fn cgroup(&self, limits: &Limits) -> Result<Option<Owned>> {
        let cgroup = Owned::create(self.place)?;
        match cgroup.apply(limits) {
            Ok(warnings) => {
                for warning in warnings {
                    info!(target: "say", "Warning: {warning}.");
                }
                Ok(Some(cgroup))
            }
            Err(refusal) => {
                info!(target: "say", "This experiment is left out: {}.", lesson::describe(&refusal));
                cgroup.remove()?;
                Ok(None)
            }
        }
    }

    /// A child that runs `victim` in the cgroup, and nowhere else.
    fn start(
        &self,
        cgroup: &Cgroup,
        keep: Option<BorrowedFd>,
        victim: impl FnOnce() -> Infallible,
    ) -> Result<Child> {
        let spawn = Spawn::new().keep(self.lesson.descriptors()).keep(keep).dies_with_parent();
        let spawn = match cgroup.directory() {
            Some(directory) => spawn.cgroup(directory),
            None => spawn,
        };
        let held = spawn.start(|report: &mut Report| {
            report.close();
            Ok(victim())
        })?;
        if !cgroup.is_entered_by_clone() {
            cgroup.enter(held.pid())?;
        }
        held.release(None)
    }
}
// ANCHOR_END: stage

// ANCHOR: watch
/// What is measured, and how.
struct Measurement {
    /// The experiment's name in the record.
    name: &'static str,
    unit: Unit,
    limit: f64,
    /// Between two looks.
    interval: Duration,
    /// About how long the experiment takes, for the picture.
    expected: Duration,
    /// When it ends at the latest.
    at_most: Duration,
}

/// A measurement under way.
struct Watch<'a, 'b> {
    stage: &'a mut Stage<'b>,
    measurement: Measurement,
    plot: Plot,
    start: Instant,
}

impl<'a, 'b> Watch<'a, 'b> {
    fn new(stage: &'a mut Stage<'b>, measurement: Measurement) -> Watch<'a, 'b> {
        let span = measurement.expected.as_secs_f64();
        let plot = Plot::new(stage.output, measurement.unit, measurement.limit, span);
        Watch { stage, measurement, plot, start: Instant::now() }
    }

    /// Looks at the cgroup again and again, until the child has ended or the time is up. `value` says what
    /// to plot, given the time in seconds; there may be nothing yet. Returns how many seconds it took.
    fn until_end(
        &mut self,
        cgroup: &Cgroup,
        child: &Child,
        mut value: impl FnMut(f64, &Usage) -> Option<f64>,
    ) -> Result<f64> {
        let mut has_ended = false;
        loop {
            let seconds = self.start.elapsed().as_secs_f64();
            let is_last = has_ended || seconds >= self.measurement.at_most.as_secs_f64();
            if let Some(usage) = value(seconds, &cgroup.usage()?) {
                self.add(Sample { seconds, usage }, is_last)?;
            }
            if is_last {
                return Ok(seconds);
            }
            has_ended = self.wait(child)?;
        }
    }

    /// Adds a sample to the plot and to the record.
    fn add(&mut self, sample: Sample, is_last: bool) -> Result<()> {
        self.plot.add(sample, is_last);
        match &mut self.stage.record {
            Some(record) => record.add(self.measurement.name, sample, self.measurement.limit),
            None => Ok(()),
        }
    }

    /// Waits for the time of the next look; shorter where the child ends, which it returns, or a signal ends
    /// the lesson.
    fn wait(&self, child: &Child) -> Result<bool> {
        let next = Instant::now() + self.measurement.interval;
        loop {
            let events = PollFlags::POLLIN;
            let mut sources =
                [PollFd::new(child.as_fd(), events), PollFd::new(self.stage.signals.as_fd(), events)];
            let left = next.saturating_duration_since(Instant::now());
            let time = PollTimeout::try_from(left.as_millis()).context("a time for poll")?;
            match poll(&mut sources, time) {
                Ok(0) => return Ok(false),
                Err(errno) => ensure!(errno == Errno::EINTR, "poll: {errno}"),
                Ok(_) if sources[0].any().unwrap_or(true) => return Ok(true),
                Ok(_) => self.stage.signals.stop_if_told()?,
            }
        }
    }
}
// ANCHOR_END: watch

// ANCHOR: rate
/// Turns a counter that only grows into its growth in a second, since the last look.
fn rate(counter: impl Fn(&Usage) -> Option<u64>) -> impl FnMut(f64, &Usage) -> Option<f64> {
    let mut before: Option<(f64, u64)> = None;
    move |seconds, usage| {
        let now = counter(usage)?;
        let (seconds_before, last) = before.replace((seconds, now))?;
        Some(now.saturating_sub(last) as f64 / (seconds - seconds_before))
    }
}
// ANCHOR_END: rate
