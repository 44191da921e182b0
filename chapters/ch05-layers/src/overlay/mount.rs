//! The two ways to mount an overlay.
//!
//! With the newer calls (fsopen(2), fsconfig(2): chapter 2) each layer is a setting of its own, `lowerdir+`
//! (Linux 6.8). mount(2) takes all options as one string with all layers in it, which must fit into a page of
//! memory, 4096 bytes on most machines; many layers with long paths do not. What helps there: a directory
//! that is open here has the short path `/proc/self/fd/N` too. Manual pages: fsconfig(2),
//! [mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Error, Result, ensure};
use ch02_mount::{Attributes, Setting, Tree};
use log::info;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::{Form, Marks, Overlay, marks};

/// OVL_MAX_STACK of the kernel.
const MOST_LAYERS: usize = 500;
/// The longest text that fsconfig(2) takes.
const LONGEST_TEXT: usize = 255;

// ANCHOR: mount
impl Overlay<'_> {
    /// Mounts it at `mountpoint`, in whichever way this kernel knows.
    ///
    /// # Errors
    ///
    /// Names the layer or the option that was refused, and the likely cause where the kernel gives nothing
    /// but EINVAL.
    pub fn mount(&self, mountpoint: &Path) -> Result<()> {
        let tree = match self.tree() {
            // A kernel before 6.8 does not know `lowerdir+`; one before 5.2 does not have the calls.
            Err(error) if matches!(errno(&error), Some(Errno::EINVAL | Errno::ENOSYS)) => {
                return self.mount_by_options(mountpoint).map_err(|second| match errno(&second) {
                    same if same == errno(&error) => error,
                    _ => second.context(format!("{error:#}; and by mount(2)")),
                });
            }
            tree => tree?,
        };
        let place = open(mountpoint, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
        tree.attach(place.with_context(|| format!("open {mountpoint:?}"))?, mountpoint)
    }
}

fn errno(error: &Error) -> Option<Errno> {
    error.root_cause().downcast_ref().copied()
}
// ANCHOR_END: mount

// ANCHOR: tree
impl Overlay<'_> {
    /// The overlay as a mount that is not attached yet: fsopen(2), fsconfig(2), fsmount(2). Linux 6.8.
    ///
    /// # Errors
    ///
    /// As for [`Overlay::mount`].
    pub fn tree(&self) -> Result<Tree> {
        let layers = Layers::open(self)?;
        let lower: Vec<String> = layers.lower.iter().map(|layer| layer.text(str::to_string)).collect();
        // The kernel takes a backslash out of these two, and keeps it in `lowerdir+`.
        let escaped = |path: &str| path.replace('\\', r"\\");
        let upper = layers.upper.as_ref().map(|(upper, work)| (upper.text(escaped), work.text(escaped)));

        let mut settings: Vec<Setting> =
            lower.iter().map(|layer| Setting::Text("lowerdir+", layer)).collect();
        if let Some((upper, work)) = &upper {
            settings.extend([Setting::Text("upperdir", upper), Setting::Text("workdir", work)]);
        }
        let options = OPTIONS.iter().chain([&NO_UUID]);
        settings.extend(options.map(|(key, value)| Setting::Text(key, value)));
        settings.extend((self.marks == Marks::User).then_some(Setting::Flag("userxattr")));
        Tree::new("overlay", &settings, Attributes::NONE).map_err(|error| layers.explain(error))
    }
}
// ANCHOR_END: tree

// ANCHOR: options
/// What is switched off. A layer is to be nothing but files: what one of these puts into it has a meaning on
/// this machine only, or lets a layer that somebody else has made reach past its own names. (`volatile`, with
/// which the kernel syncs nothing, is for what may be lost at a crash, such as a step of a build. `xino`
/// stays as the kernel has it: where the layers are on several file systems, a copy-up may change a file's
/// inode number.)
const OPTIONS: [(&str, &str); 3] = [
    // Neither leave a note "this directory is that lower one" when a directory is renamed (instead rename(2)
    // fails with EXDEV, and mv(1) copies), nor believe one.
    ("redirect_dir", "nofollow"),
    // Never copy up a file's mode and owner without its data.
    ("metacopy", "off"),
    // No index in the work directory that ties the upper layer to these very lower ones (ESTALE with others).
    ("index", "off"),
];
/// No number for this overlay, which the kernel would write into the upper layer (Linux 6.6 and later).
const NO_UUID: (&str, &str) = ("uuid", "null");
// ANCHOR_END: options

