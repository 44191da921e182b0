//! The making of a new file system, step by step: fsopen(2), fsconfig(2), fsmount(2).
//!
//! The *file system context* collects the settings one at a time, so a wrong one is refused by itself, and
//! the kernel puts into words what is wrong: they are read from the context's descriptor. Linux 5.2.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context as _, Result, anyhow};
use nix::errno::Errno;
use nix::unistd::read;

use crate::Attributes;
use crate::tree::{Setting, c_string, descriptor};

// ANCHOR: context
/// A file system in the making.
pub(crate) struct Context {
    context: OwnedFd,
    kind: String,
}

impl Context {
    pub(crate) fn open(kind: &str) -> Result<Context> {
        let name = c_string(kind.as_bytes())?;
        // SAFETY: the name is a C string that lives through the call.
        let context = unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), libc::FSOPEN_CLOEXEC) };
        let context = descriptor(context).with_context(|| format!("fsopen {kind:?}"))?;
        Ok(Context { context, kind: kind.into() })
    }

    pub(crate) fn set(&self, setting: Setting) -> Result<()> {
        let result = match setting {
            Setting::Flag(key) => self.configure(libc::FSCONFIG_SET_FLAG, Some(key), None, 0)?,
            Setting::Text(key, value) => {
                self.configure(libc::FSCONFIG_SET_STRING, Some(key), Some(value), 0)?
            }
            Setting::Descriptor(key, file) => {
                self.configure(libc::FSCONFIG_SET_FD, Some(key), None, file.as_raw_fd())?
            }
        };
        result.map_err(|errno| self.refusal(errno, &format!("fsconfig of the setting {setting}")))
    }

    pub(crate) fn mount(&self, attributes: Attributes) -> Result<OwnedFd> {
        let made = self.configure(libc::FSCONFIG_CMD_CREATE, None, None, 0)?;
        made.map_err(|errno| self.refusal(errno, "fsconfig(FSCONFIG_CMD_CREATE)"))?;
        let (context, attributes) = (self.context.as_raw_fd(), attributes.bits() as u32);
        // SAFETY: the call takes numbers only.
        let mount = unsafe { libc::syscall(libc::SYS_fsmount, context, libc::FSMOUNT_CLOEXEC, attributes) };
        descriptor(mount).map_err(|errno| self.refusal(errno, "fsmount"))
    }

    fn configure(
        &self,
        command: libc::fsconfig_command,
        key: Option<&str>,
        value: Option<&str>,
        number: i32,
    ) -> Result<Result<(), Errno>> {
        let key = key.map(|key| c_string(key.as_bytes())).transpose()?;
        let value = value.map(|value| c_string(value.as_bytes())).transpose()?;
        let pointer = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
        let (context, key, value) = (self.context.as_raw_fd(), pointer(&key), pointer(&value));
        // SAFETY: both pointers are null or C strings that live through the call.
        let result = unsafe { libc::syscall(libc::SYS_fsconfig, context, command, key, value, number) };
        Ok(Errno::result(result).map(drop))
    }
}
// ANCHOR_END: context

// ANCHOR: messages
impl Context {
    fn refusal(&self, errno: Errno, operation: &str) -> anyhow::Error {
        let said = self.messages();
        let said =
            if said.is_empty() { String::new() } else { format!(" (the kernel says: {})", said.join("; ")) };
        anyhow!(errno).context(format!("{operation} of {:?}{said}", self.kind))
    }

    /// What the kernel has to say: each read(2) gives one message, with its kind (`e`, `w`, `i`) and a space
    /// before it.
    fn messages(&self) -> Vec<String> {
        let mut messages = Vec::new();
        let mut message = [0; 1024];
        // ENODATA: there is no further message. EINVAL and the like would be one more error about an error.
        while let Ok(length @ 1..) = read(&self.context, &mut message) {
            let text = String::from_utf8_lossy(&message[..length]);
            messages.push(text.trim().get(2..).unwrap_or_default().to_string());
        }
        messages
    }
}
// ANCHOR_END: messages

impl fmt::Display for Setting<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Setting::Flag(key) => formatter.write_str(key),
            Setting::Text(key, value) => write!(formatter, "{key}={value}"),
            Setting::Descriptor(key, _) => write!(formatter, "{key}=fd"),
        }
    }
}
