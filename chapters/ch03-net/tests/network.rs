//! Claims about leases and the bridge, on a host of the test's own: a thread in a network namespace and with a /run
//! that nobody else has. A lease that is detached is one whose owner was killed: its descriptor is closed.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;

use ch03_net::{Lease, Namespace, Network, Options, Subnet, interface, loopback};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use testing::needs;

/// A program that another test starts has a copy of all our descriptors until its exec, and so holds for an instant
/// what this test has let go.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `action` on such a host, and checks that nothing is left there.
fn on_a_host(action: impl FnOnce() + Send + 'static) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let host = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        loopback::up().unwrap();
        testing::forward_nothing().unwrap();
        let before = forwarding();
        action();
        assert_eq!(links(), ["lo"]);
        assert_eq!(run("nft list ruleset"), "");
        assert_eq!(forwarding(), before);
        assert_eq!(fs::read_dir("/run/hull/network").unwrap().count(), 0);
    });
    host.join().unwrap_or_else(|panic| resume_unwind(panic));
}

/// What a shell command prints, run in the calling thread's namespaces.
fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn links() -> Vec<String> {
    let table = run("ip -o link show");
    let name = |line: &str| line.split([':', '@']).nth(1).unwrap().trim().to_string();
    table.lines().map(name).collect()
}

fn forwarding() -> String {
    fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap()
}

/// A container: a network namespace without a process.
fn container() -> Namespace {
    let made = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        Namespace::here().unwrap()
    });
    made.join().unwrap()
}

fn network() -> Network {
    Network::new("hull0", Subnet::DEFAULT).unwrap()
}

fn ip(lease: &Lease) -> Ipv4Addr {
    lease.address().address
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

/// The state's directory of this thread's namespace.
fn state() -> PathBuf {
    Path::new("/run/hull/network").join(Namespace::here().unwrap().inode().unwrap().to_string())
}

#[test]
fn an_address_is_taken_until_its_lease_ends() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        let (first, second) = (network().lease().unwrap(), network().lease().unwrap());
        assert_eq!((ip(&first), ip(&second)), (address(2), address(3)));
        first.leave().unwrap();
        let third = network().lease().unwrap();
        assert_eq!(ip(&third), address(2));
        drop(third);
        assert_eq!(ip(&network().lease().unwrap()), address(2));
    });
}

#[test]
fn an_address_is_taken_as_long_as_anyone_holds_the_descriptor() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        let lease = network().lease().unwrap();
        let handed_over = lease.as_fd().try_clone_to_owned().unwrap();
        lease.detach();
        assert_eq!(ip(&network().lease().unwrap()), address(3));
        drop(handed_over);
        assert_eq!(ip(&network().lease().unwrap()), address(2));
    });
}

#[test]
fn fifty_at_once_get_fifty_addresses() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        let threads: Vec<_> = (0..50).map(|_| thread::spawn(|| network().lease().unwrap())).collect();
        let leases: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let mut addresses: Vec<_> = leases.iter().map(ip).collect();
        addresses.sort();
        assert_eq!(addresses, (2..52).map(address).collect::<Vec<_>>());
        // All leave at once, too: the last one removes what another may be about to ask for.
        let leave = |lease: Lease| thread::spawn(|| lease.leave().unwrap());
        leases.into_iter().map(leave).collect::<Vec<_>>().into_iter().for_each(|end| end.join().unwrap());
    });
}

#[test]
fn a_container_has_a_cable_to_the_bridge_and_reaches_the_host() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        let (lease, container) = (network().lease().unwrap(), container());
        let _connection = network().connect(&lease, &container, &Options::default()).unwrap();
        assert_eq!(links(), ["lo", "hull0", "hull0a4d0002"]);
        assert!(run("ip -4 -o address show hull0").contains(" 10.77.0.1/16 "));
        assert!(run("ip -o link show hull0").contains("link/ether 02:68:0a:4d:00:01"));
        assert!(run("ip -o link show hull0a4d0002").contains("master hull0"));
        assert_eq!(forwarding(), "1\n");
        let server = TcpListener::bind(("10.77.0.1", 0)).unwrap();
        let inside = || {
            interface::configure("eth0", &lease.address())?;
            assert_eq!(links(), ["lo", "eth0"]);
            assert!(run("ip -4 -o address show eth0").contains(" 10.77.0.2/16 "));
            assert_eq!(run("ip route show default").trim(), "default via 10.77.0.1 dev eth0");
            TcpStream::connect(server.local_addr()?)?;
            Ok(())
        };
        container.run(inside).unwrap();
        assert!(links().contains(&"hull0".to_string()), "the thread is back");
        lease.leave().unwrap();
    });
}

