//! Claim: what programs do on the union's mount, it answers as a plain directory does, and as overlayfs does,
//! but for the known differences in `random/differences.rs`.
//!
//! `HULL_RANDOM_SEED=NUMBER` plays the sequences of a former run again, `HULL_RANDOM_REPLAY=FILE` one from
//! its text. `HULL_RANDOM_SEQUENCES` and `HULL_RANDOM_SECONDS` say how many at most, and for how long.

#[path = "random/claims.rs"]
mod claims;
#[path = "random/mod.rs"]
mod random;

use std::cell::RefCell;

use random::check::check;
use random::run;
use random::stage::{Stage, in_own_mount_table};

#[test]
fn the_union_answers_as_a_plain_directory_and_overlayfs_do() {
    testing::needs!(Root, Fuse);
    in_own_mount_table(|| play(true));
}

#[test]
fn without_passthrough_it_does_so_too() {
    testing::needs!(Root, Fuse);
    in_own_mount_table(|| play(false));
}

fn play(passthrough: bool) {
    let stage = RefCell::new(Stage::new(passthrough));
    run::play(2000, |case| {
        // A case that ended the server must not fail those after it.
        if !stage.borrow().is_alive() {
            stage.replace(Stage::new(passthrough));
        }
        check(&stage.borrow(), case)
    });
}
