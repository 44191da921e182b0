//! Set-id bits: what a cache or a right of the server's must not do to them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use testing::{Program, needs};

use crate::attributes::{set_access_list, set_xattr, xattr_names};
use crate::mounted::{Mounted, in_both_ways, write};

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_set_user_id_program_that_was_overwritten_does_not_run_as_its_owner() {
    needs!(Root, Fuse, Tool("setpriv"));
    let output = Program::new("sh").args(["-c", "command -v id"]).run();
    let id = output.stdout.trim_end();
    for options in [&["--allow-other"][..], &["--allow-other", "--no-passthrough"]] {
        let union = Mounted::new(options, |directory| {
            set_mode(directory, 0o755);
            for branch in ["top", "lower"] {
                fs::copy(id, directory.join(branch).join(branch)).unwrap();
                set_mode(directory.join(branch).join(branch), 0o4777);
            }
        });
        for name in ["top", "lower"] {
            let program = union.path(name).display().to_string();
            let script =
                format!("{program} -u && dd if={id} of={program} conv=notrunc status=none && {program} -u");
            let output = Program::new("setpriv")
                .args(["--reuid=1000", "--regid=1000", "--clear-groups", "sh", "-c", &script])
                .run();
            assert_eq!(output.stdout, "0\n1000\n", "{name} {options:?}: {output}");
        }
    }
}

#[test]
fn roots_access_list_leaves_the_set_group_id_bit_on_a_directory() {
    needs!(Root, Fuse);
    let build = |directory: &Path| {
        fs::create_dir(directory.join("lower/shared")).unwrap();
        chown(directory.join("lower/shared"), Some(0), Some(1000)).unwrap();
        set_mode(directory.join("lower/shared"), 0o2775);
    };
    in_both_ways(build, |union| {
        let path = union.path("shared");
        let entries = [(1, 7, !0), (2, 7, 1), (4, 7, !0), (16, 7, !0), (32, 5, !0)];
        set_access_list(&path, "access", &entries);
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o2775);
    });
}

#[test]
fn a_write_takes_file_capabilities_off() {
    needs!(Root, Fuse);
    in_both_ways(
        |directory| {
            write(directory.join("lower/f"), "program");
            // Version 2, effective, CAP_NET_RAW permitted.
            let value: Vec<u8> =
                [0x0200_0001_u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
            set_xattr(&directory.join("lower/f"), "security.capability", &value).unwrap();
        },
        |union| {
            let names = || xattr_names(&union.path("f"));
            assert_eq!(names().trim(), "security.capability");
            fs::set_permissions(union.path("f"), fs::Permissions::from_mode(0o755)).unwrap();
            assert_eq!(names().trim(), "security.capability", "the copy has it");
            OpenOptions::new().append(true).open(union.path("f")).unwrap().write_all(b"!").unwrap();
            assert_eq!(names(), "");
        },
    );
}
