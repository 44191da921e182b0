//! A cgroup that systemd makes.
//!
//! Where PID 1 is systemd, the tree of cgroups is its own, and it may at any time remove a cgroup there that it
//! does not know or reset a limit (`systemctl daemon-reload`). So a runtime asks systemd for a cgroup. It is a
//! *unit*: a *scope* holds processes that others have started, a *slice* holds other units. With `Delegate=yes`
//! what is below a scope is ours; its own limits stay systemd's, and are asked for as properties.
//!
//! systemd is asked over D-Bus, a protocol of messages through a socket, in which objects have methods,
//! properties and signals. Manual pages: systemd.scope(5), systemd.slice(5), systemd.resource-control(5),
//! org.freedesktop.systemd1(5); [Control group APIs](https://systemd.io/CONTROL_GROUP_INTERFACE/).

mod bus;
mod devices;
mod properties;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use log::{debug, info};
use nix::unistd::geteuid;
use rustbus::wire::ObjectPath;

use crate::limits::Limits;
use bus::{Bus, Call, Refused};
pub use properties::{Property, Value};

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";

// ANCHOR: unit
/// A unit to be made.
#[derive(Clone, Debug)]
pub struct Unit<'a> {
    /// Ends in `.scope` or in `.slice`. A dash in the name of a slice is a level: `a-b.slice` is in `a.slice`.
    pub name: &'a str,
    /// One line for people.
    pub description: &'a str,
    /// The slice that a scope is in; if none, `system.slice`, or `user.slice` of a user's systemd, as with runc.
    pub slice: Option<&'a str>,
    /// Processes that the scope starts with. A scope without any can't be.
    pub processes: &'a [i32],
    /// What of these systemd has properties for.
    pub limits: &'a Limits,
    /// More properties, the last.
    pub properties: Vec<Property>,
}
// ANCHOR_END: unit

// ANCHOR: manager
/// systemd: the system's, or the one that a user has.
pub struct Manager {
    bus: Bus,
    version: u32,
    default_slice: &'static str,
}

impl Manager {
    /// The system's. It does this for root only.
    pub fn system() -> Result<Manager> {
        Manager::connect("/run/dbus/system_bus_socket", "system.slice")
    }

    /// The one of the user that we run as.
    pub fn user() -> Result<Manager> {
        Manager::connect(&user_socket()?, "user.slice")
    }

    fn connect(socket: &str, default_slice: &'static str) -> Result<Manager> {
        // As sd_booted(3) finds out.
        ensure!(
            Path::new("/run/systemd/system").is_dir(),
            "there is no systemd to ask for a cgroup: PID 1 is another program (no /run/systemd/system)"
        );
        info!(target: "syscall", "connect(\"{socket}\")  the message bus; systemd is asked through it");
        let mut bus = Bus::connect(socket).with_context(|| {
            format!("connect to the message bus at {socket:?}, to ask systemd for a cgroup")
        })?;
        let version: String = bus.property(DESTINATION, MANAGER, INTERFACE, "Version")?;
        // "257.9-1~deb13u1" and "v252": the first number.
        let digits = version.trim_start_matches('v').split(|letter: char| !letter.is_ascii_digit()).next();
        let version = digits.unwrap_or_default().parse();
        let version = version.with_context(|| format!("systemd's version {digits:?} is no number"))?;
        // Now, since a job may be over before the answer to its call has been read.
        bus.call(manager("Subscribe")).context("ask systemd to tell when jobs end")?;
        bus.listen(&format!("type='signal',interface='{INTERFACE}',member='JobRemoved'"))?;
        Ok(Manager { bus, version, default_slice })
    }
    // ANCHOR_END: manager

    /// systemd's version: 257.
    pub fn version(&self) -> u32 {
        self.version
    }

    // ANCHOR: start
    /// Makes the unit, and waits until it is there. Returns its cgroup: a path from the root of the hierarchy.
    ///
    /// # Errors
    ///
    /// Where there is such a unit already, unless it is a slice: slices are shared.
    pub fn start(&mut self, unit: &Unit) -> Result<String> {
        let properties = properties::of_unit(unit, self.default_slice, self.version)?;
        let name = unit.name;
        info!(
            target: "syscall",
            "StartTransientUnit(\"{name}\", \"replace\", {} properties)  a message to systemd",
            properties.len()
        );
        for property in &properties {
            debug!(target: "syscall", "  {} = {:?}", property.name, property.value);
        }
        match self.try_start(name, &properties) {
            Err(error) if is_refused(&error, "UnitExists") && name.ends_with(".slice") => {}
            Err(error) if is_refused(&error, "UnitExists") => {
                // One that has failed stays until it is forgotten; then its name is free.
                self.reset_failed(name)?;
                self.try_start(name, &properties)?;
            }
            result => result?,
        }
        self.control_group(name)
    }

