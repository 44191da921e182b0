//! What exec(2) makes of a process's capabilities, read from its `/proc/PID/status`.

#[macro_use]
mod forked;
mod subject;

use std::io::Write;

use ch07_privileges::capabilities::{Capability, CapabilitySet, Securebits, Sets};
use ch07_privileges::user::{User, become_user};
use subject::{Subject, Who, exec};

tests! {
    root_has_what_is_in_the_bounding_set_after_exec,
    root_of_a_user_namespace_has_what_is_in_the_bounding_set_after_exec,
    another_user_keeps_the_ambient_set_alone_over_exec,
    what_exec_makes_of_any_sets_is_foretold,
    under_noroot_uid_0_is_a_user_like_others,
}

/// Docker's 14, as the kernel prints them in a container of Docker's.
const DOCKER: u64 = 0xa804_25fb;

const NOBODY: u32 = 65534;

fn nobody() -> User {
    User { uid: NOBODY, gid: NOBODY, ..User::default() }
}

/// All of the way to the command.
fn executed(who: Who, sets: Sets, user: User) -> Subject {
    let mut process = Subject::start(who, |_| {
        sets.before_user_change()?;
        become_user(&user)?;
        sets.apply()?;
        exec("sleep", &["1000"])
    });
    process.sleeps();
    process
}

fn root_has_what_is_in_the_bounding_set_after_exec() {
    testing::needs!(Root);
    let process = executed(Who::Ourselves, Sets::bounded_by(CapabilitySet::DEFAULT), User::default());
    assert_eq!(process.sets(), [0, DOCKER, DOCKER, DOCKER, 0]);
    // Even where it had none of it left before.
    let none = Sets { bounding: CapabilitySet::DEFAULT, ..Sets::default() };
    let process = executed(Who::Ourselves, none, User::default());
    assert_eq!(process.sets(), [0, DOCKER, DOCKER, DOCKER, 0]);
}

fn root_of_a_user_namespace_has_what_is_in_the_bounding_set_after_exec() {
    testing::needs!(UserNamespaces);
    let process = executed(Who::RootOfNamespace, Sets::bounded_by(CapabilitySet::DEFAULT), User::default());
    assert_eq!(process.sets(), [0, DOCKER, DOCKER, DOCKER, 0]);
}

fn another_user_keeps_the_ambient_set_alone_over_exec() {
    testing::needs!(Root);
    let sets = Sets::bounded_by(CapabilitySet::DEFAULT);
    assert_eq!(executed(Who::Ourselves, sets, nobody()).sets(), [0, 0, 0, DOCKER, 0]);
    let raw = 1 << 13;
    let sets = sets.with_ambient(CapabilitySet::of(&[Capability::NET_RAW]));
    assert_eq!(executed(Who::Ourselves, sets, nobody()).sets(), [raw, raw, raw, DOCKER, raw]);
}

fn what_exec_makes_of_any_sets_is_foretold() {
    testing::needs!(Root);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        CapabilitySet::from_bits(random)
    };
    let own = Sets::own().unwrap();
    for user in [User::default(), nobody()].iter().cycle().take(20) {
        let bounding = next() & own.bounding;
        let permitted = next() & own.permitted;
        let inheritable = next() & bounding & own.permitted;
        let ambient = next() & permitted & inheritable;
        let sets = Sets { effective: next() & permitted, permitted, inheritable, bounding, ambient };
        let foretold = sets.over_exec(user.uid == 0);
        let after = executed(Who::Ourselves, sets, user.clone()).sets();
        let foretold = [
            foretold.inheritable,
            foretold.permitted,
            foretold.effective,
            foretold.bounding,
            foretold.ambient,
        ];
        assert_eq!(after, foretold.map(CapabilitySet::bits), "{user:?} with {sets:?}");
    }
}

fn under_noroot_uid_0_is_a_user_like_others() {
    testing::needs!(UserNamespaces);
    let bits = Securebits::NOROOT | Securebits::NO_CAP_AMBIENT_RAISE;
    let mut process = Subject::start(Who::RootOfNamespace, |words| {
        bits.locked().set()?;
        writeln!(words, "{}", Securebits::own()?)?;
        writeln!(words, "{:#}", Securebits::default().set().unwrap_err())?;
        let kill = CapabilitySet::of(&[Capability::KILL]);
        let refused = Sets::bounded_by(CapabilitySet::DEFAULT).with_ambient(kill).apply()?;
        writeln!(words, "{}", refused[0])?;
        exec("sleep", &["1000"])
    });
    assert_eq!(process.word(), "NOROOT (locked), NO_CAP_AMBIENT_RAISE (locked)");
    assert_eq!(
        process.word(),
        "prctl(PR_SET_SECUREBITS, none) (it needs CAP_SETPCAP, and what is locked stays): \
         EPERM: Operation not permitted"
    );
    assert_eq!(process.word(), "CAP_KILL is not granted: the securebit NO_CAP_AMBIENT_RAISE is set");
    process.sleeps();
    let uid = testing::PlainUser::get().uid;
    assert_eq!(process.status("Uid"), format!("{uid} {uid} {uid} {uid}"));
    assert_eq!((process.set("CapPrm"), process.set("CapEff")), (0, 0));
}
