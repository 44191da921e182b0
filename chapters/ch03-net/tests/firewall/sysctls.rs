//! The sysctls that are changed, and put back.

use std::fs;

use ch03_net::sysctl::{forwarding_on, restore};
use testing::{Sandbox, needs};

fn record(directory: &tempfile::TempDir) -> std::path::PathBuf {
    directory.path().join("sysctls")
}

#[test]
fn forwarding_is_put_back_device_by_device() {
    needs!(Root, Tool("ip"));
    let (mut sandbox, directory) = (Sandbox::new(), tempfile::tempdir().unwrap());
    let network = sandbox.network().clone();
    network.shell("ip link add one type veth peer name two; echo 1 > /proc/sys/net/ipv4/conf/one/forwarding");
    sandbox.accept();
    let all = || network.shell("grep -r . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf | sort");
    let before = all();
    network.run(|| forwarding_on(&record(&directory))).unwrap();
    // A second container, and a device that goes meanwhile.
    network.shell("ip link add gone type veth peer name too");
    network.run(|| forwarding_on(&record(&directory))).unwrap();
    network.shell("[ $(cat /proc/sys/net/ipv4/ip_forward) = 1 ]; ip link del gone");
    network.run(|| restore(&record(&directory))).unwrap();
    assert_eq!(all(), before);
    assert!(before.contains("one/forwarding:1") && before.contains("two/forwarding:0"), "{before}");
    assert!(fs::read_dir(directory.path()).unwrap().next().is_none(), "the record is left");
    network.run(|| restore(&record(&directory))).unwrap();
}

#[test]
fn forwarding_that_was_on_stays_on_and_what_others_have_turned_off_stays_off() {
    needs!(Root, Tool("ip"));
    let (mut sandbox, directory) = (Sandbox::new(), tempfile::tempdir().unwrap());
    let network = sandbox.network().clone();
    let forwarding = || network.shell("cat /proc/sys/net/ipv4/ip_forward");
    network.run(|| forwarding_on(&record(&directory))).unwrap();
    network.shell("echo 0 > /proc/sys/net/ipv4/ip_forward");
    network.run(|| restore(&record(&directory))).unwrap();
    assert_eq!(forwarding(), "0\n");

    network.shell("echo 1 > /proc/sys/net/ipv4/ip_forward");
    sandbox.accept();
    network.run(|| forwarding_on(&record(&directory))).unwrap();
    network.run(|| restore(&record(&directory))).unwrap();
    assert_eq!(forwarding(), "1\n");
}

#[test]
fn what_was_put_back_by_half_is_put_back_by_the_next_one() {
    needs!(Root, Tool("ip"));
    let (mut sandbox, directory) = (Sandbox::new(), tempfile::tempdir().unwrap());
    let network = sandbox.network().clone();
    network.shell("ip link add one type veth peer name two; echo 1 > /proc/sys/net/ipv4/conf/one/forwarding");
    sandbox.accept();
    let all = || network.shell("grep -r . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf | sort");
    let before = all();
    network.run(|| forwarding_on(&record(&directory))).unwrap();
    // A line that can't be written, after the first one, stands for a kill.
    let written = fs::read_to_string(record(&directory)).unwrap();
    let wrong = written.replacen("accept_redirects ", "accept_redirects x", 1);
    fs::write(record(&directory), wrong).unwrap();
    network.run(|| restore(&record(&directory))).unwrap_err();
    assert_eq!(
        network.shell("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/one/forwarding"),
        "0\n0\n"
    );
    let half = fs::read_to_string(record(&directory)).unwrap();
    fs::write(record(&directory), half.replacen("accept_redirects x", "accept_redirects ", 1)).unwrap();
    network.run(|| restore(&record(&directory))).unwrap();
    assert_eq!(all(), before);
}
