//! Claims about what is in a root file system. Its programs are run, in a chroot, to prove it.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use common::{build, builder, expect_code, expect_error, shared_directory};
use testing::{Program, needs};

/// Prints what each of these programs finds inside. /proc is not mounted in a mere chroot, so `ps` gets one.
const LOOK_AROUND: &str =
    "id; ls -ld /tmp; cat /etc/os-release; sleep 0; mount -t proc proc /proc; ps; hostname";

/// Checks, by running a shell in it as root, that the root file system has what lessons need.
fn works_for_root(source: &str) {
    let directory = shared_directory();
    let root = directory.path().join("root");
    expect_code(&build(source, &root).run(), 0);
    let sandbox = testing::Sandbox::new();
    let script = format!("{LOOK_AROUND}; umount /proc");
    let output =
        Program::new("chroot").arg(&root).args(["/bin/sh", "-ec", &script]).in_sandbox(&sandbox).run();
    expect_code(&output, 0);
    assert!(output.stdout.contains("uid=0(root) gid=0(root)"), "{output:?}");
    assert!(output.stdout.contains("drwxrwxrwt"), "{output:?}");
    assert!(output.stdout.contains("NAME=\"hull\""), "{output:?}");
    assert!(output.stdout.contains("PID"), "{output:?}");
    assert_eq!(output.stderr, "");
}

#[test]
fn programs_from_busybox_run_for_root_in_a_chroot() {
    needs!(Root, Tool("busybox"));
    works_for_root("busybox");
}

#[test]
fn programs_from_the_host_run_for_root_in_a_chroot() {
    needs!(Root);
    works_for_root("host");
}

