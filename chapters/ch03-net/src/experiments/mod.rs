// ANCHOR: imports
//! The experiments of chapter 3.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result};
use ch01_pid::Spawn;
use ch01_pid::spawn::exit_now;
use ch03_net::{Subnet, loopback};
use lesson::Lesson;
use lesson::view::View;
use log::info;
use nix::errno::Errno;
use nix::sched::CloneFlags;

use crate::way::Way;
// ANCHOR_END: imports

// ANCHOR: links
/// The links of this network namespace in one line, each with its addresses.
pub fn links() -> Result<String> {
    let links = View::here()?.links.map_err(|reason| anyhow::anyhow!("read the links: {reason}"))?;
    let describe = |link: &lesson::view::Link| match link.addresses.is_empty() {
        true => link.name.clone(),
        false => format!("{} ({})", link.name, link.addresses.join(" ")),
    };
    Ok(links.iter().map(describe).collect::<Vec<_>>().join(", "))
}
// ANCHOR_END: links

// ANCHOR: ping
/// The command without which no network is believed: it asks the other end of the cable for an answer.
pub fn ping(way: &Way, subnet: Subnet) -> Vec<OsString> {
    let other_end = if way.has_bridge() { subnet.gateway() } else { Ipv4Addr::LOCALHOST };
    ["ping", "-c", "1", &other_end.to_string()].map(OsString::from).to_vec()
}
// ANCHOR_END: ping

// ANCHOR: loopback
/// A server of the host's at 127.0.0.1, and who reaches it there.
pub fn loopback(lesson: &Lesson) -> Result<()> {
    info!(target: "say", "A server on the host, at 127.0.0.1. Who reaches it?");
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen at 127.0.0.1")?;
    let address = server.local_addr().context("getsockname")?;
    info!(target: "kernel", "outside, connect to {address}: {}", connect(address));

    let held = Spawn::new()
        .namespaces(CloneFlags::CLONE_NEWNET)
        .keep(lesson.descriptors())
        .dies_with_parent()
        .start(|_| {
            info!(target: "kernel", "inside, connect to {address}: {}", connect(address));
            loopback::up()?;
            info!(target: "kernel", "inside, connect to {address}: {}", connect(address));
            exit_now(0)
        })?;
    held.release(None)?.wait()?;
    Ok(())
}

/// What connect(2) says.
fn connect(address: SocketAddr) -> String {
    match TcpStream::connect(address) {
        Ok(_) => "connected".into(),
        Err(error) => describe(&error),
    }
}

fn describe(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) => format!("{} ({errno:?})", errno.desc()),
        None => error.to_string(),
    }
}
// ANCHOR_END: loopback