#[test]
fn the_next_one_removes_what_a_killed_one_left() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        let (lease, container) = (network().lease().unwrap(), container());
        let options = Options {
            publications: vec!["8080:80".parse().unwrap()],
            rate_in: Some("10mbit".parse().unwrap()),
        };
        network().connect(&lease, &container, &options).unwrap();
        assert!(run("nft list ruleset").contains("10.77.0.2"));
        lease.detach();
        network().sweep().unwrap();
    });
}

#[test]
fn one_that_was_killed_at_any_step_is_removed() {
    needs!(Root, Tool("ip"), Tool("nft"));
    // Killed right after it took the address, a lease leaves its file. Earlier, less; later, more.
    let earlier = ["rm $hull0/*", "rm $hull0/*; touch $hull0/subnet", "rm $hull0/10.77.0.2"];
    let later = [
        "ip link add hull0 address 02:68:0a:4d:00:01 type bridge",
        "ip link set hull0 up; ip address add 10.77.0.1/16 dev hull0",
        "nft add table inet hull",
        "touch $hull0/../sysctls.draft",
        "ip link add hull0a4d0002 type veth peer name far; ip link set hull0a4d0002 master hull0",
    ];
    let scripts = earlier.map(str::to_string).into_iter();
    for script in scripts.chain((0..=later.len()).map(|count| later[..count].join("\n"))) {
        on_a_host(move || {
            network().lease().unwrap().detach();
            run(&format!("hull0={}/hull0\n{script}", state().display()));
            assert_eq!(ip(&network().lease().unwrap()), address(2), "{script}");
        });
    }
}

#[test]
fn a_living_container_keeps_its_bridge_when_the_others_are_removed() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        let (dead, living, [first, second]) =
            (network().lease().unwrap(), network().lease().unwrap(), [container(), container()]);
        network().connect(&dead, &first, &Options::default()).unwrap();
        network().connect(&living, &second, &Options::default()).unwrap();
        dead.detach();
        network().sweep().unwrap();
        assert_eq!(links(), ["lo", "hull0", "hull0a4d0003"]);
        living.leave().unwrap();
    });
}

#[test]
fn of_two_bridges_the_last_one_puts_the_host_back() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        let other = Network::new("hull1", "10.78.0.0/16".parse().unwrap()).unwrap();
        let (first, second, [one, two]) =
            (network().lease().unwrap(), other.lease().unwrap(), [container(), container()]);
        network().connect(&first, &one, &Options::default()).unwrap();
        other.connect(&second, &two, &Options::default()).unwrap();
        first.leave().unwrap();
        assert_eq!(links(), ["lo", "hull1", "hull0a4e0002"]);
        assert_eq!(forwarding(), "1\n");
        let table = run("nft list table inet hull");
        assert!(table.contains("\"hull1\"") && !table.contains("\"hull0\""), "{table}");
        second.leave().unwrap();
    });
}

#[test]
fn a_directory_that_was_deleted_costs_nobody_their_address() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        let (lease, unconnected, container) =
            (network().lease().unwrap(), network().lease().unwrap(), container());
        network().connect(&lease, &container, &Options::default()).unwrap();
        fs::remove_dir_all(state()).unwrap();
        // The second one can't be known, and gives way; the first one has a cable.
        let (second, third) = (network().lease().unwrap(), network().lease().unwrap());
        assert_eq!((ip(&second), ip(&third)), (address(3), address(4)));
        let lost = network().connect(&unconnected, &container, &Options::default()).unwrap_err();
        assert!(lost.to_string().contains("the lease of 10.77.0.3 is lost"), "{lost}");
        unconnected.leave().unwrap();
        assert!(state().join("hull0/10.77.0.3").exists());
        drop((second, third));
        // With the directory went the record of what it was.
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        assert_eq!(links(), ["lo", "hull0", "hull0a4d0002"]);
        lease.leave().unwrap();
    });
}

