//! Published ports.

use std::net::Ipv4Addr;

use testing::needs;

use crate::host::{FIRST, Host, SECOND, ask_tcp, ask_udp, firewall, serve_tcp, serve_udp, udp_client};

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const GATEWAY: &str = "10.77.0.1";

/// Where `br_netfilter` is loaded, which Docker does, packets that stay on the bridge pass the firewall too.
#[test]
fn a_published_port_is_reached_from_everywhere() {
    needs!(Root, Tool("nft"), Tool("ip"));
    for netfilter_on_bridges in [false, true] {
        is_reached_from_everywhere(netfilter_on_bridges);
    }
}

fn is_reached_from_everywhere(netfilter_on_bridges: bool) {
    let host = Host::new();
    host.shell(&format!(
        "f=/proc/sys/net/bridge/bridge-nf-call-iptables; [ ! -e $f ] || echo {} > $f",
        u8::from(netfilter_on_bridges)
    ));
    let (container, other) = (host.container("hull0", FIRST), host.container("hull0", SECOND));
    serve_tcp(&container, Ipv4Addr::UNSPECIFIED, 80);
    serve_udp(&container, FIRST, 53);
    host.publish(FIRST, &["8080:80", "5353:53/udp"]);

    let (outside, itself) = (&host.neighbour.network, host.sandbox.network());
    let address = host.neighbour.sandbox_address;
    // The neighbour is seen as itself, the host too where its address is one that can be answered to.
    let neighbour = host.neighbour.address.to_string();
    for (from, to, seen) in [
        (outside, address, neighbour.as_str()),
        (itself, LOCALHOST, GATEWAY),
        (itself, address, &address.to_string()),
        (&other, address, GATEWAY),
        (&container, address, GATEWAY),
        (&container, GATEWAY.parse().unwrap(), GATEWAY),
    ] {
        let case = format!("to {to}, seen as {seen}, {netfilter_on_bridges}");
        assert_eq!(ask_tcp(from, to, 8080).expect(&case), seen, "tcp {case}");
        assert_eq!(ask_udp(&udp_client(from), to, 5353).expect(&case), seen, "udp {case}");
    }
    assert!(ask_tcp(outside, address, 80).is_err(), "the container's port is none of the host's");

    host.run(|| firewall().withdraw(FIRST)).unwrap();
    assert!(ask_tcp(outside, address, 8080).is_err());
    assert!(ask_udp(&udp_client(itself), LOCALHOST, 5353).is_err());
    host.finish();
}

#[test]
fn one_container_s_ports_are_withdrawn_and_the_other_s_stay() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let host = Host::new();
    let second = host.container("hull0", SECOND);
    serve_tcp(&second, SECOND, 80);
    host.publish(FIRST, &["8080:80", "127.0.0.1:8081:81"]);
    host.publish(SECOND, &["8082:80"]);
    host.run(|| firewall().withdraw(FIRST)).unwrap();
    assert!(!host.shell("nft list table inet hull").contains(&FIRST.to_string()));
    assert!(ask_tcp(&host.neighbour.network, host.neighbour.sandbox_address, 8082).is_ok());
    host.finish();
}

#[test]
fn a_udp_client_that_sent_before_the_port_was_published_is_let_in() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let host = Host::new();
    let container = host.container("hull0", FIRST);
    serve_udp(&container, FIRST, 53);
    let (client, address) = (udp_client(&host.neighbour.network), host.neighbour.sandbox_address);
    assert!(ask_udp(&client, address, 5353).is_err());
    host.publish(FIRST, &["5353:53/udp"]);
    assert_eq!(ask_udp(&client, address, 5353).unwrap(), host.neighbour.address.to_string());
    // And the flow does not outlive the port, or the next container with the address would get it.
    host.run(|| firewall().withdraw(FIRST)).unwrap();
    assert!(ask_udp(&client, address, 5353).is_err());
    host.finish();
}

#[test]
fn what_is_published_at_127_0_0_1_is_not_reached_by_a_neighbour() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let host = Host::new();
    let container = host.container("hull0", FIRST);
    serve_tcp(&container, FIRST, 80);
    host.publish(FIRST, &["127.0.0.1:8080:80"]);
    assert!(ask_tcp(host.sandbox.network(), LOCALHOST, 8080).is_ok());
    let (outside, address) = (&host.neighbour.network, host.neighbour.sandbox_address);
    assert!(ask_tcp(outside, address, 8080).is_err());
    // A neighbour who sends packets for 127.0.0.1 to the host, and takes the answers.
    outside.shell(&format!(
        "ip addr flush dev lo; echo 1 > /proc/sys/net/ipv4/conf/uplink/route_localnet; \
         ip route add 127.0.0.1 via {address} dev uplink"
    ));
    assert!(ask_tcp(outside, LOCALHOST, 8080).is_err());
    // Without the rule that is to prevent it, it does get in.
    host.shell(
        "nft flush chain inet hull prerouting; \
         nft add rule inet hull prerouting fib daddr type local dnat ip to ip daddr . tcp dport map @published_tcp",
    );
    assert!(ask_tcp(outside, LOCALHOST, 8080).is_ok());
    host.finish();
}
