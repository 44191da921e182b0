//! A kernel without a system call: a seccomp filter that answers in its place.
//!
//! An old kernel says ENOSYS, a container's filter may say EPERM. Both can be played on any machine. Manual
//! page: seccomp(2).

use std::io;

use nix::errno::Errno;

/// Answers system call `number` with `errno`, for this process and its children. System calls only.
pub(crate) fn deny(number: libc::c_long, errno: Errno) -> io::Result<()> {
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        // The number of the system call is the first field of struct seccomp_data.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number as u32, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: both calls take numbers, and a pointer to a program that lives through the call.
    unsafe {
        // Without CAP_SYS_ADMIN a filter needs it; it also takes setuid programs their power.
        if !nix::unistd::geteuid().is_root() {
            Errno::result(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        }
        Errno::result(libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter))?;
    }
    Ok(())
}
