//! Messages to and from the bus. The crate rustbus writes and reads them; the connection is our own, since its
//! own names the user by the uid that getuid(2) tells, which in a user namespace is not the one the bus sees.
//!
//! [D-Bus specification](https://dbus.freedesktop.org/doc/dbus-specification.html).

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustbus::message_builder::marshal_as_variant;
use rustbus::message_builder::{MarshalledMessage, MessageBuilder, MessageType};
use rustbus::signature::{self, Type};
use rustbus::wire::marshal::MarshalContext;
use rustbus::wire::{errors::MarshalError, marshal, unmarshal};
use rustbus::{Marshal, Signature, Unmarshal};

use super::properties::{Property, Value};

const BUS: &str = "org.freedesktop.DBus";

/// How long an answer may take. systemd gives most things 90 seconds.
const LIMIT: Duration = Duration::from_secs(100);

/// A connection to a message bus.
pub struct Bus {
    stream: BufReader<UnixStream>,
    /// The number of the last message that we sent.
    serial: u32,
    /// Signals that came while we waited for something else.
    signals: VecDeque<MarshalledMessage>,
}

/// What the other side answers instead of doing it.
#[derive(Debug)]
pub struct Refused {
    /// `org.freedesktop.systemd1.NoSuchUnit`.
    pub name: String,
    text: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.text, self.name)
    }
}

impl std::error::Error for Refused {}

/// A call of a method, with its arguments.
pub struct Call {
    message: MarshalledMessage,
}

impl Call {
    pub fn new(destination: &str, object: &str, interface: &str, method: &str) -> Call {
        let builder = MessageBuilder::new().call(method).with_interface(interface).on(object).at(destination);
        Call { message: builder.build() }
    }

    /// Adds an argument.
    pub fn push(&mut self, argument: impl Marshal) -> Result<&mut Call> {
        let pushed = self.message.body.push_param(argument);
        pushed.with_context(|| format!("write the arguments of {:?}", self.message.dynheader.member))?;
        Ok(self)
    }
}

/// The answer to a call, or a signal.
pub struct Reply(MarshalledMessage);

impl Reply {
    /// The first of its values.
    pub fn get<T>(&self) -> Result<T>
    where
        T: for<'body, 'descriptors> Unmarshal<'body, 'descriptors>,
    {
        self.0.body.parser().get().with_context(|| self.unexpected())
    }

    /// The first four of its values.
    pub fn get4<A, B, C, D>(&self) -> Result<(A, B, C, D)>
    where
        A: for<'body, 'descriptors> Unmarshal<'body, 'descriptors>,
        B: for<'body, 'descriptors> Unmarshal<'body, 'descriptors>,
        C: for<'body, 'descriptors> Unmarshal<'body, 'descriptors>,
        D: for<'body, 'descriptors> Unmarshal<'body, 'descriptors>,
    {
        self.0.body.parser().get4().with_context(|| self.unexpected())
    }

    fn unexpected(&self) -> String {
        format!("a message of the type {:?}", self.0.get_sig())
    }
}

