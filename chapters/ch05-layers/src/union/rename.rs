//! Rename: a new name on top, and a whiteout where the old one was.
//!
//! Of a directory that shows something of a lower branch it is refused with EXDEV, as by AuFS and overlayfs:
//! all that is below it would have to be copied up first. mv(1) takes that for another file system, copies
//! and deletes.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use log::debug;
use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat, renameat2};

use super::lookup::Answer;
use super::make::{check_new_name, make_opaque, make_whiteout, remove_whiteout};
use super::remove::remove_marks;
use super::{Directory, Entry, Result, Union};

/// A name in a directory, which has the top.
type Place<'a> = (&'a Directory, &'a OsStr);

// ANCHOR: rename
impl Union {
    /// renameat2(2); `flags` are its flags. Both directories have the top.
    ///
    /// # Errors
    ///
    /// EXDEV: a directory that a lower branch has a part in. EINVAL: RENAME_WHITEOUT, which is overlayfs's
    /// own. EEXIST, EISDIR, ENOTDIR, ENOTEMPTY. As for [`Union::make`] and [`Union::copy_up`].
    pub fn rename(
        &self,
        from: &Directory,
        name: &OsStr,
        to: &Directory,
        new_name: &OsStr,
        flags: u32,
    ) -> Result<()> {
        let (old, new) = ((from, name), (to, new_name));
        check_new_name(new_name)?;
        let source = self.lookup(from, name)?;
        let target = self.search(to, new_name)?;
        match (flags, &target) {
            (0, _) => self.replace(old, &source, new, &target),
            (libc::RENAME_NOREPLACE, Answer::Found(_)) => Err(Errno::EEXIST),
            (libc::RENAME_NOREPLACE, _) => self.replace(old, &source, new, &target),
            (libc::RENAME_EXCHANGE, Answer::Found(target)) => self.exchange(old, &source, new, target),
            (libc::RENAME_EXCHANGE, _) => Err(Errno::ENOENT),
            _ => Err(Errno::EINVAL),
        }
    }

    fn replace(&self, old: Place, source: &Entry, new: Place, target: &Answer) -> Result<()> {
        if let Answer::Found(target) = target {
            self.check_replaceable(source, new, target)?;
        }
        if old == new {
            return Ok(());
        }
        let (top, new_top) = (self.top(old.0)?, self.top(new.0)?);
        self.check_movable(old, source)?;
        self.bring_to_top(old, source)?;
        if source.is_directory() && self.is_below(new.0, new.1)? {
            make_opaque(&top, old.1)?;
        }
        let target_is_hidden = match target {
            Answer::Found(target) if target.is_directory() && target.branch == 0 => {
                self.clear(new, &new_top)?
            }
            Answer::Found(_) | Answer::Nothing => false,
            Answer::Whiteout(branch) => *branch == 0,
        };
        // Before the rename, as in a deletion: beside its own whiteout, the source is still there.
        let hidden_now = self.is_below(old.0, old.1)? && make_whiteout(&top, old.1)?;
        debug!(target: "syscall", "renameat({:?}, {:?})", old.1, new.1);
        if let Err(errno) = renameat(&top, old.1, &new_top, new.1) {
            if hidden_now {
                remove_whiteout(&top, old.1)?;
            }
            return Err(errno);
        }
        if target_is_hidden { remove_whiteout(&new_top, new.1) } else { Ok(()) }
    }

    /// The errors of rename(2) for a target that exists.
    fn check_replaceable(&self, source: &Entry, new: Place, target: &Entry) -> Result<()> {
        match (source.is_directory(), target.is_directory()) {
            (false, true) => Err(Errno::EISDIR),
            (true, false) => Err(Errno::ENOTDIR),
            (false, false) => Ok(()),
            (true, true) if self.list(&self.enter(new.0, new.1)?)?.is_empty() => Ok(()),
            (true, true) => Err(Errno::ENOTEMPTY),
        }
    }

    /// EXDEV: it is a directory that a lower branch has a part in.
    fn check_movable(&self, (parent, name): Place, entry: &Entry) -> Result<()> {
        let is_movable = !entry.is_directory() || self.enter(parent, name)?.branches == [0];
        if is_movable { Ok(()) } else { Err(Errno::EXDEV) }
    }

    /// A directory that is movable is there already.
    fn bring_to_top(&self, (parent, name): Place, entry: &Entry) -> Result<()> {
        if entry.is_directory() { Ok(()) } else { self.copy_up(parent, name) }
    }

    /// Removes the whiteouts in a directory that the union shows empty, so that rename(2) finds it empty too.
    /// True: beside it there is a whiteout of its own now, which keeps it empty meanwhile.
    fn clear(&self, (parent, name): Place, top: &OwnedFd) -> Result<bool> {
        let is_hidden = self.is_below(parent, name)?;
        if is_hidden {
            make_whiteout(top, name)?;
        }
        remove_marks(top, name)?;
        Ok(is_hidden)
    }

    /// Both names stay, so no whiteout is needed; but what lower branches have there must not show through in
    /// a directory that comes from elsewhere.
    fn exchange(&self, old: Place, source: &Entry, new: Place, target: &Entry) -> Result<()> {
        check_new_name(old.1)?;
        let (top, new_top) = (self.top(old.0)?, self.top(new.0)?);
        self.check_movable(old, source)?;
        self.check_movable(new, target)?;
        self.bring_to_top(old, source)?;
        self.bring_to_top(new, target)?;
        if source.is_directory() && self.is_below(new.0, new.1)? {
            make_opaque(&top, old.1)?;
        }
        if target.is_directory() && self.is_below(old.0, old.1)? {
            make_opaque(&new_top, new.1)?;
        }
        debug!(target: "syscall", "renameat2({:?}, {:?}, RENAME_EXCHANGE)", old.1, new.1);
        renameat2(&top, old.1, &new_top, new.1, RenameFlags::RENAME_EXCHANGE)
    }
}
// ANCHOR_END: rename
