//! The lesson: what a process with a network of its own sees, and what the host keeps.

mod common;

use std::net::{Ipv4Addr, TcpListener};

use common::{LESSON, address, answer_one, end, get, init, inside, lesson, start};
use testing::{Network, Program, Sandbox, needs};

#[test]
fn without_arguments_it_shows_both_sides_of_the_cable_and_the_other_end_answers() {
    needs!(Root, Tool("nft"));
    let sandbox = Sandbox::new();
    let output = Program::new(LESSON).in_sandbox(&sandbox).run();
    assert_eq!(output.code, Some(0), "{output}");
    assert!(output.stdout.contains("64 bytes from 10.77.0.1"), "{output}");
    for answer in [
        "> eth0 10.77.0.2/16",
        "> default via 10.77.0.1 dev eth0",
        "outside, the links are lo (127.0.0.1/8 ::1/128), hull0 (10.77.0.1/16), hull0a4d0002",
        "inside, connect to 127.0.0.1:",
        "Network is unreachable (ENETUNREACH)",
        "Connection refused (ECONNREFUSED)",
    ] {
        assert!(output.stderr.contains(answer), "{answer:?} in {output}");
    }
    sandbox.check();
}

#[test]
fn without_arguments_a_plain_user_sees_what_is_true_for_them() {
    needs!(UserNamespaces);
    let output = Program::new(LESSON).as_plain_user().env("PATH", "/nonexistent").run();
    assert_eq!(output.code, Some(0), "{output}");
    assert!(output.stdout.contains("64 bytes from 127.0.0.1"), "{output}");
    for answer in ["the container reaches itself alone", "(ENETUNREACH)", "(ECONNREFUSED)"] {
        assert!(output.stderr.contains(answer), "{answer:?} in {output}");
    }
    // Of the host's links none but a `lo` is there.
    assert!(output.stderr.contains("lo 127.0.0.1/8") && !output.stderr.contains("hull0"), "{output}");
}

#[test]
fn the_host_s_links_are_not_there_inside() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let mut sandbox = Sandbox::new();
    sandbox.neighbour();
    let output = inside(lesson().in_sandbox(&sandbox), "ls /sys/class/net; ip link show dev uplink");
    assert_eq!(output.stdout, "eth0\nlo\n", "{output}");
    assert!(output.stderr.contains("can't find device 'uplink'"), "{output}");
    sandbox.check();
}

#[test]
fn the_host_has_one_link_to_each_container_on_a_bridge_while_they_live() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let sandbox = Sandbox::new();
    let containers = [0, 1].map(|_| start(lesson().in_sandbox(&sandbox), "echo ready; sleep 300"));
    let [first, second] = containers.each_ref().map(address);
    assert_ne!(first, second);
    let members = sandbox.network().shell("ip -br link show master hull0");
    assert_eq!(members.lines().count(), 2, "{members}");
    let bridge = sandbox.network().shell("ip -4 -o address show dev hull0");
    assert!(bridge.contains("inet 10.77.0.1/16"), "{bridge}");
    let route = Network::of(init(&containers[0])).shell("ip route");
    assert!(route.contains("default via 10.77.0.1 dev eth0"), "{route}");
    containers.into_iter().for_each(end);
    sandbox.check();
}

#[test]
fn a_subnet_can_be_chosen_and_one_that_is_in_use_is_refused() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let mut sandbox = Sandbox::new();
    sandbox.neighbour();
    let chosen = lesson().in_sandbox(&sandbox).args(["--subnet", "198.51.100.0/24"]);
    let output = inside(chosen, "ip -4 -o address show dev eth0");
    assert!(output.stdout.contains("inet 198.51.100.2/24"), "{output}");
    let in_use = lesson().in_sandbox(&sandbox).args(["--subnet", "192.0.2.0/25", "--", "true"]).run();
    assert_eq!(in_use.code, Some(125), "{in_use}");
    assert!(in_use.stderr.contains("192.0.2.0") && in_use.stderr.contains("--subnet"), "{in_use}");
    sandbox.check();
}

