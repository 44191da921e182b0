//! The plain user as whom tests run programs when the tests themselves run as root.

use std::os::unix::fs::{PermissionsExt, chown};

use nix::unistd::{Gid, Uid, User, geteuid, getgid, setgroups, setresgid, setresuid};
use tempfile::TempDir;

/// A user without privileges: ourselves, or for root the user with uid 1000.
#[derive(Clone, Debug)]
pub struct PlainUser {
    /// The user id.
    pub uid: Uid,
    /// The primary group.
    pub gid: Gid,
    /// The name in the user database; `uid1000` where it has no such user.
    pub name: String,
}

impl PlainUser {
    /// The plain user of this machine. Most systems give uid 1000 to the first person; where nobody has it,
    /// the bare number does as well, since the kernel knows no names.
    pub fn get() -> PlainUser {
        let uid = if geteuid().is_root() { Uid::from_raw(1000) } else { geteuid() };
        let entry = User::from_uid(uid).unwrap_or_else(|errno| panic!("getpwuid_r({uid}): {errno}"));
        let gid = if geteuid().is_root() { Gid::from_raw(1000) } else { getgid() };
        match entry {
            Some(entry) => PlainUser { uid, gid: entry.gid, name: entry.name },
            None => PlainUser { uid, gid, name: format!("uid{uid}") },
        }
    }

    /// Gives up root for good. System calls only: fit for a forked child. Nothing is done where we are no
    /// root.
    pub(crate) fn become_in_child(&self) -> nix::Result<()> {
        if !geteuid().is_root() {
            return Ok(());
        }
        // Groups first: without uid 0 they could not be dropped any more, and root's group 0 would stay.
        setgroups(&[])?;
        setresgid(self.gid, self.gid, self.gid)?;
        setresuid(self.uid, self.uid, self.uid)
    }
}

/// A fresh directory that belongs to the plain user, removed when it is dropped.
pub fn plain_user_directory() -> TempDir {
    let user = PlainUser::get();
    let directory =
        tempfile::Builder::new().prefix("hull-test-").tempdir().expect("make a temporary directory");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), mode).expect("chmod the temporary directory");
    chown(directory.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .expect("chown the temporary directory");
    directory
}
