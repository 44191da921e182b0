//! The standard input, output and error of the command.
//!
//! At a terminal the command gets a terminal of its own, from the container's devpts: so the child has to make
//! it, once it stands in its root, and the parent has to serve it. A Unix socket between the two carries the
//! master. Manual pages: devpts in mount(8), SCM_RIGHTS in unix(7).

use std::io::stdin;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result};
use ch01_pid::attend::Console;
use ch01_pid::is_interactive;
use ch01_pid::terminal::{
    Input, copy_size, open_pty, receive_master, send_master, take_control, use_as_stdio,
};

use crate::{Root, dev};

// ANCHOR: streams
/// What the command reads from and writes to; chosen before the child is made, as both sides need an end.
#[derive(Debug)]
pub enum Streams {
    /// A terminal of the command's own; its master comes from the child to the parent.
    Terminal {
        /// The end that receives the master.
        parent: UnixStream,
        /// The end that sends it.
        child: UnixStream,
    },
    /// Our own, but for the input: that is a pipe.
    Pipe(Input),
    /// Our own.
    Inherited,
}

impl Streams {
    /// A terminal for a user who sits at one; else what [`Input::for_command`] says.
    ///
    /// # Errors
    ///
    /// socketpair(2)'s errno, or pipe2(2)'s.
    pub fn choose() -> Result<Streams> {
        if is_interactive() {
            let (parent, child) = UnixStream::pair().context("socketpair for the terminal")?;
            return Ok(Streams::Terminal { parent, child });
        }
        Ok(Input::for_command()?.map_or(Streams::Inherited, Streams::Pipe))
    }

    /// The descriptor that the child must keep.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Streams::Terminal { child, .. } => Some(child.as_fd()),
            Streams::Pipe(input) => Some(input.read.as_fd()),
            Streams::Inherited => None,
        }
    }
}
// ANCHOR_END: streams

// ANCHOR: child
impl Streams {
    /// In the child, in its new root: makes the terminal, or takes the pipe as standard input.
    ///
    /// # Errors
    ///
    /// Names what could not be made or passed on.
    pub fn open(&self) -> Result<()> {
        match self {
            Streams::Terminal { child, .. } => terminal(child.as_fd()),
            Streams::Pipe(input) => input.use_as_stdin(),
            Streams::Inherited => Ok(()),
        }
    }

    /// In the command's own session: makes the terminal, where there is one, the session's.
    ///
    /// # Errors
    ///
    /// Those of [`take_control`].
    pub fn take_control(&self) -> Result<()> {
        match self {
            Streams::Terminal { .. } => take_control(),
            Streams::Pipe(_) | Streams::Inherited => Ok(()),
        }
    }
}

/// Makes a terminal from the container's own devpts, and sends its master to the parent.
fn terminal(socket: BorrowedFd) -> Result<()> {
    let pty = open_pty(Path::new("/dev/ptmx"))?;
    dev::console(&Root::open(Path::new("/"))?, &pty.slave)?;
    // Standard input is still the user's terminal.
    copy_size(stdin().as_fd(), pty.master.as_fd())?;
    send_master(socket, &pty.master)?;
    use_as_stdio(&pty.slave)
}
// ANCHOR_END: child

// ANCHOR: parent
impl Streams {
    /// In the parent, once the command runs: what to serve, for [`attend`](ch01_pid::attend()). Our copies of the
    /// child's ends are closed, so that the end of the command is seen.
    ///
    /// # Errors
    ///
    /// Those of [`receive_master`].
    pub fn console(self) -> Result<Console> {
        Ok(match self {
            Streams::Terminal { parent, .. } => Console::Terminal(receive_master(parent.as_fd())?),
            Streams::Pipe(Input { write: Some(pipe), .. }) => Console::Input(pipe),
            Streams::Pipe(Input { write: None, .. }) | Streams::Inherited => Console::None,
        })
    }
}
// ANCHOR_END: parent