#[test]
fn the_state_of_a_namespace_that_is_gone_is_not_this_one_s() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        fs::create_dir_all(state().join("hull0")).unwrap();
        fs::write(state().join("lock"), "1").unwrap();
        fs::write(state().join("sysctls"), "ipv4/ip_forward 0\n").unwrap();
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        network().sweep().unwrap();
        assert_eq!(forwarding(), "1\n");
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    });
}

#[test]
fn a_subnet_that_the_host_uses_is_refused() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        run(
            "ip link add other type bridge; ip link set other up; ip route add 10.0.0.0/8 dev other table 52",
        );
        let error = network().lease().unwrap_err().to_string();
        assert!(error.contains("10.0.0.0/8") && error.contains("--subnet"), "{error}");
        run("ip link delete other");
        let lease = network().lease().unwrap();
        let other = Network::new("hull1", "10.77.1.0/24".parse().unwrap()).unwrap();
        let error = other.lease().unwrap_err().to_string();
        assert!(error.contains("\"hull0\", 10.77.0.0/16"), "{error}");
        let same = Network::new("hull0", "10.78.0.0/16".parse().unwrap()).unwrap();
        let error = same.lease().unwrap_err().to_string();
        assert!(error.contains("has the subnet 10.77.0.0/16"), "{error}");
        lease.leave().unwrap();
    });
}

#[test]
fn a_default_route_is_no_reason_to_refuse() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        run(
            "ip link add other type bridge; ip link set other up; ip route add default dev other; ip route add 0.0.0.0/1 dev other",
        );
        network().lease().unwrap();
        run("ip link delete other");
    });
}

#[test]
fn a_full_subnet_says_so() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        let small = Network::new("hull0", "192.0.2.0/30".parse().unwrap()).unwrap();
        let only = small.lease().unwrap();
        let error = small.lease().unwrap_err().to_string();
        assert_eq!(error, "all addresses of the subnet 192.0.2.0/30 are taken: use a larger one");
        only.leave().unwrap();
    });
}

#[test]
fn a_lease_is_left_where_it_was_taken() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        let (lease, elsewhere) = (network().lease().unwrap(), container());
        let error = elsewhere.run(|| lease.leave()).unwrap_err().to_string();
        assert!(error.contains("another network namespace"), "{error}");
        network().sweep().unwrap();
    });
}

#[test]
fn a_frame_may_go_back_to_the_port_that_it_came_from() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        let (lease, container) = (network().lease().unwrap(), container());
        network().connect(&lease, &container, &Options::default()).unwrap();
        assert!(run(&format!("ip -d link show {}", lease.link())).contains(" hairpin on "));
        lease.leave().unwrap();
    });
}

#[test]
fn without_nft_nothing_is_left_either() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        // In this thread's mount namespace alone.
        let nft = run("readlink -f \"$(command -v nft)\"");
        run(&format!("mount --bind /dev/null {nft}"));
        let lease = network().lease().unwrap();
        assert!(network().connect(&lease, &container(), &Options::default()).is_err());
        lease.leave().unwrap();
        run(&format!("umount {nft}"));
    });
}

#[test]
fn a_bridge_of_the_users_own_is_left_alone() {
    needs!(Root, Tool("ip"), Tool("nft"));
    on_a_host(|| {
        run("ip link add hull0 type bridge");
        let (lease, container) = (network().lease().unwrap(), container());
        let error = network().connect(&lease, &container, &Options::default()).unwrap_err();
        assert!(format!("{error:#}").contains("there is a link \"hull0\" that is not ours"), "{error:#}");
        lease.leave().unwrap();
        assert_eq!(links(), ["lo", "hull0"]);
        run("ip link delete hull0");
    });
}
