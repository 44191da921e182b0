//! Calls behind other calls: `socketcall` and `ipc`.
//!
//! Old architectures (x86, s390, ppc, mips' o32 and others) have one call for all that concerns sockets, and
//! one for System V IPC; the first argument says what is meant. socketcall(2), ipc(2). Later kernels (4.3 and
//! 5.1 on x86) gave most of them numbers of their own as well, so there are two ways to `socket`, and a rule
//! must stand in both.
//!
//! The arguments of `socketcall` are in memory, out of a filter's sight, and those of `ipc` stand at other
//! places. So behind them no condition can be checked; see [`super`] for what a rule that has one means
//! there.

use super::super::architecture::Architecture;
use super::super::policy::{Condition, Operator};
use super::super::syscalls::number;

/// The calls of `socketcall`, with the numbers of linux/net.h.
const SOCKETS: [(&str, u64); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// The calls of `ipc`, with the numbers of linux/ipc.h.
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

// ANCHOR: multiplex
/// The numbers of an architecture's multiplexers.
pub(super) struct Multiplexers {
    socketcall: Option<u32>,
    ipc: Option<u32>,
}

impl Multiplexers {
    pub(super) fn of(architecture: Architecture) -> Multiplexers {
        Multiplexers { socketcall: number(architecture, "socketcall"), ipc: number(architecture, "ipc") }
    }

    /// The number of the call behind which the call `name` stands, and what the first argument must be for
    /// it.
    pub(super) fn behind(&self, name: &str) -> Option<(u32, Condition)> {
        // The kernel takes both arguments as an int: it doesn't look at the upper half of the register where
        // that has 64 bits (s390x, ppc64). Of ipc's it has a version in the upper 16 bits, which changes how
        // a call's arguments are laid out, not what it does. With these bits compared, a program could set
        // one and pass a rule by.
        let multiplexers = [(self.socketcall, &SOCKETS[..], 0xffff_ffff), (self.ipc, &IPC[..], 0xffff)];
        multiplexers.into_iter().find_map(|(number, calls, mask)| {
            let number = number?;
            let (_, call) = calls.iter().find(|(known, _)| *known == name)?;
            let condition =
                Condition { argument: 0, operator: Operator::MaskedEqual, value: mask, value_two: *call };
            Some((number, condition))
        })
    }
}
// ANCHOR_END: multiplex
