//! Pass a descriptor to another process.
//!
//! A descriptor is a number in one process's table. Sent as a *control message* of the kind SCM_RIGHTS
//! through a Unix socket, it arrives as a new number in the receiver's table, for the same open file. Manual
//! pages: unix(7), cmsg(3).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;

// ANCHOR: message
/// One control message with one descriptor, as cmsg(3) lays it out: the header is aligned, and the data
/// follow it at once.
#[repr(C)]
struct Rights {
    header: libc::cmsghdr,
    descriptor: RawFd,
}

impl Rights {
    /// What `cmsg_len` counts: the header and the data, without what the structure ends with.
    const LENGTH: usize = size_of::<libc::cmsghdr>() + size_of::<RawFd>();

    fn new(descriptor: RawFd) -> Rights {
        // SAFETY: the header is integers only, and zero is a value of each.
        let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
        header.cmsg_len = Rights::LENGTH as _;
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = libc::SCM_RIGHTS;
        Rights { header, descriptor }
    }
}

/// Calls `transfer` with a message of `text` and `rights`; the message's pointers are good for the time of
/// the call.
fn with_message(
    text: &mut [u8],
    rights: &mut Rights,
    transfer: impl Fn(&mut libc::msghdr) -> isize,
) -> Result<usize, Errno> {
    let mut part = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
    // SAFETY: the structure is integers and pointers; zero and null mean "none".
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut *rights).cast();
    // Not the structure's size: in the bytes at its end the kernel would find room for a second descriptor.
    message.msg_controllen = Rights::LENGTH as _;
    loop {
        match Errno::result(transfer(&mut message)) {
            Err(Errno::EINTR) => continue,
            result => return result.map(|length| length as usize),
        }
    }
}
// ANCHOR_END: message

// ANCHOR: pass
/// Sends `descriptor`, with `text`, which must not be empty: a control message does not travel alone.
///
/// # Errors
///
/// sendmsg(2)'s errno.
pub fn send(socket: BorrowedFd, descriptor: BorrowedFd, text: &[u8]) -> Result<()> {
    let (mut text, mut rights) = (text.to_vec(), Rights::new(descriptor.as_raw_fd()));
    // SAFETY: sendmsg reads what the message points to, which lives through the call.
    let transfer = |message: &mut libc::msghdr| unsafe {
        libc::sendmsg(socket.as_raw_fd(), message, libc::MSG_NOSIGNAL)
    };
    with_message(&mut text, &mut rights, transfer).context("sendmsg of a descriptor")?;
    Ok(())
}

/// Receives a descriptor. It is close-on-exec.
///
/// # Errors
///
/// recvmsg(2)'s errno; a message without a descriptor, or the end of the stream.
pub fn receive(socket: BorrowedFd) -> Result<OwnedFd> {
    let (mut text, mut rights) = ([0; 4096], Rights::new(-1));
    // A message without a descriptor leaves the structure as it is.
    rights.header.cmsg_len = 0;
    // SAFETY: recvmsg writes into what the message points to, at most as much as the lengths say.
    let transfer = |message: &mut libc::msghdr| unsafe {
        libc::recvmsg(socket.as_raw_fd(), message, libc::MSG_CMSG_CLOEXEC)
    };
    with_message(&mut text, &mut rights, transfer).context("recvmsg of a descriptor")?;
    let Rights { header, descriptor } = rights;
    let is_one = header.cmsg_len == Rights::LENGTH as _;
    let is_descriptor = (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
    ensure!(is_one && is_descriptor, "recvmsg of a descriptor: none came; the sender is gone");
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
// ANCHOR_END: pass

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    use super::{Rights, receive, send};

    #[test]
    fn the_same_open_file_arrives() {
        let (here, there) = UnixStream::pair().unwrap();
        let file = File::open("/dev/zero").unwrap();
        send(here.as_fd(), file.as_fd(), b"x").unwrap();
        let received = File::from(receive(there.as_fd()).unwrap());
        assert_eq!(received.metadata().unwrap().rdev(), file.metadata().unwrap().rdev());
    }

    #[test]
    fn of_two_descriptors_one_arrives_and_none_leaks() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut reader, writer) = UnixStream::pair().unwrap();
        reader.set_nonblocking(true).unwrap();
        send_two(&here, [File::open("/dev/zero").unwrap(), OwnedFd::from(writer).into()]);
        let received = receive(there.as_fd()).unwrap();
        // The end of file: nobody holds the second one any more.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        drop(received);
    }

    /// What a peer that is not ours may send.
    fn send_two(socket: &UnixStream, files: [File; 2]) {
        #[repr(C)]
        struct Two {
            header: libc::cmsghdr,
            descriptors: [RawFd; 2],
        }
        let mut rights =
            Two { header: Rights::new(0).header, descriptors: [files[0].as_raw_fd(), files[1].as_raw_fd()] };
        rights.header.cmsg_len = size_of::<Two>() as _;
        let mut part = libc::iovec { iov_base: c"x".as_ptr().cast_mut().cast(), iov_len: 1 };
        // SAFETY: zero and null mean "none"; what the message points to lives through the call.
        let sent = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = (&raw mut rights).cast();
            message.msg_controllen = size_of::<Two>() as _;
            libc::sendmsg(socket.as_raw_fd(), &message, 0)
        };
        assert_eq!(sent, 1);
    }

    #[test]
    fn a_message_without_a_descriptor_is_an_error() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(b"x").unwrap();
        assert!(receive(there.as_fd()).is_err());
        drop(here);
        assert!(receive(there.as_fd()).is_err());
    }
}
