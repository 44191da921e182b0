// ANCHOR: clocks
//! One kernel, and one clock that tells the date.
//!
//! A time namespace adds a number to two clocks: CLOCK_MONOTONIC and CLOCK_BOOTTIME, which count from the
//! start of the machine. So a container can be moved to another machine without its timers going mad.
//! CLOCK_REALTIME, the date, is the same for all, and so is the kernel itself. Manual pages:
//! time_namespaces(7), clock_gettime(2), uname(2).

use anyhow::{Context, Result};
use lesson::Lesson;
use lesson::probe::{Refusal, in_child};
use log::info;
use nix::sys::utsname::uname;
use nix::time::{ClockId, clock_gettime};

use crate::container::Container;
use crate::inside::ask;

/// What both sides say to the same questions.
pub fn run(lesson: &Lesson, container: &Container) -> Result<()> {
    info!(target: "say", "The same kernel, and the same date.");
    let outside = machine().map_err(|refusal| anyhow::anyhow!(refusal.to_string()))?;
    // Its first process stands outside of the new time namespace; its children are in.
    let inside = ask(lesson, container, &[], || in_child(machine).map_err(|refusal| refusal.to_string()))?;
    let inside = inside.map_err(anyhow::Error::msg).context("inside")?;
    for (outside, inside) in outside.lines().zip(inside.lines()) {
        info!(target: "kernel", "outside {outside}");
        info!(target: "kernel", "inside  {inside}");
    }
    Ok(())
}

/// The kernel's release, and its clocks in seconds.
fn machine() -> Result<String, Refusal> {
    let names = uname().map_err(|errno| Refusal::new("uname", errno))?;
    let mut lines = vec![format!("uname -r: {}", names.release().to_string_lossy())];
    for (name, clock) in [
        ("CLOCK_REALTIME", ClockId::CLOCK_REALTIME),
        ("CLOCK_MONOTONIC", ClockId::CLOCK_MONOTONIC),
        ("CLOCK_BOOTTIME", ClockId::CLOCK_BOOTTIME),
    ] {
        let now = clock_gettime(clock).map_err(|errno| Refusal::new("clock_gettime", errno))?;
        lines.push(format!("{name}: {}", now.tv_sec()));
    }
    Ok(lines.join("\n"))
}
// ANCHOR_END: clocks
