//! Published ports, and who reaches whom.

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::{LIMIT, address, answer_one, end, get, get_soon, init, inside, lesson, start, web_server};
use testing::{Network, Program, Sandbox, needs, poll};

#[test]
fn a_published_port_is_reached_from_the_host_and_from_elsewhere() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let mut sandbox = Sandbox::new();
    let neighbour = sandbox.neighbour();
    let server = web_server(&sandbox, &["--publish", "8080:80"], "hello");
    let host = sandbox.network();
    assert_eq!(get_soon(host, Ipv4Addr::LOCALHOST, 8080), "hello");
    assert_eq!(get_soon(host, neighbour.sandbox_address, 8080), "hello");
    assert_eq!(get_soon(host, Ipv6Addr::LOCALHOST, 8080), "hello");
    assert_eq!(get_soon(&neighbour.network, neighbour.sandbox_address, 8080), "hello");
    end(server);
    let refused = get(host, Ipv4Addr::LOCALHOST, 8080).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    sandbox.check();
}

#[test]
fn a_port_published_at_127_0_0_1_is_the_host_s_alone() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let mut sandbox = Sandbox::new();
    let neighbour = sandbox.neighbour();
    let server = web_server(&sandbox, &["--publish", "127.0.0.1:8080:80"], "hello");
    assert_eq!(get_soon(sandbox.network(), Ipv4Addr::LOCALHOST, 8080), "hello");
    get(sandbox.network(), neighbour.sandbox_address, 8080).unwrap_err();
    get(&neighbour.network, neighbour.sandbox_address, 8080).unwrap_err();
    end(server);
    sandbox.check();
}

#[test]
fn a_container_is_not_reached_around_its_published_ports() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let mut sandbox = Sandbox::new();
    let neighbour = sandbox.neighbour();
    let server = web_server(&sandbox, &["--publish", "8080:80"], "hello");
    let container = address(&server);
    assert_eq!(get_soon(sandbox.network(), container, 80), "hello");
    neighbour.network.shell(&format!("ip route add {container} via {}", neighbour.sandbox_address));
    get(&neighbour.network, container, 80).unwrap_err();
    end(server);
    sandbox.check();
}

/// The next packet, and where it came from.
fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut packet = [0; 64];
    let (length, from) = socket.recv_from(&mut packet).expect("a packet");
    (String::from_utf8_lossy(&packet[..length]).into(), from)
}

#[test]
fn a_udp_port_is_published_too() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let mut sandbox = Sandbox::new();
    let neighbour = sandbox.neighbour();
    let program = lesson().in_sandbox(&sandbox).args(["-p", "5353:53/udp"]);
    let container = start(program, "echo ready; exec sleep 300");
    // busybox has no server for UDP, so the test puts its own socket into the container's namespace.
    let server = Network::of(init(&container)).run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap());
    for (network, to) in [
        (sandbox.network(), IpAddr::V4(Ipv4Addr::LOCALHOST)),
        (sandbox.network(), IpAddr::V6(Ipv6Addr::LOCALHOST)),
        (sandbox.network(), IpAddr::V4(neighbour.sandbox_address)),
        (&neighbour.network, IpAddr::V4(neighbour.sandbox_address)),
    ] {
        let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let client = network.run(|| UdpSocket::bind(any).unwrap());
        client.connect((to, 5353)).unwrap();
        client.send(b"question").unwrap();
        let (question, from) = receive(&server);
        assert_eq!(question, "question");
        // The client is connected: it takes an answer from no other address than the one that it asked.
        server.send_to(b"answer", from).unwrap();
        assert_eq!(receive(&client).0, "answer");
    }
    end(container);
    sandbox.check();
}

#[test]
fn a_port_that_is_taken_is_named() {
    needs!(Root, Tool("nft"));
    let sandbox = Sandbox::new();
    let _taken = sandbox.network().run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).unwrap());
    let output = lesson().in_sandbox(&sandbox).args(["-p", "8080:80", "--", "true"]).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("8080/tcp") && output.stderr.contains("EADDRINUSE"), "{output}");
    sandbox.check();
}

