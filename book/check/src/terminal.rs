//! A shell on a terminal: what is typed goes in, what the screen shows comes out.
//!
//! A pseudoterminal's master side belongs to the checker, its slave side is the shell's terminal, so programs
//! behave as at a reader's terminal: they see a tty, Ctrl-C is a signal, echo is on. pty(7), ioctl_tty(2)

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::world::{User, World};

/// The size of the screen, in characters.
const SIZE: libc::winsize = libc::winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };

/// A terminal with a shell on it.
pub struct Terminal {
    master: File,
    shell: Child,
    output: Receiver<Vec<u8>>,
    /// What the screen has shown since the last command, as bytes.
    seen: Vec<u8>,
}

impl Terminal {
    /// Opens a terminal in the world and starts the user's shell there.
    pub fn open(world: &World, user: User) -> Result<Terminal> {
        let path = world.ptmx();
        let master = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("open {path:?}"))?;
        let slave = slave(&master).context("open the terminal's slave side")?;
        if user == User::Learner {
            // As login(1) does, so that the shell's programs may open /dev/pts/0 again.
            std::os::unix::fs::fchown(&slave, Some(1000), Some(5)).context("give the terminal to learner")?;
        }
        let shell = world
            .shell(user)?
            .stdin(slave.try_clone().context("duplicate the terminal")?)
            .stdout(slave.try_clone().context("duplicate the terminal")?)
            .stderr(slave)
            .spawn()
            .context("execute `nsenter` (of util-linux)")?;
        let (sender, output) = channel();
        let mut reader = master.try_clone().context("duplicate the terminal")?;
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A read fails with EIO once no process has the slave side open: the end of the shell.
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let seen = Vec::new();
        Ok(Terminal { master, shell, output, seen })
    }

    /// Types `text` as it is.
    pub fn type_in(&mut self, text: &str) -> Result<()> {
        self.master.write_all(text.as_bytes()).context("write to the terminal")
    }

    /// Forgets what the screen has shown.
    pub fn clear(&mut self) {
        self.seen.clear();
    }

    /// What the screen has shown since [`Terminal::clear`], control sequences and all.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Waits until `found` finds something in what the screen has shown.
    pub fn wait_for<T>(&mut self, deadline: Instant, found: impl Fn(&str) -> Option<T>) -> Result<T> {
        loop {
            if let Some(value) = found(&self.seen()) {
                return Ok(value);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.seen.extend(bytes),
                Err(RecvTimeoutError::Timeout) => bail!("nothing more came in time"),
                Err(RecvTimeoutError::Disconnected) => bail!("the shell has ended"),
            }
        }
    }

    /// Waits until the screen has been still for as long as `time`.
    pub fn wait_for_silence(&mut self, time: Duration) {
        while let Ok(bytes) = self.output.recv_timeout(time) {
            self.seen.extend(bytes);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The child is `nsenter`, which waits for the shell; the shell itself ends with its world.
        if let Err(error) = self.shell.kill().and_then(|()| self.shell.wait()) {
            eprintln!("end the shell of a page: {error}");
        }
    }
}

/// The slave side of a new terminal, unlocked and with a size.
fn slave(master: &File) -> Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int, which `unlocked` is.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &unlocked) }, "TIOCSPTLCK")?;
    // SAFETY: TIOCSWINSZ reads a winsize, which `SIZE` is.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &SIZE) }, "TIOCSWINSZ")?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // The path of the slave is only right inside the world, so it is opened by its master. ioctl_tty(2)
    // SAFETY: TIOCGPTPEER takes open(2) flags by value and touches no memory of ours.
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    check(slave, "TIOCGPTPEER")?;
    // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(slave) })
}

fn check(result: libc::c_int, request: &'static str) -> Result<()> {
    match result {
        -1 => Err(std::io::Error::last_os_error()).with_context(|| format!("ioctl {request}")),
        _ => Ok(()),
    }
}