/// The same without root: built by a plain user, and entered in a user namespace.
fn works_for_a_plain_user(source: &str) {
    let home = testing::plain_user_directory();
    let root = home.path().join("root");
    expect_code(&build(source, &root).as_plain_user().run(), 0);
    let output = Program::new("unshare")
        // A plain user's PATH may lack /usr/sbin, where chroot is.
        .args(["--user", "--map-root-user", "env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "chroot"])
        .arg(&root)
        .args(["/bin/sh", "-ec", "id; ls -ld /etc; touch /tmp/new"])
        .as_plain_user()
        .run();
    expect_code(&output, 0);
    assert!(output.stdout.contains("uid=0(root) gid=0(root)"), "{output:?}");
    assert!(output.stdout.contains(" root "), "the names come from the root's own /etc/passwd: {output:?}");
    assert!(root.join("tmp/new").exists());
}

#[test]
fn a_plain_user_builds_and_enters_one_from_busybox() {
    needs!(PlainUser, UserNamespaces, Tool("busybox"), Tool("unshare"));
    works_for_a_plain_user("busybox");
}

#[test]
fn a_plain_user_builds_and_enters_one_from_the_host() {
    needs!(PlainUser, UserNamespaces, Tool("unshare"));
    works_for_a_plain_user("host");
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let directory = shared_directory();
    let root = directory.path().join("root");
    let script =
        format!("umask 077; exec {} build --from host {root:?}", env!("CARGO_BIN_EXE_rootfs-builder"));
    expect_code(&Program::new("sh").args(["-c", &script]).run(), 0);
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().mode() & 0o7777;
    let expected = [("", 0o755), ("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700), ("run", 0o755)];
    for (path, expected) in expected {
        assert_eq!(mode(path), expected, "/{path}");
    }
    assert_eq!((mode("proc"), mode("sys"), mode("dev")), (0o555, 0o555, 0o755));
    assert_eq!((mode("etc/passwd"), mode("bin/sh")), (0o644, 0o755));
}

#[test]
fn nothing_of_the_host_shows_in_etc() {
    let directory = shared_directory();
    let root = directory.path().join("root");
    expect_code(&build("host", &root).run(), 0);
    let read = |name: &str| fs::read_to_string(root.join("etc").join(name)).unwrap();
    assert_eq!(read("hostname"), "hull\n");
    assert_eq!(read("resolv.conf"), "");
    assert!(read("os-release").starts_with("NAME=\"hull\"\nID=hull\n"));
    assert_eq!(read("passwd").lines().count(), 2);
}

#[test]
fn no_program_is_set_user_id() {
    let directory = shared_directory();
    let root = directory.path().join("root");
    expect_code(&build("host", &root).run(), 0);
    let found = Program::new("find").arg(&root).args(["-type", "f", "-perm", "/6000"]).run();
    assert_eq!((found.code, found.stdout.as_str()), (Some(0), ""), "mount, on the host, is");
}

#[test]
fn a_fresh_root_has_no_problems() {
    let directory = shared_directory();
    for source in ["auto", "host"] {
        let root = directory.path().join(source);
        expect_code(&build(source, &root).run(), 0);
        let output = builder().arg("check").arg(&root).run();
        assert_eq!((output.code, output.stdout.as_str()), (Some(0), ""), "{source}");
    }
}

#[test]
fn check_names_what_was_taken_away() {
    let directory = shared_directory();
    let root = directory.path().join("root");
    expect_code(&build("host", &root).run(), 0);
    fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::remove_dir(root.join("proc")).unwrap();
    fs::write(root.join("etc/group"), "users:x:100:\n").unwrap();
    fs::write(root.join("bin/script"), "#!/opt/python3\n").unwrap();
    fs::set_permissions(root.join("bin/script"), PermissionsExt::from_mode(0o755)).unwrap();
    let output = builder().arg("check").arg(&root).run();
    expect_code(&output, 1);
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{output:?}");
    assert_eq!(lines[0], "/proc: No such file or directory (ENOENT)");
    assert!(lines[1].starts_with("/tmp: its mode is not 1777"), "{output:?}");
    assert_eq!(lines[2], "/etc/group: has no entry with the id 0");
    assert!(lines[3].contains("script: \"/opt/python3\" does not exist"), "{output:?}");
}

#[test]
fn check_of_what_is_no_directory_is_an_error() {
    let missing = builder().args(["check", "/nonexistent"]).run();
    expect_error(&missing, &["read the directory \"/nonexistent\": No such file or directory (ENOENT)"]);
    let file = builder().args(["check", "/proc/version"]).run();
    expect_error(&file, &["read the directory \"/proc/version\": Not a directory (ENOTDIR)"]);
}

/// Compiles C source to `output`.
fn compile(output: &Path, source: &str, options: &[&str]) {
    fs::create_dir_all(output.parent().unwrap()).unwrap();
    let file = output.with_extension("c");
    fs::write(&file, source).unwrap();
    expect_code(&Program::new("cc").arg(&file).arg("-o").arg(output).args(options).run(), 0);
    fs::remove_file(file).unwrap();
}

#[test]
fn libraries_are_found_where_the_loader_finds_them() {
    // A program in /opt/x/bin whose RPATH, relative to it, leads to liba; liba needs libb, which only the
    // program's RPATH finds.
    needs!(Root, Tool("cc"));
    let directory = shared_directory();
    let root = directory.path().join("root");
    expect_code(&build("host", &root).run(), 0);
    let opt = root.join("opt/x");
    let search = format!("-L{}", opt.join("lib").display());
    compile(&opt.join("lib/libb.so"), "int b(void) { return 42; }", &["-shared", "-fPIC"]);
    compile(
        &opt.join("lib/liba.so"),
        "int b(void); int a(void) { return b(); }",
        &["-shared", "-fPIC", &search, "-lb"],
    );
    let main = "int a(void); int main(void) { return a(); }";
    let link = |tags: &str| {
        let rpath = format!("-Wl,{tags},-rpath,$ORIGIN/../lib");
        compile(&opt.join("bin/answer"), main, &[&search, &rpath, "-la", "-Wl,--allow-shlib-undefined"]);
    };
    link("--disable-new-dtags");
    std::os::unix::fs::symlink("../../opt/x/bin/answer", root.join("usr/bin/answer")).unwrap();

    // The loader needs /proc/self/exe to know what $ORIGIN is.
    let sandbox = testing::Sandbox::new();
    let run = "mount -t proc proc /proc; answer; code=$?; umount /proc; exit $code";
    let run = Program::new("chroot").arg(&root).args(["/bin/sh", "-c", run]).in_sandbox(&sandbox);
    let check = builder().arg("check").arg(&root);
    expect_code(&run.clone().run(), 42);
    expect_code(&check.clone().run(), 0);

    fs::rename(opt.join("lib/libb.so"), opt.join("libb.so")).unwrap();
    expect_code(&run.clone().run(), 127);
    let output = check.clone().run();
    expect_code(&output, 1);
    assert!(output.stdout.contains("liba.so\" needs \"libb.so\", which is found nowhere"), "{output:?}");

    // With RUNPATH instead, liba may not use the program's directories.
    fs::rename(opt.join("libb.so"), opt.join("lib/libb.so")).unwrap();
    link("--enable-new-dtags");
    expect_code(&run.run(), 127);
    expect_code(&check.run(), 1);
}
