//! What Docker's default policy costs: to compile it, and at each call. Ours beside a plain list of
//! comparisons and libseccomp's, where that is installed. `scripts/bench seccomp` runs it.

#[path = "../tests/seccomp_machine/mod.rs"]
mod seccomp_machine;

use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use ch07_privileges::capabilities::CapabilitySet;
use ch07_privileges::seccomp::architecture::Architecture;
use ch07_privileges::seccomp::policy::{Action, Policy, Template};
use ch07_privileges::seccomp::program::Instruction;
use ch07_privileges::seccomp::syscalls::number;
use ch07_privileges::seccomp::{Program, compile, install};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use seccomp_machine::libseccomp::Libseccomp;

/// How often a call is made for one measurement.
const CALLS: u32 = 200_000;

/// Calls of three kinds. The kernel knows from its bitmap that the first is always allowed, and runs no
/// filter for it; the second hangs on its argument, the third is forbidden.
const MEASURED: [(&str, libc::c_long, libc::c_ulong); 3] = [
    ("getppid", libc::SYS_getppid, 0),
    ("personality(-1)", libc::SYS_personality, 0xffff_ffff),
    ("add_key", libc::SYS_add_key, 0),
];

struct Filter {
    name: &'static str,
    program: Option<Program>,
    /// Microseconds.
    compile: Vec<f64>,
    /// Nanoseconds for each of the calls.
    calls: [Vec<f64>; MEASURED.len()],
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let rounds = arguments.iter().position(|word| word == "--rounds").map(|index| &arguments[index + 1]);
    let rounds: usize = rounds.map_or(15, |rounds| rounds.parse().expect("--rounds takes a number"));
    let template = Template::default_policy();
    let policy = template.policy(CapabilitySet::DEFAULT);
    let libseccomp = Libseccomp::load();

    type Compiler<'a> = Box<dyn Fn() -> Vec<Instruction> + 'a>;
    let mut compilers: Vec<(&str, Option<Compiler>)> = vec![
        ("no filter", None),
        ("ours", Some(Box::new(|| compile(&policy).unwrap().0))),
        ("a list of ours", Some(Box::new(|| list(&policy)))),
    ];
    if let Some(libseccomp) = &libseccomp {
        let policy = &policy;
        compilers.push(("libseccomp", Some(Box::new(|| libseccomp.compile(policy, false)))));
        compilers.push(("libseccomp, tree", Some(Box::new(|| libseccomp.compile(policy, true)))));
    }
    let mut filters: Vec<Filter> = compilers
        .iter()
        .map(|(name, compiler)| Filter {
            name,
            program: compiler.as_ref().map(|compiler| Program(compiler())),
            compile: Vec::new(),
            calls: Default::default(),
        })
        .collect();
    // The rounds alternate between the filters, so that all meet the same state of the machine.
    for _ in 0..rounds {
        for (filter, (_, compiler)) in filters.iter_mut().zip(&compilers) {
            if let Some(compiler) = compiler {
                let start = Instant::now();
                black_box(compiler());
                filter.compile.push(start.elapsed().as_secs_f64() * 1e6);
            }
            for (times, time) in filter.calls.iter_mut().zip(measure(filter.program.as_ref())) {
                times.push(time);
            }
        }
    }
    print(&mut filters, rounds);
    let mut reading: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            black_box(Template::default_policy().policy(CapabilitySet::DEFAULT));
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    println!("To read the policy's text takes {:.0} µs.", median(&mut reading));
}

fn print(filters: &mut [Filter], rounds: usize) {
    let jit = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").unwrap_or_default();
    println!("Docker's default policy; medians of {rounds} rounds; bpf_jit_enable {}", jit.trim());
    print!("{:18}{:>14}{:>14}", "", "instructions", "compile µs");
    MEASURED.iter().for_each(|(name, ..)| print!("{:>20}", format!("{name} ns")));
    println!();
    for filter in filters {
        let length = filter.program.as_ref().map_or(String::new(), |program| program.0.len().to_string());
        let compile = if filter.compile.is_empty() {
            String::new()
        } else {
            format!("{:.0}", median(&mut filter.compile))
        };
        print!("{:18}{length:>14}{compile:>14}", filter.name);
        filter.calls.iter_mut().for_each(|times| print!("{:>20.0}", median(times)));
        println!();
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The same policy as simple compilers would write it: one comparison after the other. What hangs on
/// arguments is allowed; the list is for time alone.
fn list(policy: &Policy) -> Vec<Instruction> {
    let instruction = |code, k, jt, jf| Instruction { code, jt, jf, k };
    let native = Architecture::native().expect("an architecture with filters");
    let mut program = vec![
        instruction(0x20, 4, 0, 0),
        instruction(0x15, native.audit(), 1, 0),
        instruction(0x06, seccomp_machine::returned(Action::KillProcess), 0, 0),
        instruction(0x20, 0, 0, 0),
    ];
    for rule in policy.rules.iter().filter(|rule| rule.action != policy.default) {
        for number in rule.names.iter().filter_map(|name| number(native, name)) {
            program.push(instruction(0x15, number, 0, 1));
            program.push(instruction(0x06, seccomp_machine::returned(rule.action), 0, 0));
        }
    }
    program.push(instruction(0x06, seccomp_machine::returned(policy.default), 0, 0));
    program
}

/// Nanoseconds for each of the calls, in a child that has the filter.
fn measure(program: Option<&Program>) -> [f64; MEASURED.len()] {
    let (mut here, mut there) = UnixStream::pair().expect("socketpair");
    // SAFETY: this process has a single thread.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => {
            drop(there);
            let mut bytes = [0; 8 * MEASURED.len()];
            here.read_exact(&mut bytes).expect("the child's times");
            waitpid(child, None).expect("waitpid");
            let mut times = bytes.chunks(8).map(|time| f64::from_ne_bytes(time.try_into().unwrap()));
            std::array::from_fn(|_| times.next().unwrap())
        }
        ForkResult::Child => {
            // SAFETY: numbers only.
            unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            if let Some(program) = program {
                install(program, &[], false).expect("install");
            }
            for (_, number, argument) in MEASURED {
                let start = Instant::now();
                for _ in 0..CALLS {
                    // SAFETY: getppid and personality take no address; add_key gets null, and does nothing
                    // with it.
                    unsafe { libc::syscall(number, argument, 0_u64, 0_u64, 0_u64, 0_u64) };
                }
                let time = start.elapsed().as_nanos() as f64 / f64::from(CALLS);
                there.write_all(&time.to_ne_bytes()).expect("write");
            }
            // SAFETY: _exit(2) ends the process and touches no memory of it.
            unsafe { libc::_exit(0) }
        }
    }
}
