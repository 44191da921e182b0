//! The known differences, each proved: what the plain directory, the union and overlayfs answer to the same
//! operation.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;

use super::random::case::{Case, Step};
use super::random::check::Play;
use super::random::player::{Answer, Player};
use super::random::stage::{Stage, in_own_mount_table};

const DONE: Answer = Answer::Done;

fn error(errno: Errno) -> Answer {
    Answer::Error(errno)
}

/// Makes the layers that `text` describes, plays its steps everywhere, and has `claim` look at what there is
/// then.
fn play(passthrough: bool, text: &str, claim: impl FnOnce(&mut Play) + Send + 'static) {
    let case: Case = text.parse().expect("a case");
    in_own_mount_table(move || {
        let stage = Stage::new(passthrough);
        let room = stage.room(case.layers.len());
        let mut play = Play::new(&stage, &case, &room).expect("the layers");
        for step in &case.steps {
            assert_eq!(play.answers(step), [DONE; 3], "{step}");
        }
        claim(&mut play);
    });
}

impl Play<'_> {
    fn players(&mut self) -> [&mut Player; 3] {
        [&mut self.plain, &mut self.union, &mut self.overlay]
    }

    fn answers(&mut self, step: &Step) -> [Answer; 3] {
        self.players().map(|player| player.play(step))
    }

    /// The line is answered so by the plain directory, the union, and overlayfs.
    #[track_caller]
    fn answer(&mut self, line: &str, expected: [Answer; 3]) {
        let operation = line.parse().expect("an operation");
        assert_eq!(self.answers(&Step { as_user: false, operation }), expected, "{line}");
    }
}

#[test]
fn a_directory_with_a_lower_part_is_not_renamed_but_mv_copies_it() {
    testing::needs!(Root, Fuse);
    play(true, "layer\nfile a/b 0644 0 x*10\nplay\nmkdir c 0755\n", |play| {
        let refused = error(Errno::EXDEV);
        play.answer("rename a b 0", [DONE, refused.clone(), refused.clone()]);
        // Exchanged, it would move too; and no less when the whole of it was copied up.
        play.answer("rename c b 2", [DONE, error(Errno::ENOENT), error(Errno::ENOENT)]);
        play.answer("chmod b 0700", [DONE, error(Errno::ENOENT), error(Errno::ENOENT)]);
        for player in [&play.union, &play.overlay] {
            let mv = std::process::Command::new("mv").arg("a").arg("b").current_dir(player.root()).status();
            assert!(mv.expect("mv").success());
            assert_eq!(fs::read(player.root().join("b/b")).expect("read"), b"x".repeat(10));
        }
    });
    // One that was made in the top is renamed.
    play(true, "layer\nfile a/b 0644 0 x*10\nplay\nmkdir c 0755\nrename c d 0\n", |_| ());
}

#[test]
fn nobody_makes_a_whiteout_by_a_rename() {
    testing::needs!(Root, Fuse);
    play(true, "layer\nfile a 0644 0 x*10\nplay\n", |play| {
        let refused = error(Errno::EINVAL);
        play.answer("rename a b 4", [DONE, refused.clone(), refused]);
    });
}

#[test]
fn names_that_begin_with_wh_are_not_to_be_had() {
    testing::needs!(Root, Fuse);
    play(true, "layer\nfile a 0644 0 x*10\nplay\n", |play| {
        for line in [
            "open 0 .wh.a O_WRONLY|O_CREAT 0644",
            "mkdir .wh.b 0755",
            "symlink a .wh..wh..opq",
            "link a .wh.c",
            "mkfifo .wh. 0644",
            "rename a .wh.d 0",
        ] {
            play.answer(line, [DONE, error(Errno::EPERM), DONE]);
        }
        // No such name is there, also where the branch has a file of it.
        play.answer("rename .wh.d a 0", [DONE, error(Errno::ENOENT), DONE]);
        play.answer("unlink a", [DONE; 3]);
        play.answer("unlink .wh.a", [DONE, error(Errno::ENOENT), DONE]);
    });
}

#[test]
fn names_are_four_bytes_shorter() {
    testing::needs!(Root, Fuse);
    play(true, "layer\nfile a 0644 0 x*10\nplay\nmkdir n*251 0755\n", |play| {
        let too_long = error(Errno::ENAMETOOLONG);
        play.answer("mkdir n*252 0755", [DONE, too_long.clone(), DONE]);
        play.answer("write n*255 O_WRONLY|O_CREAT x*1", [DONE, too_long.clone(), DONE]);
        play.answer("rename a n*254 0", [DONE, too_long.clone(), DONE]);
        play.answer("mkdir n*256 0755", [too_long.clone(), too_long.clone(), too_long]);
        let longest = play.players().map(|player| statvfs(player.root()).expect("statvfs").name_max());
        assert_eq!(longest, [255, 251, 255]);
    });
}

