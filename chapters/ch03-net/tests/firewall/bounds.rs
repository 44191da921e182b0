//! Who can't reach whom.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use ch03_net::firewall::Firewall;
use testing::needs;

use crate::host::{FIRST, Host, SECOND, ask_tcp, firewall, serve_tcp};

#[test]
fn containers_reach_the_outside_and_a_neighbour_does_not_reach_them() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let host = Host::new();
    let container = host.container("hull0", FIRST);
    serve_tcp(&container, FIRST, 80);
    let outside = &host.neighbour.network;
    serve_tcp(outside, host.neighbour.address, 80);
    // Under the host's address: the neighbour knows no way to the container's.
    let seen = ask_tcp(&container, host.neighbour.address, 80).unwrap();
    assert_eq!(seen, host.neighbour.sandbox_address.to_string());

    outside.shell(&format!("ip route add 10.77.0.0/16 via {}", host.neighbour.sandbox_address));
    assert!(ask_tcp(outside, FIRST, 80).is_err());
    // It is the firewall that holds it back, and nothing else.
    host.shell("nft flush chain inet hull forward");
    assert!(ask_tcp(outside, FIRST, 80).is_ok());
    host.finish();
}

#[test]
fn containers_of_one_bridge_reach_each_other_and_those_of_two_do_not() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let host = Host::new();
    host.add_bridge("hull1", "10.78.0.1/16");
    let second_firewall = Firewall::new("hull1", "10.78.0.0/16".parse().unwrap());
    host.run(|| second_firewall.set_up()).unwrap();
    let (first, second) = (host.container("hull0", FIRST), host.container("hull0", SECOND));
    let stranger = host.container("hull1", Ipv4Addr::new(10, 78, 0, 2));
    serve_tcp(&second, SECOND, 80);
    assert_eq!(ask_tcp(&first, SECOND, 80).unwrap(), FIRST.to_string());
    assert!(ask_tcp(&stranger, SECOND, 80).is_err());
    // But what is published is public.
    host.publish(SECOND, &["8080:80"]);
    assert!(ask_tcp(&stranger, host.neighbour.sandbox_address, 8080).is_ok());

    host.run(|| second_firewall.tear_down()).unwrap();
    let table = host.shell("nft list table inet hull");
    assert!(table.contains("hull0") && !table.contains("hull1"), "{table}");
    host.finish();
}

#[test]
fn a_container_does_not_reach_the_host_s_127_0_0_1() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let host = Host::new();
    let container = host.container("hull0", FIRST);
    serve_tcp(host.sandbox.network(), Ipv4Addr::LOCALHOST, 9999);
    // What root inside can do: send packets for 127.0.0.1 out, and take the answers.
    container.shell(
        "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; ip route add 127.0.0.1 via 10.77.0.1 dev eth0",
    );
    assert!(ask_tcp(&container, Ipv4Addr::LOCALHOST, 9999).is_err());
    // Without the rule, route_localnet on the bridge would let it.
    host.shell("nft flush chain inet hull raw");
    assert!(ask_tcp(&container, Ipv4Addr::LOCALHOST, 9999).is_ok());
    host.finish();
}

#[test]
fn a_container_sends_under_no_address_of_others() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let host = Host::new();
    let container = host.container("hull0", FIRST);
    let forged = Ipv4Addr::new(192, 0, 2, 99);
    container.shell(&format!("ip addr add {forged}/32 dev eth0"));
    let (outside, place) = (&host.neighbour.network, host.neighbour.address);
    let receiver = outside.run(|| UdpSocket::bind((place, 7))).unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    let send = |source: Ipv4Addr| {
        let socket = container.run(|| UdpSocket::bind((source, 0))).unwrap();
        socket.send_to(b"?", (place, 7)).unwrap();
        receiver.recv(&mut [0; 8]).is_ok()
    };
    assert!(send(FIRST));
    assert!(!send(forged));
    host.shell("nft flush chain inet hull raw");
    assert!(send(forged));
    host.finish();
}

#[test]
fn to_repeat_a_change_changes_nothing() {
    needs!(Root, Tool("nft"), Tool("ip"), Tool("iptables-nft"));
    let host = Host::new();
    host.shell("iptables-nft -P FORWARD DROP");
    let all = || {
        host.run(|| firewall().set_up()).unwrap();
        host.admit();
        host.publish(FIRST, &["8080:80", "81:81/udp"]);
        // Rules get new numbers when they are made anew.
        host.shell("nft list ruleset")
    };
    assert_eq!(all(), all());
    host.run(|| {
        for _ in 0..2 {
            firewall().withdraw(FIRST).unwrap();
            firewall().tear_down().unwrap();
        }
    });
    host.shell("nft delete table ip filter");
    host.finish();
}
