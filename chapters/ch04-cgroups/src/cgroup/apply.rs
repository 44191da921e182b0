//! Limits are set and read back: each in the directory that has its controller, in the way of that version.
//!
//! Three controllers have the same files in both versions: pids, cpuset, rdma.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail, ensure};

use super::{Cgroup, Warning};
use crate::file::Directory;
use crate::limits::{Cpu, Cpuset, Io, Limits, Memory, Network, Rdma};
use crate::{Bound, Version, devices, v1, v2};

// ANCHOR: apply
impl Cgroup {
    /// Sets limits. What is `None` or empty stays as it is.
    ///
    /// Processes that are in it are held to them from then on; memory beyond a new limit is reclaimed, and
    /// where that fails the OOM killer is called (version 2), or the limit refused with EBUSY (version 1).
    ///
    /// # Errors
    ///
    /// A limit that can't be set: the error names the file, the value, the errno, and why, where that can be
    /// found out: the controller is not handed down, not delegated, not compiled in. Those set before stay.
    pub fn apply(&self, limits: &Limits) -> Result<Vec<Warning>> {
        let mut warnings = Vec::new();
        if let Some(pids) = limits.pids {
            self.with("pids")?.write(
                "pids.max",
                &pids.to_string(),
                "no more processes and threads than this",
            )?;
        }
        if limits.memory != Memory::default() {
            let directory = self.with("memory")?;
            match directory.version() {
                Version::V1 => v1::memory::write(directory, &limits.memory, &mut warnings)?,
                Version::V2 => v2::memory::write(directory, &limits.memory, &mut warnings)?,
            }
        }
        if limits.io != Io::default() {
            let directory = self.with("io")?;
            match directory.version() {
                Version::V1 => v1::io::write(directory, &limits.io, &mut warnings)?,
                Version::V2 => v2::io::write(directory, &limits.io, &mut warnings)?,
            }
        }
        if limits.cpu != Cpu::default() {
            let directory = self.with("cpu")?;
            match directory.version() {
                Version::V1 => v1::cpu::write(directory, &limits.cpu)?,
                Version::V2 => v2::cpu::write(directory, &limits.cpu)?,
            }
        }
        if limits.cpuset != Cpuset::default() {
            write_cpuset(self.with("cpuset")?, &limits.cpuset)?;
        }
        for (size, bound) in &limits.hugetlb {
            write_hugetlb(self.with("hugetlb")?, size, *bound)?;
        }
        for (device, bounds) in &limits.rdma {
            write_rdma(self.with("rdma")?, device, bounds)?;
        }
        self.write_network(&limits.network)?;
        self.write_devices(&limits.devices)?;
        self.write_unified(&limits.unified)?;
        Ok(warnings)
    }
}
// ANCHOR_END: apply

// ANCHOR: same
/// The processors of a cgroup must be among those of the one above it, and in version 1 there must be some of
/// both kinds before a process can enter.
fn write_cpuset(directory: &Directory, cpuset: &Cpuset) -> Result<()> {
    if let Some(cpus) = &cpuset.cpus {
        directory.write("cpuset.cpus", cpus, "these processors alone")?;
    }
    if let Some(mems) = &cpuset.mems {
        directory.write("cpuset.mems", mems, "memory of these nodes alone")?;
    }
    Ok(())
}

fn write_rdma(directory: &Directory, device: &str, bounds: &Rdma) -> Result<()> {
    let handle = bounds.hca_handle.map(|bound| format!(" hca_handle={bound}")).unwrap_or_default();
    let object = bounds.hca_object.map(|bound| format!(" hca_object={bound}")).unwrap_or_default();
    directory.write("rdma.max", &format!("{device}{handle}{object}"), "of an RDMA device")
}
// ANCHOR_END: same

// ANCHOR: hugetlb
/// A page counts when it is used, and a second time where the kernel counts reservations too (Linux 5.7).
fn write_hugetlb(directory: &Directory, size: &str, bound: Bound) -> Result<()> {
    let (file, value) = match directory.version() {
        Version::V1 => ("limit_in_bytes", v1::value(bound)),
        Version::V2 => ("max", bound.to_string()),
    };
    let reason = "huge pages of this size, in bytes";
    directory.write(&format!("hugetlb.{size}.{file}"), &value, reason)?;
    let reserved = format!("hugetlb.{size}.rsvd.{file}");
    if directory.has(&reserved) { directory.write(&reserved, &value, reason) } else { Ok(()) }
}
// ANCHOR_END: hugetlb

// ANCHOR: others
impl Cgroup {
    fn write_network(&self, network: &Network) -> Result<()> {
        if let Some(class) = network.class_id {
            let reason = "the class of its packets, for tc";
            self.with("net_cls")?.write("net_cls.classid", &class.to_string(), reason)?;
        }
        for (interface, priority) in &network.priorities {
            let value = format!("{interface} {priority}");
            self.with("net_prio")?.write("net_prio.ifpriomap", &value, "the priority of its packets")?;
        }
        Ok(())
    }

    /// Version 1 has a controller for devices, version 2 an eBPF program on the directory.
    fn write_devices(&self, rules: &[devices::Rule]) -> Result<()> {
        if rules.is_empty() {
            return Ok(());
        }
        match (self.find("devices"), self.unified()) {
            (Some(directory), _) => devices::v1::write(directory.as_fd(), rules)
                .with_context(|| format!("the devices of {:?}", directory.path)),
            (None, Some(directory)) => devices::v2::attach(directory.as_fd(), rules)
                .with_context(|| format!("the devices of {:?}", directory.path)),
            (None, None) => self.with("devices").map(drop),
        }
    }

    fn write_unified(&self, files: &BTreeMap<String, String>) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let Some(directory) = self.unified() else {
            bail!("files by name are of version 2, and only version 1 is mounted here")
        };
        for (name, value) in files {
            // A slash would lead to the files of another cgroup.
            ensure!(!name.contains('/'), "{name:?} is no name of a file");
            directory.write(name, value, "as it was asked for, by name")?;
        }
        Ok(())
    }
}
// ANCHOR_END: others

// ANCHOR: read
impl Cgroup {
    pub(super) fn read_limits(&self) -> Result<Limits> {
        let mut limits = Limits::default();
        if let Some(directory) = self.find("memory") {
            limits.memory = match directory.version() {
                Version::V1 => v1::memory::read(directory)?,
                Version::V2 => v2::memory::read(directory)?,
            };
        }
        if let Some(directory) = self.find("io") {
            limits.io = match directory.version() {
                Version::V1 => v1::io::read(directory)?,
                Version::V2 => v2::io::read(directory)?,
            };
        }
        if let Some(directory) = self.find("cpu") {
            limits.cpu = match directory.version() {
                Version::V1 => v1::cpu::read(directory)?,
                Version::V2 => v2::cpu::read(directory)?,
            };
        }
        if let Some(directory) = self.find("pids") {
            limits.pids = directory.read_if_there("pids.max")?.map(|text| text.parse()).transpose()?;
        }
        if let Some(directory) = self.find("cpuset") {
            limits.cpuset.cpus = directory.read_if_there("cpuset.cpus")?;
            limits.cpuset.mems = directory.read_if_there("cpuset.mems")?;
        }
        if let Some(directory) = self.find("net_cls") {
            limits.network.class_id =
                directory.read_if_there("net_cls.classid")?.and_then(|text| text.parse().ok());
        }
        Ok(limits)
    }
}
// ANCHOR_END: read
