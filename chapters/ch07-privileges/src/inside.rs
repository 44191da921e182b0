// ANCHOR: inside
//! A question that is asked inside of a container: a closure runs there in the command's place, and its
//! answer comes back through a pipe.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use ch01_pid::spawn::exit_now;
use lesson::{Lesson, untold};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::container::Container;
use crate::start;

/// What the kernel said to a call: what was achieved, or which call it refused, and how.
pub type Answer = std::result::Result<String, String>;

/// Starts the container and runs `question` in it, as its first process, with what a command there would
/// have. The descriptors `keep` stay open.
///
/// # Errors
///
/// Where the container can't be made.
pub fn ask(
    lesson: &Lesson,
    container: &Container,
    keep: &[BorrowedFd],
    question: impl FnOnce() -> Answer,
) -> Result<Answer> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).context("pipe2 for the answer")?;
    let writer = File::from(writer);
    let kept: Vec<BorrowedFd> = [writer.as_fd()].iter().chain(keep).copied().collect();
    let held = untold(|| {
        start(
            lesson,
            container,
            None,
            &kept,
            || Ok(()),
            |report| {
                report.close();
                let text = match question() {
                    Ok(answer) => format!("+{answer}"),
                    Err(refusal) => format!("-{refusal}"),
                };
                (&writer).write_all(text.as_bytes()).context("write the answer")?;
                exit_now(0)
            },
        )
    })?;
    let mut child = held.release(None)?;
    drop(writer);
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).context("read the answer")?;
    child.wait()?;
    Ok(match text.split_at_checked(1) {
        Some(("+", answer)) => Ok(answer.into()),
        Some((_, refusal)) => Err(refusal.into()),
        None => Err("the process was killed".into()),
    })
}
// ANCHOR_END: inside
