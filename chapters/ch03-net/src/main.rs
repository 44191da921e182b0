// ANCHOR: imports
//! The lesson of chapter 3: a process with a network of its own.

mod experiments;
mod way;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use ch00_chroot::exec;
use ch00_chroot::exec::clean_environment;
use ch01_pid::{Child, Signals, Spawn, attend, exit_code, init};
use ch02_mount::{Streams, Volume, build_root};
use ch03_net::{
    Connection, Lease, Namespace, Network, Options, Publication, Rate, Subnet, interface, loopback, pasta,
    proxy, resolv,
};
use clap::Parser;
use lesson::{Flags, Lesson, parse, privileges, untold};
use log::{info, warn};
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use way::{Mode, Way};
// ANCHOR_END: imports

// ANCHOR: arguments
/// Run a command with a network of its own
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// A directory or file of the host's that appears inside
    #[arg(long, short, value_name = "SRC:DST[:ro]")]
    volume: Vec<Volume>,
    /// What the command reaches: itself alone, all that the host reaches, or the same from an address of its own
    #[arg(long, value_enum, default_value = "bridge")]
    network: Mode,
    /// The addresses of the bridge and of the containers on it
    #[arg(long, value_name = "ADDRESS/BITS", default_value_t = Subnet::DEFAULT)]
    subnet: Subnet,
    /// A port of the host's that leads inside
    #[arg(long, short, value_name = "[IP:]PORT:PORT[/udp]")]
    publish: Vec<Publication>,
    /// How much may come in per second, such as 10mbit
    #[arg(long, value_name = "RATE")]
    rate_in: Option<Rate>,
    /// How much may go out per second
    #[arg(long, value_name = "RATE")]
    rate_out: Option<Rate>,
    /// The command and its arguments; without it, the lesson's experiments
    #[arg(trailing_var_arg = true)]
    command: Vec<OsString>,
}
// ANCHOR_END: arguments

// ANCHOR: main
fn main() -> ExitCode {
    lesson::run(exit_code, || {
        let mut arguments: Arguments = parse();
        let lesson = arguments.flags.start()?.look()?;
        let root = match arguments.flags.rootfs.take() {
            Some(directory) => directory,
            None => rootfs_builder::default_root()?,
        };
        let root = root.canonicalize().with_context(|| format!("the root file system {root:?}"))?;
        let way = Way::choose(arguments.network, privileges::acquire()?);
        way.check(&arguments)?;
        if !arguments.command.is_empty() {
            return run(&lesson, &arguments, &root, &way);
        }
        arguments.command = experiments::ping(&way, arguments.subnet);
        let status = run(&lesson, &arguments, &root, &way)?;
        experiments::loopback(&lesson)?;
        Ok(status)
    })
}
// ANCHOR_END: main

// ANCHOR: run
/// The host's half: an address, the child, the cable to it; and everything taken down again.
fn run(lesson: &Lesson, arguments: &Arguments, root: &Path, way: &Way) -> Result<u8> {
    // From here on a signal must not end this process before it has taken down what it makes.
    let signals = Signals::forwarded()?;
    let streams = Streams::choose()?;
    info!(target: "say", "Make a process {}.", way.describe());

    let network = Network::new("hull0", arguments.subnet)?;
    let mut lease = way.has_bridge().then(|| network.lease()).transpose()?;
    // Who brings a file of their own gets that one.
    let has_own = arguments.volume.iter().any(|volume| volume.target == Path::new(resolv::PLACE));
    let resolver = if has_own { None } else { way.resolver()? };
    let held = Spawn::new()
        .namespaces(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | way.namespace())
        .keep(lesson.descriptors())
        .keep(streams.descriptor())
        .dies_with_parent()
        .start(|report| {
            untold(|| build_root(root, &arguments.volume, false))?;
            configure(way, lease.as_ref(), arguments.rate_out)?;
            if let Some(text) = &resolver {
                untold(|| resolv::give(text))?;
            }
            streams.open()?;
            lesson.show_rows(&["links", "routes"])?;
            lesson.show_view()?;
            init(report, || {
                streams.take_control()?;
                Ok(exec(&arguments.command, &clean_environment())?)
            })
        })?;

    let mut connection = match &lease {
        Some(lease) => Some(connect(arguments, &network, lease, held.pid())?),
        None => None,
    };
    let _pasta = match way {
        Way::Pasta(program) => Some(untold(|| pasta::start(program, held.pid(), &arguments.publish))?),
        _ => None,
    };

    let take_down = || untold(|| drop((connection.take(), lease.take())));
    let child = held.release_or(Some(&signals), take_down)?;
    let status = attend(child, &signals, streams.console()?)?;
    drop(connection);
    if let Some(lease) = lease {
        info!(target: "say", "It has ended. Take down what was made for it.");
        lease.leave()?;
    }
    Ok(status)
}
// ANCHOR_END: run

// ANCHOR: connect
/// The host's half of a bridged network: the cable, the ports, and a proxy for those who say `localhost` and mean ::1.
fn connect(
    arguments: &Arguments,
    network: &Network,
    lease: &Lease,
    container: Pid,
) -> Result<(Connection, Option<Child>)> {
    info!(target: "say", "Connect it to a bridge on the host.");
    let options = Options { publications: arguments.publish.clone(), rate_in: arguments.rate_in };
    let connection = network.connect(lease, &Namespace::of(container)?, &options)?;
    for blocked in &connection.blocked {
        warn!("{blocked}");
    }
    let proxy = untold(|| proxy::start(&arguments.publish, lease.address().address))?;
    if proxy.is_some() {
        info!(target: "say", "A process beside it listens at ::1, and passes on to the container what comes in.");
    }
    info!(target: "kernel", "outside, the links are {}", experiments::links()?);
    Ok((connection, proxy))
}
// ANCHOR_END: connect

// ANCHOR: configure
/// The child's half: what only somebody in the namespace can set up.
fn configure(way: &Way, lease: Option<&Lease>, rate_out: Option<Rate>) -> Result<()> {
    if way.has_namespace() {
        loopback::up()?;
    }
    if let Some(lease) = lease {
        interface::configure("eth0", &lease.address())?;
        if let Some(rate) = rate_out {
            interface::limit("eth0", rate)?;
        }
    }
    Ok(())
}
// ANCHOR_END: configure
