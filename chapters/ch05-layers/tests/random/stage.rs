//! Where cases are played: the union's mount, an overlayfs, and room for plain directories, all on one tmpfs.
//!
//! Mounting costs more than playing, so one stage serves thousands of cases. Each is played in a directory of
//! its own, `case1`, `case2`, ...: no name in it was ever looked up before, so its layers may be made while
//! the union is mounted.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::sys::statfs::statfs;
use nix::unistd::Pid;
use tempfile::TempDir;
use testing::{Program, Running};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ch05-layers");
/// The most layers that a case has.
const LAYERS: usize = 4;
/// A system call that takes longer waits for ever.
const HANGS: Duration = Duration::from_secs(60);

pub struct Stage {
    directory: TempDir,
    /// None: nothing is mounted but the tmpfs.
    server: Option<Running>,
    passthrough: bool,
    next: Cell<usize>,
    /// Counts the cases; the watchdog looks whether it moves, and ends with the stage.
    beat: Arc<AtomicU64>,
}

/// The directories of one case.
pub struct Room {
    /// Branches as AuFS keeps them; the last one is the top.
    pub layers: Vec<PathBuf>,
    pub top: PathBuf,
    /// The same for overlayfs.
    pub overlay_layers: Vec<PathBuf>,
    pub overlay_top: PathBuf,
    /// The union's mount, overlayfs and the plain directory.
    pub union: PathBuf,
    pub overlay: PathBuf,
    pub plain: PathBuf,
}

/// Runs `play` in a thread with a mount namespace of its own: what it mounts, nobody else sees, and it goes
/// with the thread and its children.
pub fn in_own_mount_table<T: Send + 'static>(play: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("unshare(CLONE_NEWNS)");
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).expect("make / private");
        // Modes are what the steps say. unshare made the umask the thread's own.
        umask(Mode::empty());
        play()
    });
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

impl Stage {
    /// Room for branches and plain directories alone.
    pub fn without_mounts() -> Stage {
        let directory = tempfile::tempdir().expect("mkdtemp");
        let root = directory.path();
        mount(Some("tmpfs"), root, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mount tmpfs");
        let layers = (0..LAYERS).flat_map(|layer| [format!("aufs/{layer}"), format!("overlayfs/{layer}")]);
        let others = ["aufs/top", "overlayfs/top", "overlayfs/work", "plain", "union", "overlay"];
        for name in layers.chain(others.map(str::to_string)) {
            fs::create_dir_all(root.join(name)).expect("mkdir");
        }
        Stage { directory, server: None, passthrough: false, next: Cell::new(1), beat: Arc::default() }
    }

    /// The same with the union's mount and an overlayfs.
    pub fn new(passthrough: bool) -> Stage {
        let mut stage = Stage::without_mounts();
        let root = stage.directory.path();
        let at = |name: &str| root.join(name).display().to_string();
        let lower =
            |of: &str| (0..LAYERS).rev().map(|layer| at(&format!("{of}/{layer}"))).collect::<Vec<_>>();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower("overlayfs").join(":"),
            at("overlayfs/top"),
            at("overlayfs/work")
        );
        mount(Some("overlay"), &root.join("overlay"), Some("overlay"), MsFlags::empty(), Some(&*options))
            .expect("mount overlay");

        let branches =
            lower("aufs").into_iter().flat_map(|path| ["--branch".to_string(), format!("{path}=ro")]);
        let mut server = Program::new(PROGRAM)
            .args(["mount", "--quiet", "--allow-other", "--branch"])
            .arg(format!("{}=rw", at("aufs/top")))
            .args(branches)
            .args((!passthrough).then_some("--no-passthrough"))
            .arg(root.join("union"))
            .timeout(Duration::from_secs(24 * 3600))
            .spawn();
        while !server.stderr_line().starts_with("ready:") {}
        stage.watch(server.pid());
        stage.server = Some(server);
        stage.passthrough = passthrough;
        stage
    }

    /// Ends the server where a case hangs: what waits for it then fails, and the case with it.
    fn watch(&self, server: i32) {
        let beat = Arc::downgrade(&self.beat);
        thread::spawn(move || {
            let mut last = None;
            while let Some(beat) = beat.upgrade().map(|beat| beat.load(Ordering::Relaxed)) {
                if last == Some(beat) && beat % 2 == 1 {
                    eprintln!("a system call takes longer than {HANGS:?}: the server is killed");
                    kill(Pid::from_raw(server), Signal::SIGKILL).expect("kill");
                }
                last = Some(beat);
                thread::sleep(HANGS);
            }
        });
    }

    pub fn union(&self) -> PathBuf {
        self.directory.path().join("union")
    }

    pub fn overlay(&self) -> PathBuf {
        self.directory.path().join("overlay")
    }

    /// Whether the kernel reads and writes the files of branches by itself.
    pub fn is_in_passthrough(&self) -> bool {
        self.passthrough
    }

    /// Whether the server still answers.
    pub fn is_alive(&self) -> bool {
        statfs(&self.union()).is_ok()
    }

    /// Room for the next case, with nothing in it.
    pub fn room(&self, layers: usize) -> Room {
        let name = format!("case{}", self.next.replace(self.next.get() + 1));
        let at = |place: String| self.directory.path().join(place).join(&name);
        Room {
            layers: (0..layers).map(|layer| at(format!("aufs/{layer}"))).collect(),
            top: at("aufs/top".to_string()),
            overlay_layers: (0..layers).map(|layer| at(format!("overlayfs/{layer}"))).collect(),
            overlay_top: at("overlayfs/top".to_string()),
            union: at("union".to_string()),
            overlay: at("overlay".to_string()),
            plain: at("plain".to_string()),
        }
    }

    /// A case begins, or ends.
    pub fn beat(&self) {
        self.beat.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let root = self.directory.path();
        for name in ["union", "overlay", ""] {
            // Detached: where a case failed, a file may still be open.
            let _ = umount2(&root.join(name), MntFlags::MNT_DETACH);
        }
    }
}

impl Room {
    /// Takes away what is left of the case, from the branches themselves.
    pub fn clear(&self) {
        let tops = [&self.top, &self.overlay_top, &self.plain];
        for path in self.layers.iter().chain(&self.overlay_layers).chain(tops) {
            let _ = fs::remove_dir_all(path);
        }
        let _ = fs::remove_file(whiteout_of(&self.top));
        let _ = fs::remove_file(&self.overlay_top);
    }
}

fn whiteout_of(path: &Path) -> PathBuf {
    path.with_file_name(format!(".wh.{}", path.file_name().unwrap_or_default().to_string_lossy()))
}