#[test]
fn without_a_network_a_container_reaches_itself_alone() {
    needs!(UserNamespaces);
    let script =
        "ls /sys/class/net; ping -c 1 127.0.0.1 > /dev/null && echo itself; ping -c 1 192.0.2.1 > /dev/null";
    let output = inside(lesson().as_plain_user().args(["--network", "none"]), script);
    assert_eq!(output.stdout, "lo\nitself\n", "{output}");
    assert!(output.stderr.contains("Network is unreachable"), "{output}");
}

#[test]
fn with_the_host_s_network_a_container_is_on_the_host() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let server = sandbox.network().run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let port = server.local_addr().unwrap().port();
    let program = lesson().in_sandbox(&sandbox).args(["--network", "host"]);
    let client = answer_one(server);
    let script = format!("readlink /proc/self/ns/net; nc 127.0.0.1 {port}");
    let output = inside(program, &script);
    let host = std::fs::read_link(format!("/proc/{}/ns/net", sandbox.pid())).unwrap();
    assert_eq!(output.stdout.trim(), host.to_str().unwrap(), "{output}");
    client.join().unwrap();
    sandbox.check();
}

#[test]
fn the_host_forwards_packets_only_while_a_container_lives() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let sandbox = Sandbox::new();
    let file = "/proc/sys/net/ipv4/ip_forward";
    let read = || sandbox.network().shell(&format!("cat {file}")).trim().to_string();
    for before in ["0", "1"] {
        sandbox.network().shell(&format!("echo {before} > {file}"));
        let container = start(lesson().in_sandbox(&sandbox), "echo ready; sleep 300");
        assert_eq!(read(), "1");
        end(container);
        assert_eq!(read(), before);
    }
    sandbox.network().shell(&format!("echo 0 > {file}"));
    sandbox.check();
}

#[test]
fn the_resolver_is_the_host_s_without_what_only_the_host_reaches() {
    needs!(Root, Tool("nft"), Tool("unshare"));
    let sandbox = Sandbox::new();
    let text = r"nameserver 127.0.0.1\nnameserver 192.0.2.53\nsearch example.org\n";
    let script = format!(
        "mount -t tmpfs none /mnt && printf '{text}' > /mnt/resolv.conf &&
        mount --bind /mnt/resolv.conf /etc/resolv.conf && exec {LESSON} -q -- cat /etc/resolv.conf"
    );
    let output = Program::new("unshare").args(["-m", "sh", "-c", &script]).in_sandbox(&sandbox).run();
    assert_eq!(output.code, Some(0), "{output}");
    assert!(output.stdout.contains("nameserver 192.0.2.53"), "{output}");
    assert!(!output.stdout.contains("127.0.0.1"), "{output}");
    let shared = rootfs_builder::default_root().unwrap().join("etc/resolv.conf");
    assert!(
        !std::fs::read_to_string(shared).unwrap().contains("192.0.2.53"),
        "the root file system is unchanged"
    );
    sandbox.check();
}

#[test]
fn the_resolver_gives_way_to_a_volume_and_is_found_through_a_link_that_leads_nowhere() {
    needs!(Root, Tool("nft"));
    let (sandbox, directory) = (Sandbox::new(), tempfile::tempdir().unwrap());
    let (root, own) = (directory.path().join("root"), directory.path().join("own"));
    let default = rootfs_builder::default_root().unwrap();
    let copied = Program::new("cp").args(["-a".as_ref(), default.as_os_str(), root.as_os_str()]).run();
    assert_eq!(copied.code, Some(0), "{copied}");
    // As in the files of distributions with systemd-resolved.
    let file = root.join("etc/resolv.conf");
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("../run/systemd/resolve/stub-resolv.conf", &file).unwrap();
    let lesson = || lesson().in_sandbox(&sandbox).args(["--rootfs".as_ref(), root.as_os_str()]);
    let output = inside(lesson(), "cat /etc/resolv.conf; grep -c stub-resolv.conf /proc/self/mountinfo");
    assert!(output.code == Some(0) && output.stdout.ends_with("1\n"), "{output}");

    std::fs::write(&own, "nameserver 192.0.2.99\n").unwrap();
    std::fs::remove_file(&file).unwrap();
    let volume = format!("{}:/etc/resolv.conf", own.display());
    let output = inside(lesson().args(["--volume", &volume]), "cat /etc/resolv.conf");
    assert_eq!(output.stdout, "nameserver 192.0.2.99\n", "{output}");
    sandbox.check();
}