impl Bus {
    pub fn connect(socket: &str) -> Result<Bus> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut bus = Bus { stream: BufReader::new(stream), serial: 0, signals: VecDeque::new() };
        bus.authenticate().context("authenticate")?;
        bus.call(Call::new(BUS, "/org/freedesktop/DBus", BUS, "Hello"))?;
        Ok(bus)
    }

    // ANCHOR: authenticate
    /// EXTERNAL: the kernel tells the other side who we are (SO_PEERCRED). The empty DATA stands for: whoever that
    /// is.
    fn authenticate(&mut self) -> Result<()> {
        self.stream.get_mut().write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for expected in ["DATA", "OK"] {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            ensure!(
                line.starts_with(expected),
                "the bus does not take us for this user: {:?}",
                line.trim_end()
            );
        }
        Ok(())
    }
    // ANCHOR_END: authenticate

    // ANCHOR: call
    /// Calls a method and waits for the answer.
    ///
    /// # Errors
    ///
    /// [`Refused`] in the chain, if that is the answer.
    pub fn call(&mut self, call: Call) -> Result<Reply> {
        self.serial += 1;
        let mut bytes = Vec::new();
        marshal::marshal(&call.message, self.serial, &mut bytes)?;
        bytes.extend(call.message.get_buf());
        self.stream.get_mut().write_all(&bytes).context("write to the message bus")?;
        loop {
            let message = self.read().context("read from the message bus")?;
            match message.typ {
                MessageType::Signal => self.signals.push_back(message),
                _ if message.dynheader.response_serial != Some(self.serial) => {}
                MessageType::Error => {
                    let text = message.body.parser().get().unwrap_or_default();
                    let name = message.dynheader.error_name.unwrap_or_default();
                    return Err(Refused { name, text }.into());
                }
                _ => return Ok(Reply(message)),
            }
        }
    }
    // ANCHOR_END: call

    /// A property of an object.
    pub fn property<T>(&mut self, destination: &str, object: &str, interface: &str, name: &str) -> Result<T>
    where
        T: for<'body, 'descriptors> Unmarshal<'body, 'descriptors>,
    {
        let mut call = Call::new(destination, object, "org.freedesktop.DBus.Properties", "Get");
        call.push(interface)?.push(name)?;
        let reply = self.call(call).with_context(|| format!("get the property {name} of {object}"))?;
        let variant: unmarshal::traits::Variant = reply.0.body.parser().get()?;
        variant.get().with_context(|| format!("the property {name} of {object}"))
    }

    /// Asks for the signals that match a rule.
    pub fn listen(&mut self, rule: &str) -> Result<()> {
        let mut call = Call::new(BUS, "/org/freedesktop/DBus", BUS, "AddMatch");
        call.push(rule)?;
        self.call(call).map(drop).with_context(|| format!("listen for {rule}"))
    }

    /// Waits for a signal of which `wanted` makes something. Those before it are dropped.
    pub fn wait_for_signal<T>(
        &mut self,
        name: &str,
        wanted: impl Fn(Reply) -> Result<Option<T>>,
    ) -> Result<T> {
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None => self.read().with_context(|| format!("wait for the signal {name}"))?,
            };
            if message.typ == MessageType::Signal && message.dynheader.member.as_deref() == Some(name) {
                if let Some(value) = wanted(Reply(message))? {
                    return Ok(value);
                }
            }
        }
    }

    /// Reads one message: a head of fixed length, in which are the lengths of what follows.
    fn read(&mut self) -> Result<MarshalledMessage> {
        const LENGTH_OF_FIELDS: usize = 4;
        let mut bytes = vec![0; unmarshal::HEADER_LEN + LENGTH_OF_FIELDS];
        self.stream.read_exact(&mut bytes)?;
        let (_, header) = unmarshal::unmarshal_header(&bytes, 0)?;
        let (_, fields) = rustbus::wire::util::parse_u32(&bytes[unmarshal::HEADER_LEN..], header.byteorder)?;
        let head = (bytes.len() + fields as usize).next_multiple_of(8);
        bytes.resize(head + header.body_len as usize, 0);
        self.stream.read_exact(&mut bytes[unmarshal::HEADER_LEN + LENGTH_OF_FIELDS..])?;
        let (fields, dynamic) = unmarshal::unmarshal_dynamic_header(&header, &bytes, unmarshal::HEADER_LEN)?;
        let (_, message) =
            unmarshal::unmarshal_next_message(&header, dynamic, &bytes, unmarshal::HEADER_LEN + fields)?;
        Ok(message)
    }
}

/// `(sv)`: a name, and a value that says of which type it is.
impl Signature for Property {
    fn signature() -> Type {
        let fields = vec![String::signature(), Type::Container(signature::Container::Variant)];
        let fields = signature::StructTypes::new(fields).expect("a struct with fields");
        Type::Container(signature::Container::Struct(fields))
    }

    fn alignment() -> usize {
        8
    }

    fn has_sig(signature: &str) -> bool {
        signature == "(sv)"
    }
}

impl Marshal for Property {
    fn marshal(&self, context: &mut MarshalContext) -> Result<(), MarshalError> {
        context.align_to(Self::alignment());
        self.name.marshal(context)?;
        let (order, buffer, descriptors) = (context.byteorder, &mut *context.buf, &mut *context.fds);
        match &self.value {
            Value::Bool(value) => marshal_as_variant(value, order, buffer, descriptors),
            Value::Number(value) => marshal_as_variant(value, order, buffer, descriptors),
            Value::String(value) => marshal_as_variant(value, order, buffer, descriptors),
            Value::Strings(value) => marshal_as_variant(value, order, buffer, descriptors),
            Value::StringPairs(value) => marshal_as_variant(value, order, buffer, descriptors),
            Value::Bytes(value) => marshal_as_variant(value, order, buffer, descriptors),
            Value::Numbers32(value) => marshal_as_variant(value, order, buffer, descriptors),
        }
    }
}