    fn try_start(&mut self, name: &str, properties: &[Property]) -> Result<()> {
        self.run_job(name, "start", |bus| {
            let mut call = manager("StartTransientUnit");
            call.push(name)?.push("replace")?.push(properties)?;
            // Units that this one needs: none.
            call.push(&[] as &[(&str, &[Property])])?;
            bus.call(call)
        })
    }
    // ANCHOR_END: start

    // ANCHOR: stop
    /// Sets those limits of the unit that systemd has properties for, until it ends.
    pub fn set(&mut self, name: &str, limits: &Limits) -> Result<()> {
        let properties = properties::of_limits(limits, self.version)?;
        info!(target: "syscall", "SetUnitProperties(\"{name}\", true, {} properties)", properties.len());
        let mut call = manager("SetUnitProperties");
        // true: for this run only, in no file.
        call.push(name)?.push(true)?.push(properties.as_slice())?;
        self.bus.call(call).with_context(|| format!("ask systemd to set limits of {name}"))?;
        Ok(())
    }

    /// Ends the unit, and waits until it is gone. Its processes get SIGTERM, and SIGKILL 90 seconds later (if
    /// `TimeoutStopUSec` says nothing else). One that is gone already is none that needs stopping.
    pub fn stop(&mut self, name: &str) -> Result<()> {
        info!(target: "syscall", "StopUnit(\"{name}\", \"replace\")");
        let stopped = self.run_job(name, "stop", |bus| {
            let mut call = manager("StopUnit");
            call.push(name)?.push("replace")?;
            bus.call(call)
        });
        match stopped {
            Err(error) if is_refused(&error, "NoSuchUnit") => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.reset_failed(name),
        }
    }
    // ANCHOR_END: stop

    /// Makes systemd forget that the unit failed, and so the unit.
    fn reset_failed(&mut self, name: &str) -> Result<()> {
        let mut call = manager("ResetFailedUnit");
        call.push(name)?;
        match self.bus.call(call) {
            Err(error) if is_refused(&error, "NoSuchUnit") => Ok(()),
            result => result.map(drop).with_context(|| format!("ask systemd to forget {name}")),
        }
    }

    /// The cgroup of a unit: a path from the root of the hierarchy.
    pub fn control_group(&mut self, name: &str) -> Result<String> {
        let mut call = manager("GetUnit");
        call.push(name)?;
        let reply = self.bus.call(call).with_context(|| format!("ask systemd for {name}"))?;
        let object: ObjectPath<String> = reply.get()?;
        let interface = match name.ends_with(".slice") {
            true => "org.freedesktop.systemd1.Slice",
            false => "org.freedesktop.systemd1.Scope",
        };
        self.bus.property(DESTINATION, object.as_ref(), interface, "ControlGroup")
    }

    // ANCHOR: job
    /// Makes a call that starts a job, and waits for the end of that job.
    fn run_job(
        &mut self,
        name: &str,
        what: &str,
        call: impl FnOnce(&mut Bus) -> Result<bus::Reply>,
    ) -> Result<()> {
        let doing = || format!("ask systemd to {what} {name}");
        let job: ObjectPath<String> = call(&mut self.bus).with_context(doing)?.get()?;
        let result = self.bus.wait_for_signal("JobRemoved", |signal| {
            let (_, removed, _, result): (u32, ObjectPath<String>, String, String) = signal.get4()?;
            Ok((removed == job).then_some(result))
        });
        match result.with_context(doing)?.as_str() {
            "done" => Ok(()),
            other => {
                self.reset_failed(name)?;
                bail!(
                    "systemd could not {what} {name}: its job ended as {other:?}; see `systemctl status {name}`"
                )
            }
        }
    }
    // ANCHOR_END: job
}

fn manager(method: &'static str) -> Call {
    Call::new(DESTINATION, MANAGER, INTERFACE, method)
}

fn is_refused(error: &anyhow::Error, name: &str) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.name == format!("{DESTINATION}.{name}"))
}

/// The socket of the user's message bus, in the order in which sd_bus_open_user(3) looks.
fn user_socket() -> Result<String> {
    if let Ok(address) = std::env::var("DBUS_SESSION_BUS_ADDRESS") {
        // unix:path=/run/user/1000/bus,guid=...
        let path = address.strip_prefix("unix:path=").and_then(|rest| rest.split([',', ';']).next());
        return Ok(path
            .with_context(|| format!("DBUS_SESSION_BUS_ADDRESS={address}: not of the form unix:path=PATH"))?
            .to_string());
    }
    let directory = std::env::var("XDG_RUNTIME_DIR").unwrap_or_else(|_| format!("/run/user/{}", geteuid()));
    Ok(format!("{directory}/bus"))
}
