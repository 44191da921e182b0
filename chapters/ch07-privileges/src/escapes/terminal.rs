// ANCHOR: terminal
//! Chapter 1: a command typed into the terminal of whoever started the container (TIOCSTI; CVE-2017-5226).
//!
//! The kernel allows it on the terminal of one's own session. Since Linux 6.2 it can be switched off for who
//! has no CAP_SYS_ADMIN: `dev.tty.legacy_tiocsti`.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result};
use ch01_pid::Spawn;
use ch01_pid::spawn::exit_now;
use ch01_pid::terminal::{open_pty, take_control, use_as_stdio};
use lesson::probe::{Refusal, in_child};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::stage::{Stage, refused};
use crate::container::Container;
use crate::inside::Answer;

nix::ioctl_write_ptr_bad!(type_character, libc::TIOCSTI, u8);

/// A user who sits at a terminal and starts the container; it gets the terminal as a descriptor. The
/// container that is careless does not begin a session of its own.
pub fn type_a_command(stage: &Stage, container: &Container) -> Result<Answer> {
    let terminal = open_pty(Path::new("/dev/ptmx"))?;
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("pipe2")?;
    let keep = [terminal.slave.as_fd(), writer.as_fd()].into_iter().chain(stage.lesson.descriptors());
    let held = Spawn::new().keep(keep).dies_with_parent().start(|report| {
        use_as_stdio(&terminal.slave)?;
        take_control()?;
        report.close();
        let attempt = || type_line(terminal.slave.as_fd());
        let answer = if container.careless {
            in_child(|| attempt().map_err(|text| Refusal::new(text, Errno::EPERM)))
                .map_err(|refusal| refusal.operation)
        } else {
            stage.ask(container, &[terminal.slave.as_fd()], attempt)?
        };
        let typed = has_line(terminal.slave.as_fd());
        let answer = match answer {
            Ok(_) if typed => "+the line is in the user's input".to_string(),
            Ok(_) => "-nothing was typed".to_string(),
            Err(refusal) => format!("-{refusal}"),
        };
        nix::unistd::write(&writer, answer.as_bytes()).context("write the answer")?;
        exit_now(0)
    })?;
    let mut user = held.release(None)?;
    drop(writer);
    let mut answer = String::new();
    File::from(reader).read_to_string(&mut answer).context("read the answer")?;
    user.wait()?;
    Ok(match answer.strip_prefix('+') {
        Some(achieved) => Ok(achieved.into()),
        None => Err(answer.trim_start_matches('-').into()),
    })
}

fn type_line(terminal: BorrowedFd) -> Answer {
    for character in b"reboot\n" {
        // SAFETY: the ioctl reads one byte through the pointer.
        unsafe { type_character(terminal.as_raw_fd(), character) }
            .map_err(|errno| refused("ioctl(TIOCSTI)", errno))?;
    }
    Ok("typed".into())
}

/// Whether somebody has typed a line.
fn has_line(terminal: BorrowedFd) -> bool {
    let mut sources = [PollFd::new(terminal, PollFlags::POLLIN)];
    poll(&mut sources, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
// ANCHOR_END: terminal