#[test]
fn the_host_is_no_router_between_its_other_networks_for_a_container_s_sake() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let mut sandbox = Sandbox::new();
    let neighbour = sandbox.neighbour();
    // A second network of the host's, with a server that would answer.
    let second = Network::new();
    let plug = |link: &str, network: u8| {
        let line = format!("ip link add {link} type veth peer name {link} netns");
        second.run(|| sandbox.network().shell(&format!("{line} {}", nix::unistd::gettid())));
        let [ours, theirs] = [1, 2].map(|host| format!("ip address add 198.51.{network}.{host}/24"));
        second.shell(&format!("{theirs} dev {link}; ip link set {link} up"));
        sandbox.network().shell(&format!("{ours} dev {link}; ip link set {link} up"));
        neighbour
            .network
            .shell(&format!("ip route add 198.51.{network}.0/24 via {}", neighbour.sandbox_address));
    };
    plug("vpn", 100);
    second.shell(&format!("ip route add {} via 198.51.100.1", neighbour.address));
    let server = second.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 9000)).unwrap());
    std::thread::spawn(move || server.incoming().for_each(drop));
    let reaches = |network| {
        let server = SocketAddr::from(([198, 51, network, 2], 9000));
        let connect = || TcpStream::connect_timeout(&server, Duration::from_secs(1));
        neighbour.network.run(connect).is_ok()
    };
    let soon_reaches = |network| poll(LIMIT, || reaches(network).then_some(()));
    assert!(!reaches(100));

    let container = start(lesson().in_sandbox(&sandbox), "echo ready; exec sleep 300");
    assert!(!reaches(100));
    // A link that came later is of somebody who found forwarding on.
    plug("later", 101);
    second.shell(&format!("ip route replace {} via 198.51.101.1", neighbour.address));
    soon_reaches(101);
    second.shell(&format!("ip route replace {} via 198.51.100.1", neighbour.address));
    sandbox.network().shell("nft flush set inet hull closed");
    // It is our rule that held it back, and nothing else.
    soon_reaches(100);
    end(container);
    sandbox.network().shell("ip link delete vpn; ip link delete later");
    sandbox.check();
}

#[test]
fn containers_on_one_bridge_reach_each_other() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let sandbox = Sandbox::new();
    let server = web_server(&sandbox, &["--publish", "8080:80"], "hello");
    get_soon(sandbox.network(), Ipv4Addr::LOCALHOST, 8080);
    // At its own address, and at the port that it has on the host.
    let script = format!("wget -q -O - http://{}/ && wget -q -O - http://10.77.0.1:8080/", address(&server));
    let output = inside(lesson().in_sandbox(&sandbox), &script);
    assert_eq!(output.stdout, "hello\nhello\n", "{output}");
    end(server);
    sandbox.check();
}

#[test]
fn a_container_reaches_the_internet_from_the_host_s_address() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let mut sandbox = Sandbox::new();
    let neighbour = sandbox.neighbour();
    let server = neighbour.network.run(|| TcpListener::bind((neighbour.address, 9000)).unwrap());
    let client = answer_one(server);
    let script = format!("nc {} 9000", neighbour.address);
    let output = inside(lesson().in_sandbox(&sandbox), &script);
    assert_eq!(output.code, Some(0), "{output}");
    assert_eq!(client.join().unwrap(), neighbour.sandbox_address);
    sandbox.check();
}

#[test]
fn another_s_firewall_that_drops_is_mended_while_a_container_lives() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let mut sandbox = Sandbox::new();
    let neighbour = sandbox.neighbour();
    let host = sandbox.network().clone();
    // As Docker leaves it.
    host.shell(
        "nft add table ip filter;
        nft add chain ip filter FORWARD '{ type filter hook forward priority filter; policy drop; }'",
    );
    let before = host.shell("nft --stateless list ruleset");
    let server = neighbour.network.run(|| TcpListener::bind((neighbour.address, 9000)).unwrap());
    let client = answer_one(server);
    let container = web_server(&sandbox, &["--publish", "8080:80"], "hello");
    assert_eq!(get_soon(&neighbour.network, neighbour.sandbox_address, 8080), "hello");
    let script = format!("nc {} 9000", neighbour.address);
    let output = inside(lesson().in_sandbox(&sandbox), &script);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output}");
    client.join().unwrap();
    end(container);
    assert_eq!(host.shell("nft --stateless list ruleset"), before);
    host.shell("nft delete table ip filter");
    sandbox.check();
}

#[test]
fn a_firewall_that_can_t_be_mended_is_told_of_with_quiet_too() {
    needs!(Root, Tool("nft"));
    let sandbox = Sandbox::new();
    let directory = tempfile::tempdir().unwrap();
    // Like firewalld, which owns its table as long as it runs. The shell keeps the pipe open, so nft waits for more.
    let pipe = directory.path().join("pipe").display().to_string();
    let owner = Program::new("sh")
        .args(["-ec", &format!("mkfifo {pipe}; exec 3<>{pipe}; cat >&3; exec nft -i <&3")])
        .stdin(
            "add table inet firewalld { flags owner; }\n\
             add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy drop; }\n",
        )
        .in_network(sandbox.network())
        .spawn();
    let list = || sandbox.network().shell("nft list ruleset");
    poll(LIMIT, || list().contains("filter_FORWARD").then_some(()));
    let output = lesson().in_sandbox(&sandbox).args(["--", "true"]).run();
    assert_eq!(output.code, Some(0), "{output}");
    assert!(output.stderr.starts_with("warning: ") && output.stderr.contains("firewall-cmd"), "{output}");
    owner.signal(libc::SIGKILL);
    owner.wait();
    poll(LIMIT, || list().is_empty().then_some(()));
    sandbox.check();
}
