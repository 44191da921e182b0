//! Limits on the bytes that pass in a second, measured by a transfer of a known number of them.

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use common::{LIMIT, address, end, lesson, start};
use testing::{Network, Running, Sandbox, assert_held_at, needs, poll};

const BYTES: usize = 3_000_000;
const RATE: &str = "8mbit";
/// What the transfer takes at that rate, in seconds. The rate is that of whole packets: with each 1448 bytes of ours
/// go the headers of Ethernet, IP and TCP.
const EXPECTED: f64 = BYTES as f64 * (14.0 + 20.0 + 32.0 + 1448.0) / 1448.0 * 8.0 / 8e6;

/// A container that counts what it is sent at port 9000, and sends at port 9001.
fn container(sandbox: &Sandbox, options: &[&str]) -> (Running, IpAddr) {
    let script = format!(
        "nc -ll -p 9000 -e wc -c & nc -ll -p 9001 -e head -c {BYTES} /dev/zero & echo ready; exec sleep 300"
    );
    let running = start(lesson().in_sandbox(sandbox).args(options), &script);
    let address = address(&running);
    (running, address)
}

fn connect(host: &Network, address: IpAddr, port: u16) -> TcpStream {
    poll(LIMIT, || host.run(|| TcpStream::connect((address, port)).ok()))
}

/// How long the container takes to receive all, in seconds. It says so itself, by their number.
fn time_in(host: &Network, container: IpAddr) -> f64 {
    let mut connection = connect(host, container, 9000);
    let begin = Instant::now();
    connection.write_all(&vec![0; BYTES]).unwrap();
    connection.shutdown(std::net::Shutdown::Write).unwrap();
    let mut count = String::new();
    connection.read_to_string(&mut count).unwrap();
    assert_eq!(count.trim(), BYTES.to_string());
    begin.elapsed().as_secs_f64()
}

/// How long all that the container sends takes to come out, in seconds.
fn time_out(host: &Network, container: IpAddr) -> f64 {
    let mut connection = connect(host, container, 9001);
    let mut received = vec![0];
    // The clock starts with the first byte: until then the program that sends is started.
    connection.read_exact(&mut received).unwrap();
    let begin = Instant::now();
    connection.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), BYTES);
    begin.elapsed().as_secs_f64()
}

/// One transfer at a time: they would share the processor, which is slow in an emulated machine.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The rate of a transfer that took so many seconds, where [`RATE`] is 1.
fn rate(time: f64) -> f64 {
    EXPECTED / time
}

#[test]
fn what_comes_in_is_held_at_its_rate_and_what_goes_out_is_free() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let _alone = alone();
    let sandbox = Sandbox::new();
    let (running, container) = container(&sandbox, &["--rate-in", RATE]);
    assert_held_at(1.0, || rate(time_in(sandbox.network(), container)));
    let time = time_out(sandbox.network(), container);
    assert!(time < EXPECTED / 2.0, "{time} s out");
    end(running);
    sandbox.check();
}

#[test]
fn what_goes_out_is_held_at_its_rate_and_what_comes_in_is_free() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let _alone = alone();
    let sandbox = Sandbox::new();
    let (running, container) = container(&sandbox, &["--rate-out", RATE]);
    assert_held_at(1.0, || rate(time_out(sandbox.network(), container)));
    let time = time_in(sandbox.network(), container);
    assert!(time < EXPECTED / 2.0, "{time} s in");
    end(running);
    sandbox.check();
}

#[test]
fn both_limits_hold_at_once() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let _alone = alone();
    let sandbox = Sandbox::new();
    let (running, container) = container(&sandbox, &["--rate-in", RATE, "--rate-out", "16mbit"]);
    assert_held_at(1.0, || rate(time_in(sandbox.network(), container)));
    assert_held_at(2.0, || rate(time_out(sandbox.network(), container)));
    end(running);
    sandbox.check();
}

#[test]
fn without_a_limit_nothing_is_held_back() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let _alone = alone();
    let sandbox = Sandbox::new();
    let (running, container) = container(&sandbox, &[]);
    let (incoming, outgoing) =
        (time_in(sandbox.network(), container), time_out(sandbox.network(), container));
    assert!(incoming.max(outgoing) < EXPECTED / 2.0, "{incoming} s, {outgoing} s");
    end(running);
    sandbox.check();
}
