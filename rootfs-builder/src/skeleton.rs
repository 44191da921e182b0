//! What every root file system has, whatever its programs come from: directories, and a few files in /etc.

use std::path::Path;

use anyhow::Result;

use crate::{Source, files};

/// The directories and their modes; see hier(7). There is no /bin or /lib: whether those are directories or
/// links into /usr is the source's to say, and a copy that mixes both ways finds half of its programs.
pub(crate) const DIRECTORIES: [(&str, u32); 13] = [
    ("", 0o755),
    // The kernel's own file systems are mounted on these: proc(5), sysfs(5), and a tmpfs with devices.
    // Nothing is to be written below /proc and /sys before that, where the mount would hide it.
    ("proc", 0o555),
    ("sys", 0o555),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    // The 1 is the sticky bit: all may write here, but remove only what is theirs.
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/tmp", 0o1777),
];

pub(crate) fn make_directories(root: &Path) -> Result<()> {
    DIRECTORIES.iter().try_for_each(|(path, mode)| files::make_directory(&root.join(path), *mode))
}

/// Writes the files that name the machine, so that nothing of the host's shows; and, unless a distribution
/// has brought its own, the users and the system's name.
pub(crate) fn write_etc(root: &Path, source: Source) -> Result<()> {
    let etc = root.join("etc");
    let write = |name: &str, text: &str| files::write_file(&etc.join(name), text.as_bytes(), 0o644);
    write("hostname", "hull\n")?;
    write("hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n")?;
    // Empty, not missing: a runtime can bind-mount a real one over it.
    write("resolv.conf", "")?;
    if source == Source::Debian {
        return Ok(());
    }
    write("passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")?;
    // tty is 5 everywhere, since devpts is mounted with gid=5.
    write("group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")?;
    write("os-release", &format!("NAME=\"hull\"\nID=hull\nPRETTY_NAME=\"hull (programs from {source})\"\n"))?;
    if source == Source::Host {
        // Without it, old C libraries look users up by NIS.
        write("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")?;
    }
    Ok(())
}
