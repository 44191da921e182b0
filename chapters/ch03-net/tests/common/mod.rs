//! The lesson as a container with a server in it, for tests that look at it from outside.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use testing::process::children;
use testing::{Network, Output, Program, Running, Sandbox, poll};

pub const LESSON: &str = env!("CARGO_BIN_EXE_ch03-net");
pub const LIMIT: Duration = Duration::from_secs(30);

pub fn lesson() -> Program {
    Program::new(LESSON).arg("--quiet")
}

/// Runs a shell script in a container.
pub fn inside(program: Program, script: &str) -> Output {
    program.args(["--", "sh", "-c", script]).run()
}

/// Starts a shell script in a container, and waits until it has printed `ready`.
pub fn start(program: Program, script: &str) -> Running {
    let mut running = program.args(["--", "sh", "-c", script]).spawn();
    let line = running.stdout_line();
    assert_eq!(line.trim(), "ready");
    running
}

/// A web server in a container of the sandbox, whose only page is `page`.
pub fn web_server(sandbox: &Sandbox, options: &[&str], page: &str) -> Running {
    // /dev/shm, since the root file system is one for all containers.
    let script = format!(
        "mkdir /dev/shm/www && echo {page} > /dev/shm/www/index.html && echo ready && exec httpd -f -p 80 -h /dev/shm/www"
    );
    start(lesson().in_sandbox(sandbox).args(options), &script)
}

/// What a web server says, asked from `network`; the connection's error where there is none.
pub fn get(network: &Network, address: impl Into<IpAddr>, port: u16) -> std::io::Result<String> {
    let address = SocketAddr::new(address.into(), port);
    network.run(|| {
        let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        connection.set_read_timeout(Some(LIMIT))?;
        connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer.split("\r\n\r\n").nth(1).unwrap_or_default().trim().to_string())
    })
}

/// As [`get`], once the server listens.
pub fn get_soon(network: &Network, address: impl Into<IpAddr>, port: u16) -> String {
    let address = address.into();
    poll(LIMIT, || get(network, address, port).ok())
}

/// Waits in a thread for one client of `server`, and hangs up; the result is where it came from.
pub fn answer_one(server: TcpListener) -> JoinHandle<IpAddr> {
    thread::spawn(move || server.accept().expect("accept").1.ip())
}

/// The container's init, as the test sees it: the lesson's child in another network namespace than the lesson.
pub fn init(lesson: &Running) -> i32 {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let is_container = |pid: &i32| namespace(*pid).is_some() && namespace(*pid) != namespace(lesson.pid());
    poll(LIMIT, || children(lesson.pid()).into_iter().find(is_container))
}

/// The container's address on the bridge, as the kernel tells it from outside.
pub fn address(lesson: &Running) -> IpAddr {
    let text = Network::of(init(lesson)).shell("ip -4 -o address show dev eth0");
    let address = text.split_whitespace().nth(3).and_then(|text| text.split('/').next()?.parse().ok());
    address.unwrap_or_else(|| panic!("no address in {text:?}"))
}

/// Ends a container, and waits until its lesson has taken everything down.
pub fn end(running: Running) {
    running.signal(libc::SIGTERM);
    let output = running.wait();
    assert_eq!(output.stderr, "", "{output}");
}
