//! Extended attributes of the union's objects: those of the branch's, less the marks of overlayfs.
//!
//! A layer that was made for overlayfs may bear `trusted.overlay.*` or `user.overlay.*` marks. They say
//! something of the place in that stack, so they are neither shown nor set, as overlayfs does with its own.
//!
//! Most files have none at all, and are asked for one or two all the same: by `ls -l` for each file, by the
//! kernel before the first write to one. So a node remembers that it has none. That stays true until one is
//! set, which happens only through the mount; while a new one is set, the lock on names is held alone, so
//! that nobody can remember what he saw before.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::filesystem::FileSystem;
use super::privileges;
use crate::overlay::Marks;
use crate::union::{Owner, Result, xattr};

// ANCHOR: xattr
impl FileSystem {
    /// getxattr(2).
    pub(super) fn extended_attribute(&self, id: u64, name: &OsStr) -> Result<Vec<u8>> {
        let name = visible(name).ok_or(Errno::ENODATA)?;
        let _names = self.names_stay();
        // Others may be there and not in the list, as `system.cifs_acl`, or be refused in another way.
        let is_listed = ASKED_OFTEN.contains(&name.as_c_str());
        if is_listed && self.attribute_names(id)?.is_empty() {
            return Err(Errno::ENODATA);
        }
        xattr::get(self.object(id, OFlag::O_PATH)?, &name)
    }

    /// listxattr(2): names, each with a zero byte behind it.
    pub(super) fn extended_attributes(&self, id: u64) -> Result<Vec<u8>> {
        let _names = self.names_stay();
        let names = self.attribute_names(id)?;
        let is_visible = |name: &&[u8]| CStr::from_bytes_with_nul(name).is_ok_and(|name| !Marks::have(name));
        Ok(names.split_inclusive(|&byte| byte == 0).filter(is_visible).flatten().copied().collect())
    }

    /// All names in the branch. The caller holds the lock on names.
    fn attribute_names(&self, id: u64) -> Result<Vec<u8>> {
        if self.nodes().get(id)?.has_no_attributes {
            return Ok(Vec::new());
        }
        let names = match xattr::list(self.object(id, OFlag::O_PATH)?) {
            // The branch's file system knows none.
            Err(Errno::EOPNOTSUPP) => Vec::new(),
            names => names?,
        };
        self.nodes().change(id)?.has_no_attributes = names.is_empty();
        Ok(names)
    }

    /// setxattr(2), for a caller of this user and group.
    pub(super) fn set_extended_attribute(
        &self,
        id: u64,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        caller: Owner,
    ) -> Result<()> {
        let name = visible(name).ok_or(Errno::EOPNOTSUPP)?;
        self.raise(id, None)?;
        let _names = self.names_change();
        let object = self.object(id, OFlag::O_PATH)?;
        let set = || xattr::set(&object, &name, value, flags);
        // An access list changes the mode too, and who is not in the file's group loses its set-group-id bit
        // by that. The request does not tell all groups of the caller: with the others the bit goes.
        let keeps_set_id = caller.user == 0 || caller.group == fstat(object.as_fd())?.st_gid;
        if keeps_set_id { privileges::with_all(set) } else { set() }?;
        self.nodes().change(id)?.has_no_attributes = false;
        Ok(())
    }

    /// removexattr(2).
    pub(super) fn remove_extended_attribute(&self, id: u64, name: &OsStr) -> Result<()> {
        let name = visible(name).ok_or(Errno::ENODATA)?;
        self.raise(id, None)?;
        let _names = self.names_stay();
        xattr::remove(self.object(id, OFlag::O_PATH)?, &name)
    }
}

/// What is asked of each file by its kind, by the kernel or by ls(1).
const ASKED_OFTEN: [&CStr; 4] =
    [c"security.capability", c"security.selinux", c"system.posix_acl_access", c"system.posix_acl_default"];

fn visible(name: &OsStr) -> Option<CString> {
    CString::new(name.as_bytes()).ok().filter(|name| !Marks::have(name))
}
// ANCHOR_END: xattr
