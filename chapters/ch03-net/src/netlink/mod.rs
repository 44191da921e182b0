//! Netlink: how the kernel is asked about its network, and told to change it.
//!
//! A netlink socket carries messages between a process and the kernel. A message is a header (length, type, flags,
//! sequence number), a fixed structure, and *attributes*: each a length, a number and a value, which may hold
//! attributes again. The kernel reads what it knows. `RTM_NEWLINK` makes or changes a link, `RTM_GETLINK` asks for
//! one, and so for addresses, routes and queueing disciplines; it is what `ip` and `tc` speak. A socket belongs to
//! the network namespace in which it was made. Manual pages:
//! [netlink(7)](https://man7.org/linux/man-pages/man7/netlink.7.html),
//! [rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html).

pub mod address;
pub mod link;
pub mod qdisc;
pub mod route;

use anyhow::{Context, Result, anyhow, bail};
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

// ANCHOR: netlink
/// A conversation with the kernel about the network of the namespace in which it was opened.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    /// Of the last request: an answer carries the number of what it answers.
    sequence: u32,
}

impl Netlink {
    /// Opens one for the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// socket(2)'s errno.
    pub fn open() -> Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("socket(AF_NETLINK, NETLINK_ROUTE)")?;
        socket.bind_auto().context("bind the netlink socket")?;
        // An errno alone rarely says which of twenty attributes is wrong; with this the kernel adds a sentence.
        socket.set_ext_ack(true).context("setsockopt(NETLINK_EXT_ACK)")?;
        // An error need not repeat the whole request.
        socket.set_cap_ack(true).context("setsockopt(NETLINK_CAP_ACK)")?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Asks for a change, and waits until it is made. `flags` are those of a `NEW` request: `NLM_F_CREATE`...
    fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
        self.talk(message, flags | NLM_F_ACK)?;
        Ok(())
    }

    /// Asks for one object.
    fn get(&mut self, message: RouteNetlinkMessage) -> Result<RouteNetlinkMessage> {
        let answers = self.talk(message, NLM_F_ACK)?.answers;
        answers.into_iter().next().context("netlink: an acknowledgement without an answer")
    }

    /// Asks for all objects of a kind.
    fn dump(&mut self, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>> {
        // The list comes in pieces, and may change between two of them: then it is of no moment at all.
        for _ in 0..100 {
            match self.talk(message.clone(), NLM_F_DUMP) {
                Ok(Exchange { answers, was_interrupted: false }) => return Ok(answers),
                Ok(_) => {}
                // Our buffer was full, and a piece was lost.
                Err(error) if is(&error, Errno::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
        bail!("netlink: the list changed each time it was read, a hundred times over")
    }
}

/// What came back for one request.
struct Exchange {
    answers: Vec<RouteNetlinkMessage>,
    was_interrupted: bool,
}
// ANCHOR_END: netlink

// ANCHOR: talk
impl Netlink {
    /// Sends a request, and reads up to its end: an acknowledgement or an error, or NLMSG_DONE after a list.
    fn talk(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<Exchange> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::new(NetlinkHeader::default(), message.into());
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        let kernel = SocketAddr::new(0, 0);
        self.socket.send_to(&bytes, &kernel, 0).map_err(errno_of).context("sendto(NETLINK_ROUTE)")?;

        let mut exchange = Exchange { answers: Vec::new(), was_interrupted: false };
        loop {
            for answer in self.receive()? {
                // The rest of a list that was given up.
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                exchange.was_interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(object) => exchange.answers.push(object),
                    NetlinkPayload::Error(error) => {
                        return outcome(&answer.header, &error).map(|()| exchange);
                    }
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(anyhow!(Errno::from_raw(-done.code)).context("netlink: the list"));
                    }
                    NetlinkPayload::Done(_) => return Ok(exchange),
                    other => bail!("netlink: an answer of an unknown kind: {other:?}"),
                }
            }
        }
    }

    /// The messages of one datagram.
    fn receive(&mut self) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
        let (bytes, sender) = loop {
            match self.socket.recv_from_full() {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                result => break result.map_err(errno_of).context("recvfrom(NETLINK_ROUTE)")?,
            }
        };
        // Port 0 is the kernel's. Another process could send here too.
        if sender.port_number() != 0 {
            return Ok(Vec::new());
        }
        let (mut rest, mut messages) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let message = NetlinkMessage::deserialize(rest)
                .map_err(|error| anyhow!("netlink: the kernel's answer can't be read: {error}"))?;
            // Each message starts at a multiple of four bytes.
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = &rest[length.min(rest.len())..];
            messages.push(message);
        }
        Ok(messages)
    }
}
// ANCHOR_END: talk

// ANCHOR: outcome
/// An acknowledgement is an error message with the code 0.
fn outcome(header: &NetlinkHeader, error: &ErrorMessage) -> Result<()> {
    let Some(code) = error.code else { return Ok(()) };
    let errno = anyhow!(Errno::from_raw(-code.get()));
    Err(match kernels_words(header, error) {
        Some(words) => errno.context(format!("the kernel says {words:?}")),
        None => errno,
    })
}

/// The sentence of an *extended acknowledgement*, where there is one.
fn kernels_words(header: &NetlinkHeader, error: &ErrorMessage) -> Option<String> {
    const NLMSGERR_ATTR_MSG: u16 = 1;
    const REQUEST_HEADER: usize = 16;
    if header.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    // The header of our request comes first, then the attributes.
    let attributes = NlasIterator::new(error.header.get(REQUEST_HEADER..)?);
    let words = attributes.flatten().find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)?;
    Some(String::from_utf8_lossy(words.value()).trim_end_matches('\0').to_string())
}
// ANCHOR_END: outcome

fn errno_of(error: std::io::Error) -> anyhow::Error {
    match error.raw_os_error() {
        Some(number) => anyhow!(Errno::from_raw(number)),
        None => anyhow!(error),
    }
}

/// Whether the kernel said `errno`.
fn is(error: &anyhow::Error, errno: Errno) -> bool {
    error.downcast_ref::<Errno>() == Some(&errno)
}