#[test]
fn names_of_a_lower_file_are_files_of_their_own() {
    testing::needs!(Root, Fuse);
    let text = "layer\nfile a 0644 0 x*10\nlink b a\nplay\n";
    play(true, text, |play| {
        let links = |player: &Player| {
            let [a, b] = ["a", "b"].map(|name| fs::metadata(player.root().join(name)).expect("stat"));
            (a.nlink(), b.nlink(), a.ino() == b.ino())
        };
        assert_eq!(links(&play.union), (1, 1, false));
        assert_eq!(links(&play.overlay), (2, 2, true));
        // Written to, a name is on its own in both unions.
        play.answer("write a O_WRONLY|O_TRUNC y*1", [DONE; 3]);
        let content = Answer::Content(b"x".repeat(10));
        play.answer("read b", [content.clone(), content.clone(), content]);
        assert_eq!(links(&play.union), (1, 1, false));
        assert_eq!(links(&play.overlay), (1, 2, false));
    });
    // Links that are made in the union are true ones.
    play(true, "layer\nfile a 0644 0 x*10\nplay\nlink a b\nwrite a O_WRONLY|O_TRUNC y*1\n", |play| {
        let content = Answer::Content(b"y".to_vec());
        play.answer("read b", [content.clone(), content.clone(), content]);
    });
}

const READ_AND_WRITE: &str =
    "layer\nfile a 0644 0 x*10\nplay\nopen 0 a O_RDONLY 0644\nwrite a O_WRONLY|O_TRUNC y*3\n";

#[test]
fn who_reads_a_lower_file_in_passthrough_keeps_it_over_a_copy_up() {
    testing::needs!(Root, Fuse);
    play(true, READ_AND_WRITE, |play| {
        let (old, new) = (Answer::Content(b"x".repeat(10)), Answer::Content(b"y".repeat(3)));
        play.answer("pread 0", [new.clone(), old, new.clone()]);
        // Who opens it now reads the new one.
        play.answer("read a", [new.clone(), new.clone(), new]);
    });
}

#[test]
fn who_reads_it_through_the_server_reads_the_copy() {
    testing::needs!(Root, Fuse);
    play(false, READ_AND_WRITE, |play| {
        let new = Answer::Content(b"y".repeat(3));
        play.answer("pread 0", [new.clone(), new.clone(), new]);
    });
}

#[test]
fn who_writes_in_passthrough_takes_set_id_bits_off_even_as_root() {
    testing::needs!(Root, Fuse);
    let text = "layer\nfile a 0644 0 x*10\nplay\nopen 0 a O_RDWR 0644\nchmod a 4755\npwrite 0 0 y*1\n";
    let modes = |play: &mut Play| {
        play.players().map(|player| fs::metadata(player.root().join("a")).expect("stat").mode() & 0o7777)
    };
    play(true, text, move |play| assert_eq!(modes(play), [0o4755, 0o755, 0o4755]));
    play(false, text, move |play| assert_eq!(modes(play), [0o4755; 3]));
}

#[test]
fn overlayfs_lists_a_whiteout_that_hides_nothing() {
    testing::needs!(Root, Fuse);
    in_own_mount_table(|| {
        let stage = Stage::new(true);
        let room = stage.room(1);
        let layer = &room.overlay_layers[0];
        fs::create_dir(layer).expect("mkdir");
        fs::write(layer.join(".wh.a"), "").expect("write");
        ch05_layers::overlay::convert::to_overlay(layer, ch05_layers::overlay::Marks::Trusted)
            .expect("convert");
        fs::create_dir(&room.layers[0]).expect("mkdir");
        fs::write(room.layers[0].join(".wh.a"), "").expect("write");

        let names =
            |root| fs::read_dir(root).expect("readdir").map(|entry| entry.expect("readdir").file_name());
        assert_eq!(names(&room.union).count(), 0);
        assert_eq!(names(&room.overlay).collect::<Vec<_>>(), ["a"]);
        let found = fs::symlink_metadata(room.overlay.join("a")).expect_err("listed, and not to be found");
        assert_eq!(found.raw_os_error(), Some(libc::ENOENT));
    });
}

#[test]
fn a_file_without_a_name_is_refused_by_fuse() {
    testing::needs!(Root, Fuse);
    play(true, "layer\nfile a 0644 0 x*10\nplay\n", |play| {
        let made = play.players().map(|player| {
            let file = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(player.root());
            file.map(drop).map_err(|error| error.raw_os_error().unwrap_or_default())
        });
        assert_eq!(made, [Ok(()), Err(libc::EOPNOTSUPP), Ok(())]);
    });
}

#[test]
fn a_deleted_file_of_the_image_that_is_open_can_be_read_and_not_changed() {
    testing::needs!(Root, Fuse);
    for passthrough in [true, false] {
        let text = "layer\nfile a 0644 0 x*10\nplay\nopen 0 a O_RDONLY 0644\nunlink a\n";
        play(passthrough, text, |play| {
            let content = Answer::Content(b"x".repeat(10));
            play.answer("pread 0", [content.clone(), content.clone(), content]);
            let links = play.players().map(|player| player.open_metadata(0).expect("open").nlink());
            assert_eq!(links, [0, 0, 1]);
            play.answer("fchmod 0 0600", [DONE, error(Errno::ENOENT), error(Errno::EEXIST)]);
        });
    }
    // A directory too.
    play(true, "layer\ndir a 0755 0\nplay\nopen 0 a O_RDONLY 0644\nrmdir a\n", |play| {
        let chmod = Step { as_user: false, operation: "fchmod 0 0700".parse().expect("an operation") };
        let [plain, union, overlay] = play.answers(&chmod);
        assert_eq!([plain, union], [DONE, error(Errno::ENOENT)]);
        // By the kernel: Linux 6.12 has the one, 6.18 the other.
        assert!([error(Errno::EEXIST), error(Errno::ENOTDIR)].contains(&overlay), "{overlay:?}");
    });
}
