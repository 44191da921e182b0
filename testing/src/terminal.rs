//! A pseudo-terminal pair for programs that must believe they have a terminal: pty(7), ioctl_tty(2).

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::pty::{PtyMaster, grantpt, posix_openpt, unlockpt};

/// A new pair: our end, and the end that becomes the program's terminal, of 24 rows and 80 columns.
pub(crate) fn open() -> (File, OwnedFd) {
    // Both ends close on exec: a program of another test that inherited one would keep this terminal alive.
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("open /dev/ptmx");
    grantpt(&master).expect("grantpt");
    unlockpt(&master).expect("unlockpt");
    let slave = open_slave(&master);
    let master = File::from(OwnedFd::from(master));
    resize(&master, 24, 80);
    (master, slave)
}

/// Opens the other end without its name, which may mean another terminal in another mount namespace.
fn open_slave(master: &PtyMaster) -> OwnedFd {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags by value and returns a new descriptor.
    let result = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    let descriptor = Errno::result(result).expect("ioctl TIOCGPTPEER");
    // SAFETY: the descriptor is new, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Sets the window's size; the terminal's foreground process group gets `SIGWINCH`.
pub(crate) fn resize(master: &File, rows: u16, columns: u16) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which lives until the call returns.
    let result = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
    Errno::result(result).expect("ioctl TIOCSWINSZ");
}
