//! The system call that loads programs into the kernel and attaches them: bpf(2).
//!
//! Its argument is a union; each command has a struct of its own in it. The kernel takes a shorter struct than
//! its own, and reads zeros behind it. The numbers are those of `<linux/bpf.h>`.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::program::Instruction;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;
/// `BPF_CGROUP_MAX_PROGS` in the kernel.
const MOST_PROGRAMS: usize = 64;

// ANCHOR: bpf
/// # Safety
///
/// `attributes` is the struct of `command`, and the addresses in it are of memory that the command may use.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> nix::Result<i64> {
    let size = size_of::<T>();
    // SAFETY: the kernel reads and writes `size` bytes of `attributes`; the caller answers for the rest.
    Errno::result(unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *mut T, size) })
}
// ANCHOR_END: bpf

// ANCHOR: load
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// Loads a program of the type that decides about devices. `name` has at most 15 bytes.
///
/// # Errors
///
/// The errno, and what the verifier said, if it was it that refused.
pub fn load(program: &[Instruction], name: &CStr) -> Result<OwnedFd, (Errno, String)> {
    let mut attributes = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        ..Load::default()
    };
    attributes.prog_name[..name.count_bytes()].copy_from_slice(name.to_bytes());
    // SAFETY: the instructions and the license outlive the call. A new descriptor is ours alone.
    let load = |attributes: &mut Load| unsafe {
        bpf(BPF_PROG_LOAD, attributes).map(|descriptor| OwnedFd::from_raw_fd(descriptor as i32))
    };
    load(&mut attributes).map_err(|errno| {
        // Again, for the reason: the verifier writes it into a buffer, if it has one.
        let mut log = vec![0; 1 << 16];
        attributes.log_level = 1;
        attributes.log_size = log.len() as u32;
        attributes.log_buf = log.as_mut_ptr() as u64;
        let _ = load(&mut attributes);
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
        (errno, String::from_utf8_lossy(&log[..end]).trim_end().to_string())
    })
}
// ANCHOR_END: load

#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    reserved: u32,
}

/// The identifiers of the programs that decide about devices and are attached to this cgroup itself.
pub fn attached(cgroup: BorrowedFd) -> nix::Result<Vec<u32>> {
    let mut identifiers = vec![0_u32; MOST_PROGRAMS];
    let mut attributes = Query {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: identifiers.as_mut_ptr() as u64,
        prog_cnt: identifiers.len() as u32,
        ..Query::default()
    };
    // SAFETY: the kernel writes at most `prog_cnt` identifiers to `prog_ids`.
    unsafe { bpf(BPF_PROG_QUERY, &mut attributes) }?;
    identifiers.truncate(attributes.prog_cnt as usize);
    Ok(identifiers)
}

#[repr(C)]
#[derive(Default)]
struct GetFdById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// A descriptor of the program with this identifier.
pub fn open(identifier: u32) -> nix::Result<OwnedFd> {
    let mut attributes = GetFdById { prog_id: identifier, ..GetFdById::default() };
    // SAFETY: there are no addresses in this struct. A new descriptor is ours alone.
    unsafe {
        bpf(BPF_PROG_GET_FD_BY_ID, &mut attributes).map(|descriptor| OwnedFd::from_raw_fd(descriptor as i32))
    }
}

#[repr(C)]
#[derive(Default)]
struct GetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_prog_info` up to the name.
#[repr(C)]
#[derive(Default)]
struct Info {
    before: [u64; 8],
    name: [u8; 16],
}

/// The name that the program was loaded with.
pub fn name(program: BorrowedFd) -> nix::Result<Vec<u8>> {
    let mut info = Info::default();
    let mut attributes = GetInfo {
        bpf_fd: program.as_raw_fd() as u32,
        info_len: size_of::<Info>() as u32,
        info: &raw mut info as u64,
    };
    // SAFETY: the kernel reads and writes at most `info_len` bytes of `info`. The fields in `before` are zero:
    // as lengths of buffers they ask for nothing.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    Ok(info.name.into_iter().take_while(|byte| *byte != 0).collect())
}

// ANCHOR: attach
#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// Attaches a program to a cgroup: in the place of another in one step, or beside all others.
pub fn attach(cgroup: BorrowedFd, program: BorrowedFd, replaced: Option<BorrowedFd>) -> nix::Result<()> {
    let mut attributes = Attach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
        ..Attach::default()
    };
    if let Some(replaced) = replaced {
        attributes.attach_flags |= BPF_F_REPLACE;
        attributes.replace_bpf_fd = replaced.as_raw_fd() as u32;
    }
    // SAFETY: there are no addresses in this struct.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attributes) }.map(drop)
}
// ANCHOR_END: attach
