//! Who answers for names: the text of a container's /etc/resolv.conf.
//!
//! A program that looks up a name asks the servers that are listed there. The host's own list is of no use inside
//! where it names 127.0.0.53, as with systemd-resolved: that address is the container's own, and nobody listens
//! there. systemd-resolved writes the servers that it asks itself to a second file. Manual pages:
//! [resolv.conf(5)](https://man7.org/linux/man-pages/man5/resolv.conf.5.html), systemd-resolved.service(8).

use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};
use ch02_mount::{Root, Volume};

/// What programs read.
pub const PLACE: &str = "/etc/resolv.conf";
/// The same, and where systemd-resolved lists the servers behind its own.
const FILES: [&str; 2] = [PLACE, "/run/systemd/resolve/resolv.conf"];

// ANCHOR: resolver
/// A container's resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// The whole text.
    pub text: String,
    /// Whether it names a server. Where it doesn't, no name is found inside, and the user should hear of it: we name no
    /// server of a company's instead, which would learn what is asked for.
    pub has_server: bool,
}

/// The host's resolv.conf without the servers that a container with an IPv4 address of its own does not reach.
///
/// # Errors
///
/// Names the file. One that is missing is no error.
pub fn for_container() -> Result<Resolver> {
    let mut first = None;
    for path in FILES {
        let text = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            result => result.with_context(|| format!("read {path:?}"))?,
        };
        // A comment may be in any encoding.
        let resolver = Resolver::from_host(&String::from_utf8_lossy(&text));
        if resolver.has_server {
            return Ok(resolver);
        }
        first = first.or(Some(resolver));
    }
    Ok(first.unwrap_or_default())
}

impl Resolver {
    fn from_host(host: &str) -> Resolver {
        let mut resolver = Resolver::default();
        for line in host.lines() {
            let mut words = line.split_whitespace();
            let is_kept = match (words.next(), words.next()) {
                (Some("nameserver"), server) => {
                    let is_reached = server.is_some_and(is_reached);
                    resolver.has_server |= is_reached;
                    is_reached
                }
                // How names are completed, and how servers are asked.
                (Some("search" | "domain" | "options" | "sortlist"), _) => true,
                _ => false,
            };
            if is_kept {
                resolver.text += line;
                resolver.text.push('\n');
            }
        }
        resolver
    }
}

/// Not from a container: 127.0.0.0/8 and 0.0.0.0 are its own, and it has no way to an IPv6 address.
fn is_reached(server: &str) -> bool {
    server.parse::<Ipv4Addr>().is_ok_and(|server| !server.is_loopback() && !server.is_unspecified())
}
// ANCHOR_END: resolver

// ANCHOR: give
/// Puts `text` at /etc/resolv.conf, for this container alone: its files are shared with others. So the text goes
/// into a file on the container's own /dev, which is bound over the other one and then has no other name.
///
/// To be called in the container, in its new root, before a program of the container's runs.
///
/// # Errors
///
/// Names the file.
pub fn give(text: &str) -> Result<()> {
    let source = "/dev/resolv.conf";
    fs::write(source, text).with_context(|| format!("write {source:?}"))?;
    // Distributions make it a link to a file of systemd-resolved's, which is not there until that runs.
    let target = match fs::read_link(PLACE) {
        Ok(link) => Path::new("/etc").join(link),
        Err(_) => PLACE.into(),
    };
    let volume = Volume { source: source.into(), target, read_only: false };
    volume.attach(&volume.take()?, &Root::open(Path::new("/"))?)?;
    fs::remove_file(source).with_context(|| format!("unlink {source:?}"))
}
// ANCHOR_END: give

#[cfg(test)]
mod tests {
    use super::Resolver;

    #[test]
    fn servers_that_a_container_does_not_reach_are_left_out() {
        let host = "# by a tool\nnameserver 127.0.0.53\nnameserver\t192.0.2.1\nnameserver ::1\nnameserver fe80::1%eth0\n\
            nameserver 0.0.0.0\nnameserver\nsearch example.org\noptions edns0 trust-ad\n;nameserver 192.0.2.9\n";
        let resolver = Resolver::from_host(host);
        assert_eq!(resolver.text, "nameserver\t192.0.2.1\nsearch example.org\noptions edns0 trust-ad\n");
        assert!(resolver.has_server);
    }

    #[test]
    fn without_a_server_that_is_reached_it_says_so() {
        let resolver = Resolver::from_host("nameserver 127.0.0.53\nsearch lan\n");
        assert_eq!(resolver, Resolver { text: "search lan\n".into(), has_server: false });
    }
}
