//! The forward chains of others.

use std::time::Duration;

use testing::{Program, needs};

use crate::host::{FIRST, Host, ask_tcp, firewall, serve_tcp};

/// Whether the container reaches the neighbour, and the neighbour the container's published port: both or none.
fn passes(host: &Host) -> bool {
    let container = host.container("hull0", FIRST);
    serve_tcp(&container, FIRST, 80);
    serve_tcp(&host.neighbour.network, host.neighbour.address, 80);
    host.publish(FIRST, &["8080:80"]);
    let pass = || {
        let out = ask_tcp(&container, host.neighbour.address, 80).is_ok();
        let within = ask_tcp(&host.neighbour.network, host.neighbour.sandbox_address, 8080).is_ok();
        assert_eq!(out, within);
        out
    };
    assert!(!pass(), "the foreign chain does not drop what this test is about");
    let blocked = host.admit();
    assert_eq!(blocked.is_empty(), pass(), "{blocked:?}");
    blocked.is_empty()
}

#[test]
fn the_forward_chain_of_docker_and_ufw_is_mended_and_left_as_it_was() {
    needs!(Root, Tool("nft"), Tool("ip"), Tool("iptables-nft"));
    let host = Host::new();
    host.shell("iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -s 198.51.100.1 -m conntrack --ctstate NEW -j ACCEPT");
    let before = host.shell("iptables-nft -S");
    assert!(passes(&host));
    // Its owner's tool still lists the table, with our two rules.
    let rules = host.shell("iptables-nft -S FORWARD");
    let ours: Vec<_> = rules.lines().filter(|rule| rule.contains("hull")).collect();
    assert_eq!(
        ours,
        [
            r#"-A FORWARD -o hull0 -m comment --comment "hull: to hull0" -j ACCEPT"#,
            r#"-A FORWARD -i hull0 -m comment --comment "hull: from hull0" -j ACCEPT"#
        ],
        "{rules}"
    );
    host.run(|| firewall().tear_down()).unwrap();
    assert_eq!(host.shell("iptables-nft -S"), before);
    host.shell("nft delete table ip filter");
    host.finish();
}

#[test]
fn a_drop_in_a_chain_that_is_jumped_to_is_mended() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let host = Host::new();
    host.shell(
        "nft 'table inet theirs { chain deep { counter drop; }; chain middle { goto deep; }; \
         chain f { type filter hook forward priority 10; policy accept; ct mark 0 jump middle; }; }'",
    );
    assert!(passes(&host));
    host.run(|| firewall().tear_down()).unwrap();
    assert!(!host.shell("nft list table inet theirs").contains("hull"));
    host.shell("nft delete table inet theirs");
    host.finish();
}

#[test]
fn a_chain_that_drops_nothing_is_left_alone() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let host = Host::new();
    host.shell(
        "nft 'table inet theirs { chain f { type filter hook forward priority 10; counter accept; }; \
                chain i { type filter hook input priority 0; tcp dport 1 drop; }; }'",
    );
    let before = host.shell("nft list table inet theirs");
    assert!(host.admit().is_empty());
    assert_eq!(host.shell("nft list table inet theirs"), before);
    host.shell("nft delete table inet theirs");
    host.finish();
}

#[test]
fn a_table_with_an_owner_is_reported_with_the_command() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let host = Host::new();
    // Like firewalld, which holds its table as long as it runs. nft waits for more at a pipe that it holds open itself.
    let owner = Program::new("sh")
        .args(["-ec", &format!("mkfifo {0}; exec 3<>{0}; cat >&3; exec nft -i <&3", host.directory.path().join("pipe").display())])
        .stdin(
            "add table inet firewalld { flags owner; }\n\
             add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy drop; }\n",
        )
        .in_network(host.sandbox.network())
        .spawn();
    let has_table = |has: bool| {
        testing::poll(Duration::from_secs(20), || {
            (host.shell("nft list ruleset").contains("filter_FORWARD") == has).then_some(())
        });
    };
    has_table(true);
    assert!(!passes(&host));
    let blocked = host.admit();
    assert_eq!(blocked[0].what, "the chain filter_FORWARD of the table inet firewalld");
    assert_eq!(blocked[0].command, "firewall-cmd --zone=trusted --add-interface=hull0");
    owner.signal(libc::SIGKILL);
    owner.wait();
    has_table(false);
    host.finish();
}

#[test]
fn the_older_iptables_is_reported_with_a_command_that_mends_it() {
    needs!(Root, Tool("nft"), Tool("ip"), Tool("iptables-legacy"));
    let host = Host::new();
    if Program::new("iptables-legacy")
        .args(["-P", "FORWARD", "DROP"])
        .in_network(host.sandbox.network())
        .run()
        .code
        != Some(0)
    {
        // A kernel without it has nothing to report.
        assert!(host.admit().is_empty());
        return host.finish();
    }
    assert!(!passes(&host));
    let blocked = host.admit();
    host.shell(&blocked[0].command);
    assert!(ask_tcp(host.sandbox.network(), host.neighbour.sandbox_address, 8080).is_ok());
    assert!(host.admit().is_empty());
    host.shell("iptables-legacy -F; iptables-legacy -P FORWARD ACCEPT");
    host.finish();
}