// ANCHOR: by_options
impl Overlay<'_> {
    /// Mounts it by mount(2), as on a kernel before 6.8.
    ///
    /// # Errors
    ///
    /// As for [`Overlay::mount`]; where the options are longer than a page, says so.
    pub fn mount_by_options(&self, mountpoint: &Path) -> Result<()> {
        let layers = Layers::open(self)?;
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.unwrap_or(4096) as usize;
        let mut options = self.options(&layers, escaped);
        // The kernel makes the last byte of the page a zero.
        if options.len() >= page {
            options = self.options(&layers, |layer| layer.by_descriptor().into_bytes());
        }
        ensure!(
            options.len() < page,
            "{} lower layers are too many for mount(2), whose options must fit into {page} bytes: \
             a kernel from 6.8 on takes up to {MOST_LAYERS}",
            layers.lower.len()
        );
        info!(
            target: "syscall",
            "mount(\"overlay\", {mountpoint:?}, \"overlay\", 0, {:?})  one string with all layers",
            String::from_utf8_lossy(&options)
        );
        let flags = MsFlags::empty();
        mount(Some("overlay"), mountpoint, Some("overlay"), flags, Some(options.as_slice()))
            .with_context(|| format!("mount the overlay at {mountpoint:?}"))
            .map_err(|error| layers.explain(error))
    }

    fn options(&self, layers: &Layers, name: fn(&Layer) -> Vec<u8>) -> Vec<u8> {
        let lower: Vec<Vec<u8>> = layers.lower.iter().map(name).collect();
        let mut options = vec![[b"lowerdir=", lower.join(&b':').as_slice()].concat()];
        if let Some((upper, work)) = &layers.upper {
            options.extend([[b"upperdir=", name(upper).as_slice()].concat()]);
            options.extend([[b"workdir=", name(work).as_slice()].concat()]);
        }
        options.extend(OPTIONS.map(|(key, value)| format!("{key}={value}").into_bytes()));
        options.extend((self.marks == Marks::User).then(|| b"userxattr".to_vec()));
        options.join(&b',')
    }
}
// ANCHOR_END: by_options

/// The layers, open: a missing one is named, and each has a short path.
struct Layers<'a> {
    lower: Vec<Layer<'a>>,
    upper: Option<(Layer<'a>, Layer<'a>)>,
}

struct Layer<'a> {
    path: &'a Path,
    directory: OwnedFd,
}

// ANCHOR: names
impl<'a> Layer<'a> {
    fn open(path: &'a Path) -> Result<Layer<'a>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory =
            open(path, flags, Mode::empty()).with_context(|| format!("open the layer {path:?}"))?;
        Ok(Layer { path, directory })
    }

    /// A path for fsconfig(2), whose texts are short: the layer's own where it can be, since the mount table
    /// shows it.
    fn text(&self, written: impl Fn(&str) -> String) -> String {
        let own = self.path.to_str().map(written).filter(|text| text.len() <= LONGEST_TEXT);
        own.unwrap_or_else(|| self.by_descriptor())
    }

    fn by_descriptor(&self) -> String {
        format!("/proc/self/fd/{}", self.directory.as_raw_fd())
    }
}

/// The layer's own path for mount(2), with a backslash before what would end it there.
fn escaped(layer: &Layer) -> Vec<u8> {
    let escape = |byte: &u8| if b"\\:,".contains(byte) { vec![b'\\', *byte] } else { vec![*byte] };
    layer.path.as_os_str().as_bytes().iter().flat_map(escape).collect()
}
// ANCHOR_END: names

