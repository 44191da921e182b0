//! The first request: FUSE_INIT, in which kernel and server agree on what each of them can do.
//!
//! FUSE has grown for twenty years. Each kernel says what it knows, and the server takes what it wants of
//! that; what it does not take stays as it was in the beginning: slow, and without access lists.

use std::sync::atomic::Ordering;

use fuser::{InitFlags, KernelConfig};
use log::debug;

use super::filesystem::FileSystem;

// ANCHOR: negotiate
impl FileSystem {
    /// FUSE_INIT: what this kernel can do, and what of it we want.
    pub(super) fn negotiate(&self, config: &mut KernelConfig) {
        let wanted = [
            // Lookups and readdirs in one directory at the same time.
            InitFlags::FUSE_PARALLEL_DIROPS,
            // A readdir that looks up what it lists; where the kernel sees no use in it, the plain one.
            InitFlags::FUSE_DO_READDIRPLUS | InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_ASYNC_DIO,
            // O_TRUNC comes with the open, so that nothing is copied up that is thrown away then.
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            // Access lists count; the umask is ours to apply, since it doesn't where a directory has a
            // default one.
            InitFlags::FUSE_POSIX_ACL | InitFlags::FUSE_DONT_MASK,
            // We take set-id bits off where a write does; else each write(2) would ask for
            // `security.capability` first.
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        ];
        for flags in wanted {
            if let Err(missing) = config.add_capabilities(flags) {
                debug!("this kernel's FUSE does not have {missing:?}");
            }
        }
        // Bytes in one FUSE_WRITE or FUSE_READ: what the kernel sends at most
        // (/proc/sys/fs/fuse/max_pages_limit).
        if let Err(nearest) = config.set_max_write(1 << 20) {
            debug!("max_write can be {nearest} at most");
        }
        let passthrough = &self.passthrough;
        if passthrough.load(Ordering::Relaxed) {
            // Depth 1: the branches lie on file systems that lie on no other.
            let can = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
                && config.set_max_stack_depth(1).is_ok();
            passthrough.store(can, Ordering::Relaxed);
        }
    }
}
// ANCHOR_END: negotiate
