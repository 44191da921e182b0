//! What happens to who has joined when the container ends?

use anyhow::Result;
use ch00_chroot::exec;
use ch00_chroot::exec::clean_environment;
use log::info;

use super::Stage;

/// The kernel sends SIGKILL to every process of the PID namespace, and so to those that came later.
pub fn of_the_container(stage: &mut Stage) -> Result<()> {
    info!(target: "say", "Join it with `sleep`, and then kill the container's first process.");
    let command = ["sleep", "100000"].map(Into::into);
    let mut child = stage.join(None, || Ok(exec(&command, &clean_environment())?))?;
    info!(target: "syscall", "pidfd_send_signal({}, SIGKILL)  the first process alone", stage.target.pid());
    stage.container.kill()?;
    let status = child.wait()?;
    info!(target: "kernel", "the joined process has ended with status {status}: 128 + SIGKILL");
    stage.signals.stop_if_told()
}
