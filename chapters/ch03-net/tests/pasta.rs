//! pasta, started as the lesson starts it: by a plain user, in a user namespace of their own, for a child in a network
//! namespace.

mod forked;

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use ch01_pid::Spawn;
use ch03_net::{Publication, loopback, pasta};
use forked::Forked;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{setgroups, setresgid, setresuid};
use testing::{Network, PlainUser, Sandbox, needs, process};

const LIMIT: Duration = Duration::from_secs(30);
/// A port at which a server of the host's listens, at 127.0.0.1 alone.
const PRIVATE: u16 = 9999;

/// What the lesson does before: it becomes root in a user namespace. Distributions let everybody open /dev/net/tun; where
/// this machine does not, another device node is put there.
fn become_root_of_a_user_namespace(directory: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    // Many a /tmp is mounted `nodev`.
    mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::MS_NOSUID, None::<&str>)?;
    let tun = directory.join("tun");
    mknod(&tun, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(10, 200)).context("mknod")?;
    fs::set_permissions(&tun, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    mount(Some(&tun), "/dev/net/tun", None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .context("bind the tun")?;

    let user = PlainUser::get();
    setgroups(&[])?;
    setresgid(user.gid, user.gid, user.gid)?;
    setresuid(user.uid, user.uid, user.uid)?;
    // A process that has changed its user is not its own in /proc.
    nix::sys::prctl::set_dumpable(true)?;
    unshare(CloneFlags::CLONE_NEWUSER).context("unshare")?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", user.uid))?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", user.gid))?;
    Ok(())
}

/// A container whose web server answers with what it reaches.
fn run_container(
    says: &mut File,
    directory: &Path,
    neighbour: Ipv4Addr,
    publications: &[&str],
) -> Result<()> {
    become_root_of_a_user_namespace(directory)?;
    let program = pasta::find().context("no pasta")?;
    let publications: Vec<Publication> =
        publications.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    let held = Spawn::new().namespaces(CloneFlags::CLONE_NEWNET).dies_with_parent().start(|report| {
        loopback::up()?;
        let listener = TcpListener::bind("0.0.0.0:80")?;
        report.close();
        serve(&listener, neighbour)
    })?;
    let child = pasta::start(&program, held.pid(), &publications)?;
    // Both live as long as we do.
    let _container = held.release(None)?;
    writeln!(says, "{}", child.pid())?;
    loop {
        nix::unistd::pause();
    }
}

fn serve(listener: &TcpListener, neighbour: Ipv4Addr) -> Result<Infallible> {
    let ask = |address: Ipv4Addr, port: u16, limit: Duration| -> std::io::Result<String> {
        let address = SocketAddrV4::new(address, port).into();
        let mut answer = String::new();
        TcpStream::connect_timeout(&address, limit)?.read_to_string(&mut answer)?;
        Ok(answer)
    };
    loop {
        let (mut client, _) = listener.accept()?;
        let _ = client.read(&mut [0; 64])?;
        let links = fs::read_dir("/proc/sys/net/ipv4/conf")?;
        let mut links: Vec<_> = links
            .map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()))
            .collect::<Result<_>>()?;
        links.sort();
        let outside = ask(neighbour, 80, LIMIT)?;
        let has_reached = [Ipv4Addr::LOCALHOST, neighbour]
            .map(|address| ask(address, PRIVATE, Duration::from_secs(1)).is_ok());
        write!(client, "HTTP/1.0 200 OK\r\n\r\n{links:?} {outside} {has_reached:?}")?;
    }
}

fn get(network: &Network, address: &str) -> String {
    network.run(|| {
        let mut server = testing::poll(LIMIT, || TcpStream::connect((address, 8080)).ok());
        server.set_read_timeout(Some(LIMIT)).unwrap();
        server.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        server.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}")).1.to_string()
    })
}

/// Answers each client with its address.
fn serve_addresses(listener: TcpListener) {
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let address = client.peer_addr().unwrap().ip().to_string();
            client.write_all(address.as_bytes()).unwrap();
        }
    });
}

#[test]
fn a_plain_user_s_container_reaches_the_outside_and_is_reached_at_its_published_port_alone() {
    needs!(Root, UserNamespaces, Tool("pasta"), Tool("ip"));
    let mut sandbox = Sandbox::new();
    let neighbour = sandbox.neighbour();
    // To the gateway's address pasta gives a meaning of its own, the host's 127.0.0.1, unless told otherwise.
    serve_addresses(neighbour.network.run(|| TcpListener::bind((neighbour.address, 80))).unwrap());
    serve_addresses(sandbox.network().run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, PRIVATE))).unwrap());
    let directory = testing::plain_user_directory();
    let mut lesson = Forked::start(sandbox.network(), |says| {
        run_container(says, directory.path(), neighbour.address, &["8080:80"])
    });
    let line = lesson.line();
    let pasta: i32 = line.parse().unwrap_or_else(|_| panic!("{line}"));

    // Its connections are the host's own.
    let reached = format!(r#"["all", "default", "eth0", "lo"] {} [false, false]"#, neighbour.sandbox_address);
    assert_eq!(get(sandbox.network(), "127.0.0.1"), reached);
    assert_eq!(get(&neighbour.network, &neighbour.sandbox_address.to_string()), reached);
    assert!(neighbour.network.run(|| TcpStream::connect((neighbour.sandbox_address, 80))).is_err());

    // kill -9 of its parent.
    drop(lesson);
    testing::poll(LIMIT, || (!process::exists(pasta)).then_some(()));
}

#[test]
fn a_port_that_is_taken_is_an_error_in_pasta_s_words() {
    needs!(Root, UserNamespaces, Tool("pasta"), Tool("ip"));
    let mut sandbox = Sandbox::new();
    let neighbour = sandbox.neighbour();
    let _taken = sandbox.network().run(|| TcpListener::bind("0.0.0.0:8080")).unwrap();
    let directory = testing::plain_user_directory();
    let mut lesson = Forked::start(sandbox.network(), |says| {
        run_container(says, directory.path(), neighbour.address, &["8080:80"])
    });
    let line = lesson.line();
    assert!(line.starts_with("pasta ended with status 1") && line.contains("8080"), "{line}");
}
