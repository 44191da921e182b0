//! Claims about links, addresses, routes and limits, read back by `ip` and `tc`.

use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::thread;

use ch03_net::netlink::link::{self, Peer};
use ch03_net::netlink::{Netlink, address, qdisc, route};
use ch03_net::{Namespace, interface, loopback};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use testing::needs;

/// Runs `action` in a thread in a new network namespace.
fn in_a_namespace<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        action()
    });
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn netlink() -> Netlink {
    Netlink::open().unwrap()
}

#[test]
fn a_thread_comes_back_from_a_namespace_whatever_happens_there() {
    needs!(Root);
    let other = in_a_namespace(|| Namespace::here().unwrap());
    in_a_namespace(move || {
        let inode = || Namespace::here().unwrap().inode().unwrap();
        let here = inode();
        assert_eq!(other.run(|| Ok(inode())).unwrap(), other.inode().unwrap());
        assert_eq!(inode(), here);
        other.run(|| -> anyhow::Result<()> { anyhow::bail!("an error") }).unwrap_err();
        assert_eq!(inode(), here);
        catch_unwind(AssertUnwindSafe(|| other.run(|| -> anyhow::Result<()> { panic!("on purpose") })))
            .unwrap_err();
        assert_eq!(inode(), here);
    });
}

#[test]
fn lo_comes_up_with_its_address() {
    needs!(Root, Tool("ip"));
    in_a_namespace(|| {
        assert!(run("ip -o link show lo").contains("state DOWN"));
        loopback::up().unwrap();
        assert!(run("ip -o address show lo").contains("127.0.0.1/8"));
        // A second time changes nothing.
        loopback::up().unwrap();
    });
}

#[test]
fn a_bridge_keeps_its_hardware_address_when_a_port_comes() {
    needs!(Root, Tool("ip"));
    in_a_namespace(|| {
        let mut netlink = netlink();
        link::create_bridge(&mut netlink, "b", [2, 0x68, 10, 0, 0, 1]).unwrap();
        let bridge = link::find(&mut netlink, "b").unwrap().unwrap();
        assert!(bridge.is_bridge);
        // One with a lower address, by which it would else go.
        run("ip link add port address 02:00:00:00:00:01 type veth peer name other");
        link::set_master(&mut netlink, "port", &bridge).unwrap();
        assert!(run("ip -o link show b").contains("link/ether 02:68:0a:00:00:01"));
        assert!(run("ip -o link show port").contains("master b"));
        let ports = link::ports(&mut netlink, bridge.index).unwrap();
        assert_eq!(ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["port"]);
    });
}

#[test]
fn the_far_end_of_a_pair_appears_in_the_other_namespace_alone() {
    needs!(Root, Tool("ip"));
    let container = in_a_namespace(|| Namespace::here().unwrap());
    in_a_namespace(move || {
        let mut netlink = netlink();
        let peer = Peer { name: "eth0", mac: [2, 0x68, 10, 0, 0, 2], namespace: &container };
        link::create_pair(&mut netlink, "near", &peer).unwrap();
        assert_eq!(link::find(&mut netlink, "eth0").unwrap(), None);
        let far = container.run(|| Ok(run("ip -o link show eth0"))).unwrap();
        assert!(far.contains("link/ether 02:68:0a:00:00:02"), "{far}");
        // The end here takes the other one with it.
        link::delete(&mut netlink, "near").unwrap();
        let left = container.run(|| Ok(run("ip -o link show"))).unwrap();
        assert_eq!(left.lines().count(), 1, "{left}");
        // There is nothing to delete any more, which is what was asked for.
        link::delete(&mut netlink, "near").unwrap();
    });
}

#[test]
fn an_error_has_its_errno_and_the_kernel_s_own_words() {
    needs!(Root);
    in_a_namespace(|| {
        let mut netlink = netlink();
        link::create_bridge(&mut netlink, "b", [2, 0, 0, 0, 0, 1]).unwrap();
        let error = link::create_bridge(&mut netlink, "b", [2, 0, 0, 0, 0, 1]).unwrap_err();
        assert_eq!(error.downcast_ref::<Errno>(), Some(&Errno::EEXIST));
        assert!(error.to_string().contains("make the bridge \"b\""), "{error}");
        let error = route::add_default(&mut netlink, "b", Ipv4Addr::new(192, 0, 2, 1)).unwrap_err();
        let words = format!("{error:#}");
        assert!(words.contains("the kernel says \""), "{words}");
    });
}

#[test]
fn a_link_that_is_not_there_is_named() {
    needs!(Root);
    in_a_namespace(|| {
        let address = interface::Address {
            address: Ipv4Addr::new(192, 0, 2, 2),
            prefix: 24,
            gateway: Ipv4Addr::new(192, 0, 2, 1),
        };
        let error = interface::configure("eth0", &address).unwrap_err();
        assert!(error.to_string().contains("there is no link \"eth0\""), "{error}");
    });
}

#[test]
fn an_address_brings_a_route_and_both_are_listed() {
    needs!(Root, Tool("ip"));
    in_a_namespace(|| {
        run("ip link add link0 type bridge");
        let (mut netlink, own) = (netlink(), Ipv4Addr::new(192, 0, 2, 2));
        address::add(&mut netlink, "link0", own, 24).unwrap();
        address::add(&mut netlink, "link0", own, 24).unwrap();
        link::set_up(&mut netlink, "link0").unwrap();
        route::add_default(&mut netlink, "link0", Ipv4Addr::new(192, 0, 2, 1)).unwrap();
        assert_eq!(run("ip -4 -o address show link0").matches("192.0.2.2/24").count(), 1);
        assert_eq!(address::list(&mut netlink, "link0").unwrap(), [(own, 24)]);
        let routes = route::list(&mut netlink).unwrap();
        let mut shown: Vec<_> = routes.iter().map(ToString::to_string).collect();
        shown.sort();
        assert_eq!(shown, ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.2/32", "192.0.2.255/32"]);
    });
}

#[test]
fn a_list_that_takes_many_messages_is_complete() {
    needs!(Root, Tool("ip"));
    in_a_namespace(|| {
        run("ip link add link0 type bridge; ip link set link0 up
             for a in $(seq 0 19); do for b in $(seq 0 99); do echo route add 10.9.$a.$b dev link0; done; done | ip -batch -");
        assert_eq!(route::list(&mut netlink()).unwrap().len(), 2000);
    });
}

#[test]
fn a_limit_is_read_back_as_it_was_asked_for() {
    needs!(Root, Tool("tc"), Tool("ip"));
    in_a_namespace(|| {
        run("ip link add link0 type bridge");
        for (rate, shown) in [("1mbit", "1Mbit"), ("10gbit", "10Gbit"), ("80gbit", "80Gbit")] {
            // The second one replaces the first one.
            qdisc::limit(&mut netlink(), "link0", rate.parse().unwrap()).unwrap();
            let qdiscs = run("tc qdisc show dev link0");
            assert!(qdiscs.contains("qdisc tbf") && qdiscs.contains(&format!("rate {shown} ")), "{qdiscs}");
            assert_eq!(qdiscs.lines().count(), 1, "{qdiscs}");
        }
    });
}
