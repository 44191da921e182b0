//! Claims about the sandbox's network, its neighbour, and what is found of a program's there.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use testing::{Network, Program, Sandbox, needs};

/// What `check` says now about the sandbox, which must not be clean.
#[track_caller]
fn complaint(sandbox: &Sandbox) -> String {
    let result = catch_unwind(AssertUnwindSafe(|| sandbox.check_within(Duration::from_millis(100))));
    *result.expect_err("check found nothing").downcast::<String>().expect("a formatted message")
}

/// What `check` says after a script in the sandbox's network; `undo` cleans up again.
#[track_caller]
fn complaint_after(script: &str, undo: &str) -> String {
    let sandbox = Sandbox::new();
    sandbox.network().shell(script);
    let complaint = complaint(&sandbox);
    sandbox.network().shell(undo);
    sandbox.check();
    complaint
}

#[test]
fn a_closure_runs_in_the_network_of_the_sandbox_and_its_sockets_stay_there() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let listener = sandbox.network().run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    assert!(TcpStream::connect(address).is_err(), "the port is not open where the test is");
    let mut client = sandbox.network().run(|| TcpStream::connect(address).unwrap());
    client.write_all(b"x").unwrap();
    let mut byte = [0];
    listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

#[test]
fn the_network_of_a_process_is_the_one_that_it_is_in() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let here = || fs::read_link("/proc/thread-self/ns/net").unwrap();
    assert_eq!(Network::of(sandbox.pid()).run(here), sandbox.network().run(here));
    assert_ne!(sandbox.network().run(here), here());
}

#[test]
fn the_neighbour_and_the_sandbox_reach_each_other_and_its_link_is_no_leak() {
    needs!(Root, Tool("ip"));
    let mut sandbox = Sandbox::new();
    let neighbour = sandbox.neighbour();
    for (server, address, client) in [
        (sandbox.network(), neighbour.sandbox_address, &neighbour.network),
        (&neighbour.network, neighbour.address, sandbox.network()),
    ] {
        let listener = server.run(|| TcpListener::bind((address, 0)).unwrap());
        let address = listener.local_addr().unwrap();
        client.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap());
    }
    let route = sandbox.network().shell("ip route get 203.0.113.1");
    assert!(route.contains(&format!("via {}", neighbour.address)), "{route}");
    sandbox.check();
}

#[test]
fn a_program_runs_in_the_neighbours_network_and_outside_of_the_sandbox() {
    needs!(Root, Tool("ip"));
    let mut sandbox = Sandbox::new();
    let neighbour = sandbox.neighbour();
    let program = Program::new("readlink").args(["/proc/self/ns/net", "/proc/self/ns/pid"]);
    let output = program.in_network(&neighbour.network).run();
    let network = neighbour.network.run(|| fs::read_link("/proc/thread-self/ns/net").unwrap());
    let pid = fs::read_link("/proc/self/ns/pid").unwrap();
    assert_eq!(output.stdout, format!("{}\n{}\n", network.display(), pid.display()));
}

#[test]
fn leaked_addresses_and_routes_are_found() {
    needs!(Root, Tool("ip"));
    let complaint = complaint_after(
        "ip address add 10.1.2.3/32 dev lo; ip route add 10.9.0.0/16 dev lo",
        "ip address del 10.1.2.3/32 dev lo; ip route del 10.9.0.0/16 dev lo",
    );
    assert!(complaint.contains("address 10.1.2.3: "), "{complaint}");
    assert!(complaint.contains("dev lo: lo "), "{complaint}");
}

#[test]
fn a_changed_sysctl_is_found() {
    needs!(Root);
    let switch = "/proc/sys/net/ipv4/ip_forward";
    let complaint = complaint_after(&format!("echo 1 > {switch}"), &format!("echo 0 > {switch}"));
    assert!(complaint.contains("sysctl net/ipv4/ip_forward = 1"), "{complaint}");
}

#[test]
fn a_leaked_table_of_rules_is_found_and_a_counter_is_not() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let rules = "nft add table inet leaked; nft add chain inet leaked forward '{ type filter hook forward priority 0; }'";
    let leaked = complaint_after(rules, "nft flush ruleset");
    assert!(leaked.contains("hook forward"), "{leaked}");

    let mut sandbox = Sandbox::new();
    sandbox.network().shell(
        "nft add table inet counted; nft add chain inet counted in '{ type filter hook input priority 0; }'
         nft add rule inet counted in counter accept",
    );
    sandbox.accept();
    sandbox.network().run(|| TcpStream::connect("127.0.0.1:1").unwrap_err());
    assert!(!sandbox.network().shell("nft list ruleset").contains("packets 0"));
    sandbox.check();
    sandbox.network().shell("nft flush ruleset");
    let removed = complaint(&sandbox);
    assert!(removed.contains("nftables ruleset\n: at the start it was another"), "{removed}");
    sandbox.accept();
}

#[test]
fn each_sandbox_has_a_run_hull_of_its_own_where_all_files_but_locks_are_leaks() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let shell = |script: &str| Program::new("sh").args(["-ec", script]).in_sandbox(&sandbox).run();
    let output = shell("cd /run/hull; mkdir -p network/1; touch network/1/lock network/1/hull0.lock");
    assert_eq!(output.code, Some(0), "{output}");
    sandbox.check();
    assert_eq!(Program::new("ls").args(["/run/hull"]).in_sandbox(&Sandbox::new()).run().stdout, "");

    shell("touch /run/hull/network/1/member");
    let complaint = complaint(&sandbox);
    assert!(complaint.contains("file /run/hull/network/1/member: is no lock"), "{complaint}");
    shell("rm /run/hull/network/1/member");
}
