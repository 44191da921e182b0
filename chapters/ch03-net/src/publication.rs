//! A port of the host's that leads inside: `--publish [IP:]8080:80[/udp]`.
//!
//! The firewall sends on what comes in for such a port before any socket of the host's sees it, so the port must be
//! taken on the host as well: else a server could start there, and never hear of a client. A socket that is *bound*
//! and does not listen does it. To bind the same address and port again fails with EADDRINUSE; who connects while
//! the firewall is not there is refused. Manual pages: ip(7), bind(2), socket(7) (SO_REUSEADDR).

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use log::info;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};

// ANCHOR: publication
/// How the port is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// tcp(7), the default.
    Tcp,
    /// udp(7).
    Udp,
}

/// What `--publish` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Publication {
    /// The host's address that is spoken to; 0.0.0.0 is each one that it has.
    pub address: Ipv4Addr,
    /// The port at that address, never 0.
    pub host_port: u16,
    /// The port at the container's address, never 0.
    pub container_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}
// ANCHOR_END: publication

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

impl fmt::Display for Publication {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Publication { address, host_port, container_port, protocol } = self;
        write!(formatter, "{address}:{host_port}:{container_port}/{protocol}")
    }
}

impl FromStr for Publication {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Publication> {
        let (ports, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((_, other)) => bail!("the protocol {other:?} is unknown: it is tcp or udp"),
        };
        let (address, host, container) = match ports.split(':').collect::<Vec<_>>()[..] {
            [host, container] => ("0.0.0.0", host, container),
            [address, host, container] => (address, host, container),
            _ => bail!("a published port is [IP:]HOST:CONTAINER[/udp], such as 8080:80, not {text:?}"),
        };
        let address = address.parse().with_context(|| format!("{address:?} is no IPv4 address"))?;
        Ok(Publication { address, host_port: port(host)?, container_port: port(container)?, protocol })
    }
}

fn port(text: &str) -> Result<u16> {
    let port = text.parse().ok().filter(|port: &u16| *port != 0);
    port.with_context(|| format!("{text:?} is no port: it is a number from 1 to 65535"))
}

// ANCHOR: reserve
/// Takes the ports on the host, for as long as the sockets that are returned are open.
///
/// # Errors
///
/// EADDRINUSE where another program has the port, or had it less than a minute ago: TCP keeps a closed connection
/// (TIME_WAIT) for the packets that are still under way. EADDRNOTAVAIL where the host does not have the address.
pub fn reserve(publications: &[Publication]) -> Result<Vec<OwnedFd>> {
    publications.iter().map(Publication::reserve).collect()
}

impl Publication {
    fn reserve(&self) -> Result<OwnedFd> {
        let Publication { address, host_port, protocol, .. } = self;
        info!(target: "syscall", "bind({address}:{host_port})  port {host_port}/{protocol} of the host is taken");
        self.bind().with_context(|| format!("take port {host_port}/{protocol} of the host at {address}"))
    }

    fn bind(&self) -> Result<OwnedFd> {
        let kind = match self.protocol {
            Protocol::Tcp => SockType::Stream,
            Protocol::Udp => SockType::Datagram,
        };
        let socket = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None).context("socket")?;
        // Without SO_REUSEADDR, or a second one could bind the same port as long as none listens.
        let place = SockaddrIn::from(SocketAddrV4::new(self.address, self.host_port));
        bind(socket.as_raw_fd(), &place).map_err(|errno| match errno {
            Errno::EADDRINUSE => anyhow!(errno).context("another program has it, or had it a minute ago"),
            Errno::EADDRNOTAVAIL => anyhow!(errno).context("the host does not have this address"),
            errno => anyhow!(errno),
        })?;
        Ok(socket)
    }
}
// ANCHOR_END: reserve

/// Two publications of one call must not take the same port: the error would blame another program.
///
/// # Errors
///
/// Names the two.
pub fn check_distinct(publications: &[Publication]) -> Result<()> {
    for (index, first) in publications.iter().enumerate() {
        for second in &publications[index + 1..] {
            let same_address = first.address == second.address
                || first.address.is_unspecified()
                || second.address.is_unspecified();
            let same_port = (first.protocol, first.host_port) == (second.protocol, second.host_port);
            ensure!(!(same_address && same_port), "{first} and {second} are the same port of the host");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::{Publication, check_distinct, reserve};

    #[test]
    fn a_publication_is_read_as_it_is_written() {
        for (text, meaning) in [
            ("8080:80", "0.0.0.0:8080:80/tcp"),
            ("8080:80/tcp", "0.0.0.0:8080:80/tcp"),
            ("127.0.0.1:53:5353/udp", "127.0.0.1:53:5353/udp"),
            ("1:65535", "0.0.0.0:1:65535/tcp"),
        ] {
            assert_eq!(text.parse::<Publication>().unwrap().to_string(), meaning);
        }
    }

    #[test]
    fn what_is_no_publication_is_refused_and_quoted() {
        for (text, quoted) in [
            ("80", "80"),
            ("0:80", "0"),
            ("80:65536", "65536"),
            ("80:80/sctp", "sctp"),
            ("80:80/tcp/tcp", "tcp/tcp"),
            ("localhost:80:80", "localhost"),
            ("::1:80:80", "::1:80:80"),
            ("80:", ""),
            ("8080:-80", "-80"),
        ] {
            let error = text.parse::<Publication>().unwrap_err();
            assert!(format!("{error:#}").contains(&format!("{quoted:?}")), "{text}: {error:#}");
        }
    }

    #[test]
    fn a_reserved_port_can_t_be_had_by_another_and_refuses_clients() {
        // The kernel knows a port that is free.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let publication = [format!("127.0.0.1:{port}:80").parse().unwrap()];
        let taken = reserve(&publication).unwrap_err();
        assert!(format!("{taken:#}").contains(&format!("port {port}/tcp")), "{taken:#}");
        drop(listener);
        let reservation = reserve(&publication).unwrap();
        assert!(reserve(&publication).is_err());
        assert!(TcpListener::bind(("127.0.0.1", port)).is_err());
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        drop(reservation);
        TcpListener::bind(("127.0.0.1", port)).unwrap();
    }

    #[test]
    fn one_port_is_not_published_twice() {
        let publications = |texts: [&str; 2]| texts.map(|text| text.parse::<Publication>().unwrap());
        let error = check_distinct(&publications(["127.0.0.1:9:80", "9:81"])).unwrap_err();
        assert!(error.to_string().contains("the same port"), "{error}");
        for distinct in [["9:80", "9:80/udp"], ["127.0.0.1:9:80", "127.0.0.2:9:80"], ["8:80", "9:80"]] {
            check_distinct(&publications(distinct)).unwrap();
        }
    }
}
