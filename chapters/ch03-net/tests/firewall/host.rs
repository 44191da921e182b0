//! A host with a bridge and containers on it, put together with ip(8): the code under test is the firewall alone.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use ch03_net::firewall::{Blocked, Firewall};
use ch03_net::{Publication, Subnet, sysctl};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use testing::{Neighbour, Network, Sandbox};

/// What never comes is waited for this long. What comes takes less than a millisecond; the VM is slow.
const PATIENCE: Duration = Duration::from_millis(1500);

pub const FIRST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub const SECOND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

pub struct Host {
    // In the order in which they must go.
    pub neighbour: Neighbour,
    pub sandbox: Sandbox,
    pub directory: tempfile::TempDir,
}

impl Host {
    /// A host that forwards, with the bridge hull0, whose firewall is set up.
    pub fn new() -> Host {
        let mut sandbox = Sandbox::new();
        let neighbour = sandbox.neighbour();
        let host = Host { neighbour, sandbox, directory: tempfile::tempdir().unwrap() };
        host.run(|| sysctl::forwarding_on(&host.record())).unwrap();
        host.add_bridge("hull0", "10.77.0.1/16");
        host.run(|| firewall().set_up()).unwrap();
        host
    }

    pub fn record(&self) -> PathBuf {
        self.directory.path().join("sysctls")
    }

    pub fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        self.sandbox.network().run(action)
    }

    pub fn shell(&self, line: &str) -> String {
        self.sandbox.network().shell(line)
    }

    pub fn add_bridge(&self, name: &str, address: &str) {
        self.shell(&format!(
            "ip link add {name} type bridge; ip addr add {address} dev {name}; ip link set {name} up"
        ));
        self.run(|| sysctl::write_bridge(name)).unwrap();
    }

    /// A network namespace with `eth0` on the bridge.
    pub fn container(&self, bridge: &str, address: Ipv4Addr) -> Network {
        let network = new_network();
        let link = format!("c{}", address.to_bits() & 0xffffff);
        network.run(|| {
            self.shell(&format!("ip link add {link} type veth peer name eth0 netns {}", gettid()));
        });
        self.shell(&format!(
            "ip link set {link} master {bridge} up; ip link set {link} type bridge_slave hairpin on"
        ));
        let [a, b, ..] = address.octets();
        network.shell(&format!(
            "ip link set eth0 up; ip addr add {address}/16 dev eth0; ip route add default via {a}.{b}.0.1"
        ));
        network
    }

    pub fn admit(&self) -> Vec<Blocked> {
        self.run(|| firewall().admit()).unwrap()
    }

    pub fn publish(&self, container: Ipv4Addr, publications: &[&str]) {
        let publications: Vec<Publication> = publications.iter().map(|text| text.parse().unwrap()).collect();
        self.run(|| firewall().publish(container, &publications)).unwrap();
    }

    /// Takes all down again; that nothing is left is what the sandbox checks.
    pub fn finish(self) {
        self.run(|| firewall().tear_down()).unwrap();
        // A link that goes with its peer is gone before its turn.
        self.shell(
            "for link in $(ip -br link | grep -o -E '^(hull|c)[0-9]+'); do ip link del $link || true; done",
        );
        self.run(|| sysctl::restore(&self.record())).unwrap();
        self.sandbox.check();
    }
}

pub fn firewall() -> Firewall {
    Firewall::new("hull0", Subnet::DEFAULT)
}

fn new_network() -> Network {
    let made = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        Network::of(gettid().as_raw())
    });
    made.join().unwrap()
}

/// Answers each connection with the address that it came from, as the server sees it. Ends with the test.
pub fn serve_tcp(network: &Network, address: Ipv4Addr, port: u16) {
    let listener = network.run(|| TcpListener::bind((address, port))).unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let from = client.peer_addr().unwrap().ip().to_string();
            // A client of a test that must fail may be gone.
            client.write_all(from.as_bytes()).unwrap_or_default();
        }
    });
}

/// Answers each datagram in the same way.
pub fn serve_udp(network: &Network, address: Ipv4Addr, port: u16) {
    let socket = network.run(|| UdpSocket::bind((address, port))).unwrap();
    thread::spawn(move || {
        loop {
            let (_, from) = socket.recv_from(&mut [0; 64]).unwrap();
            socket.send_to(from.ip().to_string().as_bytes(), from).unwrap_or_default();
        }
    });
}

/// What a server answers: the address that it sees.
pub fn ask_tcp(network: &Network, address: Ipv4Addr, port: u16) -> io::Result<String> {
    network.run(|| {
        let mut server = TcpStream::connect_timeout(&SocketAddrV4::new(address, port).into(), PATIENCE)?;
        server.set_read_timeout(Some(PATIENCE))?;
        let mut answer = String::new();
        server.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

pub fn udp_client(network: &Network) -> UdpSocket {
    let socket = network.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub fn ask_udp(socket: &UdpSocket, address: Ipv4Addr, port: u16) -> io::Result<String> {
    socket.send_to(b"?", (address, port))?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}
