//! What root inside can do with frames of its own making.

mod common;

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use common::{LIMIT, end, init, lesson, start};
use nix::errno::Errno;
use testing::{Network, Sandbox, needs, poll};

const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// One of those that a bridge does not pass on: it gives what is sent there to the interface of the port.
const SWITCH: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x0e];

/// Sends a frame to the switch by the container's `eth0`.
fn send(container: &Network, protocol: i32, packet: &[u8]) {
    let frame = [&SWITCH[..], &[2, 0, 0, 0, 0, 9], &(protocol as u16).to_be_bytes(), packet].concat();
    container.run(|| {
        // SAFETY: the structure is plain data, of which zero is a value; it and the frame live through the calls.
        unsafe {
            let mut place: libc::sockaddr_ll = std::mem::zeroed();
            place.sll_family = libc::AF_PACKET as u16;
            place.sll_ifindex = libc::if_nametoindex(c"eth0".as_ptr()) as i32;
            let socket = Errno::result(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)).unwrap();
            let (to, length) = ((&raw const place).cast(), size_of_val(&place) as u32);
            let sent = libc::sendto(socket, frame.as_ptr().cast(), frame.len(), 0, to, length);
            assert_eq!(Errno::result(sent).unwrap() as usize, frame.len());
            libc::close(socket);
        }
    });
}

/// The Internet checksum, of an even number of bytes: RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum >> 16) + (sum & 0xffff);
    (!((sum >> 16) + sum) as u16).to_be_bytes()
}

/// A datagram from port 7 to port 7 of the host, in IPv4.
fn datagram(source: Ipv4Addr) -> Vec<u8> {
    let start = [0x45, 0, 0, 30, 0, 1, 0, 0, 64, 17, 0, 0];
    let mut header = [&start[..], &source.octets(), &HOST.octets()].concat();
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [&header[..], &[0, 7, 0, 7, 0, 10, 0, 0], b"??"].concat()
}

/// "I am a router, and 2001:db8::/64 is here", in IPv6: RFC 4861.
fn router_advertisement() -> Vec<u8> {
    let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    let addresses = [octets("fe80::9"), octets("ff02::1")].concat();
    let router = [134, 0, 0, 0, 64, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    let prefix = [3, 4, 64, 0xc0, 0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
    let mut message = [router, prefix, octets("2001:db8::")].concat();
    let length = message.len() as u8;
    let sum = checksum(&[&addresses[..], &[0, 0, 0, length, 0, 0, 0, 58], &message].concat());
    message[2..4].copy_from_slice(&sum);
    [&[0x60, 0, 0, 0, 0, length, 58, 255], &addresses[..], &message].concat()
}

#[test]
fn frames_for_the_switch_itself_do_not_lead_past_the_rules_of_the_bridge() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let sandbox = Sandbox::new();
    let running = start(lesson().in_sandbox(&sandbox), "echo ready; exec sleep 300");
    let (host, container) = (sandbox.network(), Network::of(init(&running)));
    let receiver = host.run(|| UdpSocket::bind((HOST, 7))).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let forged = || {
        send(&container, libc::ETH_P_IP, &datagram(Ipv4Addr::new(192, 0, 2, 99)));
        receiver.recv(&mut [0; 8])
    };
    let has_ipv6 = Path::new("/proc/sys/net/ipv6").exists();
    let line = if has_ipv6 { "ip -6 route show default; ip -6 -o addr show scope global" } else { ":" };
    let learned = || host.shell(line);
    forged().unwrap_err();
    send(&container, libc::ETH_P_IPV6, &router_advertisement());
    assert_eq!(learned(), "");

    // Without what is to prevent it, both do get in.
    host.shell(
        "cd /proc/sys/net; echo 0 > ipv4/conf/hull0a4d0002/drop_unicast_in_l2_multicast
        [ ! -e ipv6 ] || echo 0 > ipv6/conf/hull0a4d0002/disable_ipv6",
    );
    forged().unwrap();
    if has_ipv6 {
        // An interface that has just got its address is not ready at once.
        poll(LIMIT, || {
            send(&container, libc::ETH_P_IPV6, &router_advertisement());
            (learned().contains("2001:db8:") && learned().contains("default via fe80::9")).then_some(())
        });
    }
    // What is sent as it should be arrives.
    let sender = container.run(|| UdpSocket::bind((CONTAINER, 0))).unwrap();
    sender.send_to(b"?", (HOST, 7)).unwrap();
    receiver.recv(&mut [0; 8]).unwrap();
    end(running);
    sandbox.check();
}