// ANCHOR: open
impl<'a> Layers<'a> {
    fn open(overlay: &Overlay<'a>) -> Result<Layers<'a>> {
        let lower = visible(overlay)?;
        let (count, upper) = (lower.len(), overlay.upper);
        ensure!(count <= MOST_LAYERS, "{count} lower layers: overlayfs joins at most {MOST_LAYERS}");
        ensure!(
            count >= if upper.is_some() { 1 } else { 2 },
            "{count} lower layers: an overlay has one and an upper one, or two where it is read-only \
             (layers below an opaque root are not counted)"
        );
        let upper = upper.map(|(upper, work)| Ok::<_, Error>((Layer::open(upper)?, Layer::open(work)?)));
        Ok(Layers { lower, upper: upper.transpose()? })
    }
}

/// The lower layers down to one whose root is opaque. overlayfs obeys that mark in every directory but the
/// root.
fn visible<'a>(overlay: &Overlay<'a>) -> Result<Vec<Layer<'a>>> {
    let opaque = |layer: &Layer| marks::is_opaque(layer.directory.as_fd(), Form::Overlay(overlay.marks));
    if let Some((upper, _)) = overlay.upper {
        ensure!(
            !opaque(&Layer::open(upper)?)?,
            "the root of the upper layer {upper:?} is opaque: nothing is below it"
        );
    }
    let mut layers = Vec::new();
    for path in &overlay.lower {
        let layer = Layer::open(path)?;
        let last = opaque(&layer)?;
        layers.push(layer);
        if last {
            break;
        }
    }
    Ok(layers)
}
// ANCHOR_END: open

// ANCHOR: explain
impl Layers<'_> {
    /// Adds the likely cause to the kernel's refusal: what is wrong stands in the kernel's log (dmesg(1)),
    /// and here is EINVAL.
    fn explain(&self, error: Error) -> Error {
        match errno(&error).and_then(|errno| self.likely_cause(errno)) {
            Some(likely) => error.context(likely),
            None => error,
        }
    }

    fn likely_cause(&self, errno: Errno) -> Option<String> {
        match errno {
            Errno::ELOOP => return Some("two layers are the same directory, or one holds the other".into()),
            Errno::ENODEV => return Some("this kernel has no overlayfs: `modprobe overlay` as root".into()),
            Errno::EPERM => {
                let likely = "to mount takes CAP_SYS_ADMIN: be root, of a user namespace too (`unshare -Urm`; for \
                              an overlay, from Linux 5.11 on)";
                return Some(likely.into());
            }
            _ => (),
        }
        let (upper, work) = self.upper.as_ref()?;
        let (upper_path, work_path) = (upper.path, work.path);
        let device = |layer: &Layer| fstat(&layer.directory).map(|stat| stat.st_dev).ok();
        let kind = fstatfs(upper.directory.as_fd()).map(|stat| stat.filesystem_type()).ok();
        let is_read_only =
            fstatvfs(&upper.directory).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY));
        match errno {
            Errno::EINVAL | Errno::EROFS if is_read_only => {
                Some(format!("the upper layer {upper_path:?} is in a read-only mount"))
            }
            Errno::EINVAL if device(upper) != device(work) => Some(format!(
                "the upper layer {upper_path:?} and the work directory {work_path:?} are on different file systems, \
                 and the kernel renames from one into the other"
            )),
            Errno::EINVAL if kind == Some(OVERLAYFS_SUPER_MAGIC) => Some(format!(
                "the upper layer {upper_path:?} is on an overlay itself, as a container's files are: \
                 put it on a volume or a tmpfs"
            )),
            Errno::EINVAL if work_path.starts_with(upper_path) || upper_path.starts_with(work_path) => {
                Some(format!(
                    "the work directory {work_path:?} and the upper layer {upper_path:?} must not hold one another"
                ))
            }
            _ => None,
        }
    }
}
// ANCHOR_END: explain
