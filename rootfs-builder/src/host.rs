//! A root file system from the host's own programs.
//!
//! Each program is copied to the path that it has on the host, and so is everything that it loads: the
//! loader inside looks where the loader outside looks, so all of it must be under the same names. The
//! symbolic links on the way are made again, /bin -> usr/bin first of all.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::error::Doing;
use crate::loader::{self, Loader, find_program};
use crate::tree::{inside, walk};
use crate::{LeftOut, files, interrupt};

/// What lessons run, and what one reaches for in a shell. What the host does not have is left out.
const PROGRAMS: &str = "\
    sh bash [ basename cat chgrp chmod chown chroot cp cut date dd df dirname dmesg du echo env expr \
    false find findmnt free grep head hostname id ip kill less ln ls lsns mkdir mkfifo mknod mktemp \
    mount mountpoint mv nsenter pgrep ping pkill printf ps pwd readlink realpath rm rmdir sed seq \
    setpriv sleep sort ss stat stty sync sysctl tail tee test timeout top touch tr true tty umount uname \
    uniq unshare vi wc which whoami yes";

/// Directories that are symbolic links on a host with a merged /usr. Scripts, the loader and users name
/// both ways, so a copy has the link even where no program needed it.
const MAY_BE_LINKS: [&str; 6] = ["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/lib", "/lib64"];

pub(crate) fn fill(root: &Path) -> Result<Vec<LeftOut>> {
    let copy = Copy { root };
    let loader = Loader::new(Path::new("/"))?;
    for directory in MAY_BE_LINKS.map(Path::new) {
        if directory.is_dir() {
            copy.directory(directory)?;
        }
    }
    let mut wanted = BTreeSet::new();
    let mut left_out = Vec::new();
    for name in PROGRAMS.split_whitespace() {
        interrupt::check()?;
        match add(&loader, &copy, name) {
            Ok(files) => wanted.extend(files),
            Err(error) if error.is::<interrupt::Interrupted>() => return Err(error),
            Err(error) => left_out.push(LeftOut { program: name.to_owned(), reason: format!("{error:#}") }),
        }
    }
    if let Some(shell) = left_out.iter().find(|program| program.program == "sh") {
        bail!("a root file system is of no use without sh: {}", shell.reason);
    }
    wanted.extend(name_service(&loader)?);
    if Path::new(loader::CACHE).exists() {
        // The same cache, so that the loader inside finds what only the cache knows. Entries for files that
        // were not copied do no harm: the loader goes on to its default directories.
        wanted.insert(PathBuf::from(loader::CACHE));
    }
    wanted.iter().try_for_each(|path| copy.file(path))?;
    Ok(left_out)
}

/// Finds the files for one program, and sees to it that its name is in a directory where a shell looks.
fn add(loader: &Loader, copy: &Copy, name: &str) -> Result<BTreeSet<PathBuf>> {
    if let Some(program) = find_program(Path::new("/"), name) {
        return loader.files_of(&program);
    }
    // Some distributions have programs elsewhere, and say so in PATH alone.
    let path = env::var_os("PATH").unwrap_or_default();
    let program =
        env::split_paths(&path).map(|directory| directory.join(name)).find(|program| program.is_file());
    let program = program.filter(|program| program.is_absolute()).context("this machine does not have it")?;
    let files = loader.files_of(&program)?;
    copy.link_in_bin(name, &program)?;
    Ok(files)
}

/// The plug-in by which old C libraries read /etc/passwd. `id` and `ls -l` load it by dlopen(3), so no
/// table names it. Since glibc 2.34 it is part of the C library itself, and the file, where it still
/// exists, is an empty shell.
fn name_service(loader: &Loader) -> Result<BTreeSet<PathBuf>> {
    let shell = Path::new("/bin/sh");
    Ok(loader.find(OsStr::new("libnss_files.so.2"), shell)?.into_iter().collect())
}

/// The tree that is made.
struct Copy<'a> {
    root: &'a Path,
}

impl Copy<'_> {
    /// Copies the file at the host's `path`, and makes the links that lead to it.
    fn file(&self, path: &Path) -> Result<()> {
        let real = self.links(path)?;
        let to = inside(self.root, &real);
        if to.exists() {
            return Ok(());
        }
        self.directory(real.parent().unwrap_or(Path::new("/")))?;
        let mode = fs::metadata(&real).doing("stat", &real)?.permissions().mode();
        files::copy_file(&real, &to, if mode & 0o111 == 0 { 0o644 } else { 0o755 })
    }

    /// Makes the directory that is the host's `path`, and those above it.
    fn directory(&self, path: &Path) -> Result<()> {
        let real = self.links(path)?;
        self.real_directory(&real)
    }

    /// The same for a path without symbolic links.
    fn real_directory(&self, real: &Path) -> Result<()> {
        let to = inside(self.root, real);
        if to.is_dir() {
            return Ok(());
        }
        self.real_directory(real.parent().unwrap_or(Path::new("/")))?;
        files::make_directory(&to, 0o755)
    }

    /// Makes the symbolic links on the way to the host's `path`, and returns where it really is.
    fn links(&self, path: &Path) -> Result<PathBuf> {
        let walk = walk(Path::new("/"), path).doing("look up", path)?;
        for (link, target) in &walk.links {
            let to = inside(self.root, link);
            match fs::read_link(&to) {
                Ok(_) => continue,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).doing("readlink", &to),
            }
            self.real_directory(link.parent().unwrap_or(Path::new("/")))?;
            files::make_link(target, &to)?;
        }
        Ok(walk.real)
    }

    /// Makes /usr/bin/NAME lead to a program that is somewhere else.
    fn link_in_bin(&self, name: &str, program: &Path) -> Result<()> {
        let directory =
            walk(Path::new("/"), Path::new("/usr/bin")).doing("look up", Path::new("/usr/bin"))?.real;
        self.real_directory(&directory)?;
        let up: PathBuf = directory.iter().skip(1).map(|_| "..").collect();
        files::make_link(&up.join(program.strip_prefix("/")?), &inside(self.root, &directory.join(name)))
    }
}
