//! Claim: real programs work on the union's mount: git, cargo, tar, apt.

#[path = "programs/mounted.rs"]
mod mounted;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mounted::Mounted;
use testing::{Program, needs};

/// What a plain directory says of a program is what the union must say.
fn run(program: &str, arguments: &[&str], directory: &Path) {
    let output = Program::new(program).args(arguments).current_dir(directory).run();
    assert_eq!(output.code, Some(0), "{program} {arguments:?}\n{output}");
}

/// The ways of file data: by the kernel, and through the server.
const WAYS: [&[&str]; 2] = [&[], &["--no-passthrough"]];

const AUTHOR: [&str; 4] = ["-c", "user.name=A", "-c", "user.email=a@example.org"];

#[test]
fn git_clones_and_commits() {
    needs!(Root, Fuse, Tool("git"));
    for way in WAYS {
        git_in_one_way(way);
    }
}

fn git_in_one_way(way: &[&str]) {
    let mounted = Mounted::with(way, |mounted| {
        let lower = mounted.lower();
        run("git", &["init", "--quiet", "origin"], &lower);
        for number in 0..200 {
            let directory = lower.join(format!("origin/directory{}", number % 10));
            fs::create_dir_all(&directory).expect("mkdir");
            fs::write(directory.join(format!("file{number}")), "text\n".repeat(number)).expect("write");
        }
        run("git", &["add", "."], &lower.join("origin"));
        let commit = ["commit", "--quiet", "--message=first"];
        run("git", &[&AUTHOR[..], &commit].concat(), &lower.join("origin"));
    });
    let author = AUTHOR.join(" ");
    // The original lies in the read-only branch, so its clone and the commit in it make hard links, renames
    // and locks in both. `git clone` of a local directory hard-links its objects.
    let output = mounted.shell(&format!(
        "export HOME=$PWD
         git -c safe.directory=* clone --quiet ./origin clone
         cd clone
         git mv directory1 moved
         sed -i s/text/words/ moved/*
         rm -r directory2
         git add --all
         git {author} commit --quiet --message=second
         git gc --quiet
         git fsck --strict
         git status --porcelain
         git {author} -c safe.directory=* push --quiet origin HEAD:pushed
         cd ../origin
         git -c safe.directory=* reset --quiet --hard pushed
         git -c safe.directory=* log --format=%s
         git -c safe.directory=* status --porcelain
         ls -d moved directory*"
    ));
    let left = (3..10).map(|number| format!("directory{number}\n")).collect::<String>();
    assert_eq!(output.stdout, format!("second\nfirst\ndirectory0\n{left}moved\n"), "{output}");
    assert!(mounted.lower().join("origin/directory1").exists(), "git changed the read-only branch");
    mounted.end();
}

#[test]
fn cargo_builds_a_crate() {
    needs!(Root, Fuse, Tool("cargo"), Tool("cc"));
    let mounted = Mounted::new(|mounted| {
        let lower = mounted.lower();
        fs::create_dir_all(lower.join("tiny/src")).expect("mkdir");
        let manifest = "[package]\nname = \"tiny\"\nedition = \"2021\"\n[lib]\n[[bin]]\nname = \"tiny\"\n";
        fs::write(lower.join("tiny/Cargo.toml"), manifest).expect("write");
        fs::write(lower.join("tiny/src/lib.rs"), "pub fn word() -> &'static str { \"first\" }\n")
            .expect("write");
        fs::write(lower.join("tiny/src/main.rs"), "fn main() { println!(\"{}\", tiny::word()) }\n")
            .expect("write");
    });
    // The second build is right only when cargo sees that the time of the source has changed.
    let output = mounted.shell(
        "unset CARGO_TARGET_DIR
         cd tiny
         cargo build --quiet --offline
         target/debug/tiny
         sed -i s/first/second/ src/lib.rs
         cargo build --quiet --offline
         target/debug/tiny
         cargo clean --quiet
         ls",
    );
    assert_eq!(output.stdout, "first\nsecond\nCargo.lock\nCargo.toml\nsrc\n", "{output}");
    mounted.end();
}

/// The headers of the kernel, where their package is installed; else those of the C library.
fn headers() -> PathBuf {
    let sources = fs::read_dir("/usr/src").into_iter().flatten().flatten().map(|entry| entry.path());
    let is_headers = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("linux-headers-"))
    };
    sources.filter(is_headers).max().unwrap_or(PathBuf::from("/usr/include"))
}

#[test]
fn tar_unpacks_what_it_packed() {
    needs!(Root, Fuse, Tool("tar"));
    let headers = headers();
    let names = Program::new("find").arg(&headers).run().stdout.lines().count();
    assert!(
        names > 500,
        "{headers:?} has only {names} names to pack: `scripts/setup test` tells the package"
    );
    for way in WAYS {
        tar_in_one_way(&headers, way);
    }
}

fn tar_in_one_way(headers: &Path, way: &[&str]) {
    let mounted = Mounted::with(way, |mounted| {
        let lower = mounted.lower();
        let archive = lower.join("headers.tar");
        run("tar", &["-cf", &archive.to_string_lossy(), "--numeric-owner", "."], headers);
    });
    // Compared by tar itself (type, mode, owner, time, content), packed again to the same bytes, and removed.
    let output = mounted.shell(
        "mkdir headers
         tar -xpf headers.tar -C headers
         tar --compare -f headers.tar -C headers
         cd headers
         tar -tf ../headers.tar > ../names
         tar -cf ../again.tar --numeric-owner --no-recursion --files-from=../names
         cd ..
         tar -xf again.tar -O > content
         tar -xf headers.tar -O | cmp - content
         rm -r headers
         ls",
    );
    assert_eq!(output.stdout, "again.tar\ncontent\nheaders.tar\nnames\n", "{output}");
    mounted.end();
}

/// Makes the package `tiny`, which has a file, a symlink, a configuration file, and a script that runs on
/// installation.
fn make_package(directory: &Path) {
    let write = |path: &str, text: &str, mode: u32| {
        let path = directory.join("tiny").join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("mkdir");
        fs::write(&path, text).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    let control =
        "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: tiny\n";
    write("DEBIAN/control", control, 0o644);
    write("DEBIAN/conffiles", "/etc/tiny.conf\n", 0o644);
    write("DEBIAN/postinst", "#!/bin/sh\necho installed > /var/lib/tiny\n", 0o755);
    write("DEBIAN/postrm", "#!/bin/sh\nrm -f /var/lib/tiny\n", 0o755);
    write("usr/bin/tiny", "#!/bin/sh\ncat /etc/tiny.conf /var/lib/tiny\n", 0o755);
    write("etc/tiny.conf", "configured\n", 0o644);
    run("dpkg-deb", &["--build", "--root-owner-group", "tiny"], directory);
}

#[test]
fn apt_installs_a_package_in_a_debian_root() {
    needs!(Root, Fuse, Tool("apt-get"), Tool("dpkg-deb"), Tool("chroot"));
    let packages = tempfile::tempdir().expect("mkdtemp");
    make_package(packages.path());
    // This machine's own root is the read-only branch: a Debian of some gigabytes, shared with the
    // "container".
    let mounted = Mounted::new(|mounted| {
        let lower = mounted.lower().display().to_string();
        mounted.shell(&format!("mount --bind / {lower}"));
    });
    let package = mounted.seen("tmp/tiny.deb");
    fs::create_dir_all(package.parent().expect("a directory")).expect("mkdir");
    fs::copy(packages.path().join("tiny.deb"), package).expect("copy");
    let chroot = |script: &str| mounted.shell(&format!("exec chroot . sh -eu -c '{script}'")).stdout;

    chroot("export DEBIAN_FRONTEND=noninteractive; apt-get install --yes /tmp/tiny.deb");
    assert_eq!(chroot("tiny; dpkg --verify tiny; dpkg --audit"), "configured\ninstalled\n");
    assert!(mounted.top().join("usr/bin/tiny").exists());
    assert!(!Path::new("/usr/bin/tiny").exists(), "apt changed the read-only branch");
    chroot("export DEBIAN_FRONTEND=noninteractive; apt-get purge --yes tiny");
    assert_eq!(chroot("ls /usr/bin/tiny /etc/tiny.conf /var/lib/tiny 2> /dev/null || echo gone"), "gone\n");
    mounted.shell(&format!("umount --lazy {}", mounted.lower().display()));
    mounted.end();
}