#[test]
fn nobody_else_can_write_where_the_state_is() {
    needs!(Root, Tool("nft"));
    let sandbox = Sandbox::new();
    // Made anew, on a /run of its own, whatever others have left there.
    let script = format!(
        "mount -t tmpfs -o mode=755 none /run && umask 0 &&
        exec {LESSON} -q -v /run:/mnt -- stat -c '%a %n' /mnt/hull /mnt/hull/network"
    );
    let output = Program::new("unshare").args(["-m", "sh", "-c", &script]).in_sandbox(&sandbox).run();
    assert_eq!(output.stdout, "755 /mnt/hull\n755 /mnt/hull/network\n", "{output}");
    sandbox.check();
}

#[test]
fn statuses_and_errors_pass_through() {
    needs!(Root, Tool("nft"));
    let sandbox = Sandbox::new();
    let lesson = || lesson().in_sandbox(&sandbox);
    assert_eq!(inside(lesson(), "exit 7").code, Some(7));
    assert_eq!(inside(lesson(), "kill -KILL $$").code, Some(137));
    let output = lesson().args(["--", "no-such-command"]).run();
    assert_eq!(output.code, Some(127), "{output}");
    let output = lesson().args(["--network", "none", "-p", "8080:80", "--", "true"]).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("need --network bridge"), "{output}");
    sandbox.check();
}

#[test]
fn a_plain_user_without_pasta_has_the_loopback_alone_and_is_told_so() {
    needs!(UserNamespaces);
    let program = Program::new(LESSON).as_plain_user().env("PATH", "/nonexistent");
    let output = inside(program, "ls /sys/class/net");
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "lo\n"), "{output}");
    assert!(
        output.stderr.contains("pasta is not installed, or can't work: the container reaches itself alone"),
        "{output}"
    );
    let program = lesson().as_plain_user().env("PATH", "/nonexistent").args(["-p", "8080:80", "--", "true"]);
    let output = program.run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("passt"), "{output}");
}

#[test]
fn a_plain_user_with_pasta_reaches_the_internet_and_is_reached() {
    needs!(Root, UserNamespaces, Tool("pasta"), Tool("ip"));
    let mut sandbox = Sandbox::new();
    let neighbour = sandbox.neighbour();
    // As distributions have it: anyone may open it, for the namespaces that they own.
    let on_host = |line: &str| {
        let output = Program::new("sh").args(["-ec", line]).in_sandbox(&sandbox).run();
        assert_eq!(output.code, Some(0), "{output}");
    };
    on_host("mount -t tmpfs tun /dev/net && mknod -m 666 /dev/net/tun c 10 200");
    let server = neighbour.network.run(|| TcpListener::bind((neighbour.address, 9000)).unwrap());
    let client = answer_one(server);
    let script = format!(
        "mkdir /dev/shm/www && echo hello > /dev/shm/www/index.html && nc {} 9000;
        httpd -p 80 -h /dev/shm/www && echo ready && sleep 300",
        neighbour.address
    );
    let program = lesson().in_sandbox(&sandbox).as_plain_user().args(["-p", "8080:80"]);
    let container = start(program, &script);
    assert_eq!(client.join().unwrap(), neighbour.sandbox_address, "from a socket of the user's on the host");
    assert_eq!(get(sandbox.network(), Ipv4Addr::LOCALHOST, 8080).unwrap(), "hello");
    assert_eq!(get(&neighbour.network, neighbour.sandbox_address, 8080).unwrap(), "hello");
    end(container);
    on_host("umount /dev/net");
    sandbox.check();
}
