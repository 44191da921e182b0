//! The proxy from ::1, spoken to as its clients and its server would.

mod forked;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use ch03_net::Publication;
use ch03_net::proxy::{self, Proxy};
use forked::Forked;
use testing::{Network, Sandbox, needs, process};

const LIMIT: Duration = Duration::from_secs(30);
/// Plays the container's address; its servers listen there, so that nothing else can answer.
const CONTAINER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn publications(texts: &[&str]) -> Vec<Publication> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A proxy in a thread, which ends with the test.
fn proxy(network: &Network, texts: &[&str]) {
    network.run(|| {
        let proxy = Proxy::bind(&publications(texts), CONTAINER).unwrap().expect("a proxy");
        // Born here: a thread is in the network namespace of the one that made it.
        thread::spawn(move || proxy.serve().unwrap());
    });
}

fn listen(network: &Network) -> TcpListener {
    network.run(|| TcpListener::bind((CONTAINER, 80))).unwrap()
}

fn connect(network: &Network) -> TcpStream {
    let client = network.run(|| TcpStream::connect((Ipv6Addr::LOCALHOST, 8080))).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client
}

/// Bytes that show where one is missing or out of place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

#[test]
fn each_direction_ends_by_itself() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let server = listen(sandbox.network());
    proxy(sandbox.network(), &["8080:80"]);
    let serving = thread::spawn(move || {
        let (mut client, _) = server.accept().unwrap();
        let mut request = Vec::new();
        client.read_to_end(&mut request).unwrap();
        // The request has come to its end; the answer begins only now.
        client.write_all(&request).unwrap();
    });
    let mut client = connect(sandbox.network());
    let request = pattern(3_000_000);
    client.write_all(&request).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(answer == request);
    serving.join().unwrap();
}

#[test]
fn a_sender_waits_for_a_slow_receiver_and_nothing_is_lost() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let server = listen(sandbox.network());
    proxy(sandbox.network(), &["8080:80"]);
    let mut client = connect(sandbox.network());
    let (mut slow, _) = server.accept().unwrap();
    client.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    slow.set_read_timeout(Some(LIMIT)).unwrap();
    let data = pattern(100_000_000);
    let mut sent = 0;
    let refusal = loop {
        match client.write(&data[sent..]) {
            Ok(count) => sent += count,
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(refusal, ErrorKind::WouldBlock);
    // The buffers of two connections; tcp_rmem and tcp_wmem allow some 10 MB each.
    assert!((1..40_000_000).contains(&sent), "{sent} bytes were taken though nobody reads");
    drop(client);
    let mut received = Vec::new();
    slow.read_to_end(&mut received).unwrap();
    assert!(received == data[..sent]);
}

#[test]
fn many_connections_go_on_at_once() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let server = listen(sandbox.network());
    proxy(sandbox.network(), &["8080:80"]);
    thread::spawn(move || {
        let clients: Vec<TcpStream> = (0..200).map(|_| server.accept().unwrap().0).collect();
        // No answer before all are there.
        for mut client in clients {
            let mut line = [0; 4];
            client.read_exact(&mut line).unwrap();
            client.write_all(&line).unwrap();
        }
    });
    let mut clients: Vec<TcpStream> = (0..200).map(|_| connect(sandbox.network())).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&(number as u32).to_ne_bytes()).unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let mut answer = [0; 4];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(u32::from_ne_bytes(answer), number as u32);
    }
}

#[test]
fn what_is_cut_off_does_not_look_complete() {
    needs!(Root);
    let sandbox = Sandbox::new();
    proxy(sandbox.network(), &["8080:80"]);
    let read = |mut client: TcpStream| client.read(&mut [0; 8]);
    // Nobody listens. The reset may come before connect(2) has returned.
    let answer = sandbox.network().run(|| TcpStream::connect((Ipv6Addr::LOCALHOST, 8080))).and_then(read);
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionReset);
    // The server goes without having read what it was sent, which is a reset.
    let server = listen(sandbox.network());
    let mut client = connect(sandbox.network());
    client.write_all(b"?").unwrap();
    let (accepted, _) = server.accept().unwrap();
    accepted.peek(&mut [0]).unwrap();
    drop(accepted);
    assert_eq!(read(client).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn answers_by_udp_find_back_to_who_has_asked() {
    needs!(Root);
    let sandbox = Sandbox::new();
    proxy(sandbox.network(), &["5353:53/udp"]);
    let server = sandbox.network().run(|| UdpSocket::bind((CONTAINER, 53))).unwrap();
    thread::spawn(move || {
        let mut datagram = vec![0; 65535];
        loop {
            let (length, client) = server.recv_from(&mut datagram).unwrap();
            server.send_to(&datagram[..length], client).unwrap();
        }
    });
    let clients: Vec<UdpSocket> = (0..20)
        .map(|_| sandbox.network().run(|| UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))).unwrap())
        .collect();
    for (number, client) in clients.iter().enumerate() {
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.send_to(&vec![number as u8; number], (Ipv6Addr::LOCALHOST, 5353)).unwrap();
    }
    let answer = |client: &UdpSocket| {
        let mut answer = vec![0; 65535];
        let length = client.recv(&mut answer).unwrap();
        answer[..length].to_vec()
    };
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(answer(client), vec![number as u8; number]);
    }
    // The largest one that IPv4 can carry.
    let largest = pattern(65507);
    clients[0].send_to(&largest, (Ipv6Addr::LOCALHOST, 5353)).unwrap();
    assert!(answer(&clients[0]) == largest);
}

#[test]
fn it_is_a_process_that_dies_with_its_parent() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let server = listen(sandbox.network());
    let mut parent = Forked::start(sandbox.network(), |says| {
        let child = proxy::start(&publications(&["8080:80"]), CONTAINER)?.expect("a proxy");
        writeln!(says, "{}", child.pid())?;
        loop {
            nix::unistd::pause();
        }
    });
    let line = parent.line();
    let pid: i32 = line.parse().unwrap_or_else(|_| panic!("{line}"));
    let mut client = connect(sandbox.network());
    server.accept().unwrap().0.write_all(b"answer").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");

    drop(parent);
    testing::poll(LIMIT, || (!process::exists(pid)).then_some(()));
    sandbox.network().run(|| TcpListener::bind((Ipv6Addr::LOCALHOST, 8080))).unwrap();
}

#[test]
fn there_is_none_where_nothing_is_published_at_all_addresses_or_the_host_has_no_ipv6() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let bind = |text: &str| sandbox.network().run(|| Proxy::bind(&publications(&[text]), CONTAINER));
    assert!(bind("127.0.0.1:8080:80").unwrap().is_none());
    let first = bind("8080:80").unwrap();
    let taken = bind("8080:80").unwrap_err();
    assert!(format!("{taken:#}").contains("port 8080/tcp of the host at ::1"), "{taken:#}");
    drop(first);
    sandbox.network().shell("echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6");
    assert!(bind("8080:80").unwrap().is_none());
    sandbox.network().shell("echo 0 > /proc/sys/net/ipv6/conf/lo/disable_ipv6");
}
