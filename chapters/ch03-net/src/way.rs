// ANCHOR: way
//! How the container reaches others: what was asked for, and what this user may have.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ch03_net::{pasta, resolv};
use clap::ValueEnum;
use lesson::privileges::Powers;
use log::info;
use nix::sched::CloneFlags;

use crate::Arguments;

/// What `--network` may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    None,
    Host,
    Bridge,
}

/// What it comes to.
#[derive(Debug)]
pub enum Way {
    /// A namespace with `lo`: the container reaches itself.
    Loopback,
    /// No namespace: the container has the host's network.
    Host,
    /// A namespace, and a cable from it to a bridge on the host.
    Bridge,
    /// A namespace, and the program that carries packets between it and the sockets of a plain user.
    Pasta(PathBuf),
}

impl Way {
    pub fn choose(mode: Mode, powers: Powers) -> Way {
        match (mode, powers) {
            (Mode::None, _) => Way::Loopback,
            (Mode::Host, _) => Way::Host,
            (Mode::Bridge, Powers::Host) => Way::Bridge,
            (Mode::Bridge, Powers::UserNamespace) => match pasta::find() {
                Some(program) => Way::Pasta(program),
                None => {
                    info!(
                        target: "say",
                        "A bridge on the host takes root, and pasta is not installed, or can't work: the container reaches itself alone."
                    );
                    Way::Loopback
                }
            },
        }
    }

    /// Refuses what this way does not have.
    pub fn check(&self, arguments: &Arguments) -> Result<()> {
        let asks_for_rate = arguments.rate_in.is_some() || arguments.rate_out.is_some();
        match self {
            Way::Bridge => {}
            Way::Pasta(_) => ensure!(
                !asks_for_rate,
                "--rate-in and --rate-out need a bridge, and that takes root: use sudo"
            ),
            Way::Loopback | Way::Host if !asks_for_rate && arguments.publish.is_empty() => {}
            Way::Loopback if arguments.network == Mode::Bridge => {
                bail!("--publish needs pasta (package passt), --rate-in and --rate-out a bridge: use sudo")
            }
            Way::Loopback | Way::Host => bail!("--publish, --rate-in and --rate-out need --network bridge"),
        }
        Ok(())
    }

    pub fn describe(&self) -> &str {
        match self {
            Way::Loopback => "in a network namespace of its own, where it is alone",
            Way::Host => "in the host's network namespace",
            Way::Bridge => "in a network namespace of its own",
            Way::Pasta(_) => "in a network namespace of its own, and pasta beside it",
        }
    }

    pub fn has_bridge(&self) -> bool {
        matches!(self, Way::Bridge)
    }

    pub fn has_namespace(&self) -> bool {
        !matches!(self, Way::Host)
    }

    /// The flag for clone3(2).
    pub fn namespace(&self) -> CloneFlags {
        if self.has_namespace() { CloneFlags::CLONE_NEWNET } else { CloneFlags::empty() }
    }

    /// The text of the container's /etc/resolv.conf; none where it reaches no server.
    pub fn resolver(&self) -> Result<Option<String>> {
        match self {
            Way::Loopback => Ok(None),
            Way::Host => {
                let file = Path::new("/etc/resolv.conf");
                let read = || fs::read_to_string(file).with_context(|| format!("read {file:?}"));
                file.exists().then(read).transpose()
            }
            Way::Bridge | Way::Pasta(_) => {
                let resolver = resolv::for_container()?;
                if !resolver.has_server {
                    info!(target: "say", "The host names no server that the container reaches: it finds no names.");
                }
                Ok(Some(resolver.text))
            }
        }
    }
}
// ANCHOR_END: way
