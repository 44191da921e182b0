//! Who a process is: its user and groups, by `/proc/PID/status`.

#[macro_use]
mod forked;
mod subject;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use ch07_privileges::capabilities::{Capability, CapabilitySet, Sets};
use ch07_privileges::user::{User, become_user, give};
use nix::sys::stat::fstat;
use nix::unistd::pipe;
use subject::{Subject, Who};

tests! {
    all_four_numbers_the_groups_and_the_umask_change,
    roots_groups_do_not_stay,
    the_number_that_means_no_change_is_refused,
    a_number_that_is_not_mapped_is_refused_with_the_reason,
    where_setgroups_is_denied_the_groups_stay_and_more_are_refused,
    a_group_too_many_is_not_passed_over,
    a_plain_user_becomes_nobody_else,
    a_pipe_is_given_to_the_user_and_a_file_is_not,
    a_pipe_that_cannot_be_given_stays,
}

fn user(uid: u32, gid: u32, additional_gids: &[u32]) -> User {
    User { uid, gid, additional_gids: additional_gids.into(), umask: None }
}

/// Becomes it, and says what came of that.
fn becomes(who: Who, user: &User) -> (String, Subject) {
    let mut subject = Subject::start(who, |_| become_user(user).map(|()| "done".into()));
    (subject.word(), subject)
}

fn all_four_numbers_the_groups_and_the_umask_change() {
    testing::needs!(Root);
    let (word, subject) =
        becomes(Who::Ourselves, &User { umask: Some(0o27), ..user(4001, 4002, &[4003, 4004]) });
    assert_eq!(word, "done");
    assert_eq!(subject.status("Uid"), "4001 4001 4001 4001");
    assert_eq!(subject.status("Gid"), "4002 4002 4002 4002");
    assert_eq!(subject.status("Groups"), "4003 4004");
    assert_eq!(subject.status("Umask"), "0027");
}

fn roots_groups_do_not_stay() {
    testing::needs!(Root);
    let mut subject = Subject::start(Who::Ourselves, |_| {
        nix::unistd::setgroups(&[0.into(), 7.into()])?;
        become_user(&user(4001, 4001, &[]))?;
        Ok("done".into())
    });
    assert_eq!(subject.word(), "done");
    assert_eq!(subject.status("Groups"), "");
}

fn the_number_that_means_no_change_is_refused() {
    testing::needs!(Root);
    for user in [user(u32::MAX, 0, &[]), user(4001, u32::MAX, &[]), user(4001, 4001, &[5, u32::MAX])] {
        let (word, subject) = becomes(Who::Ourselves, &user);
        assert_eq!(
            word,
            "failed: 4294967295 is no number of a user or group: to the kernel it means \"no change\""
        );
        assert_eq!(subject.status("Uid"), "0 0 0 0");
    }
}

fn a_number_that_is_not_mapped_is_refused_with_the_reason() {
    testing::needs!(UserNamespaces);
    let mapped = "(this number is not mapped in this user namespace: see /proc/self/uid_map and gid_map): \
                  EINVAL: Invalid argument";
    let (word, _subject) = becomes(Who::RootOfNamespace, &user(33, 0, &[]));
    assert_eq!(word, format!("failed: setresuid to 33 {mapped}"));
    let (word, _subject) = becomes(Who::RootOfNamespace, &user(0, 33, &[]));
    assert_eq!(word, format!("failed: setresgid to 33 {mapped}"));
}

fn where_setgroups_is_denied_the_groups_stay_and_more_are_refused() {
    testing::needs!(UserNamespaces);
    let mut before = Subject::start(Who::RootOfNamespace, |_| Ok("there".into()));
    assert_eq!(before.word(), "there");
    let (word, subject) = becomes(Who::RootOfNamespace, &user(0, 0, &[]));
    assert_eq!((word.as_str(), subject.status("Groups")), ("done", before.status("Groups")));
    let (word, _subject) = becomes(Who::RootOfNamespace, &user(0, 0, &[0, 33]));
    assert_eq!(
        word,
        "failed: setgroups to [0, 33] (denied in this user namespace: its groups were mapped without \
         privilege): EPERM: Operation not permitted"
    );
}

fn a_group_too_many_is_not_passed_over() {
    testing::needs!(Root);
    let mut subject = Subject::start(Who::Ourselves, |_| {
        nix::unistd::setgroups(&[5.into(), 6.into()])?;
        let sets = Sets::bounded_by(CapabilitySet::all()?.without(Capability::SETGID));
        sets.apply()?;
        become_user(&user(0, 0, &[5, 5]))?;
        Ok("done".into())
    });
    assert_eq!(
        subject.word(),
        "failed: setgroups to [5, 5] (it needs CAP_SETGID): EPERM: Operation not permitted"
    );
    assert_eq!(subject.status("Groups"), "5 6");
}

fn a_plain_user_becomes_nobody_else() {
    testing::needs!(PlainUser);
    let (word, _subject) = becomes(Who::PlainUser, &user(0, 0, &[0, 1]));
    assert_eq!(word, "failed: setgroups to [0, 1] (it needs CAP_SETGID): EPERM: Operation not permitted");
    // And who they are already, they may stay.
    let mut subject = Subject::start(Who::PlainUser, |_| {
        let groups: Vec<u32> = nix::unistd::getgroups()?.iter().map(|group| group.as_raw()).collect();
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        become_user(&user(uid, gid, &groups))?;
        become_user(&user(0, gid, &groups))?;
        Ok("root".into())
    });
    assert_eq!(
        subject.word(),
        "failed: setresuid to 0 (it needs CAP_SETUID): EPERM: Operation not permitted"
    );
}

fn a_pipe_is_given_to_the_user_and_a_file_is_not() {
    testing::needs!(Root);
    let (read, _write) = pipe().unwrap();
    give(&read, 4001).unwrap();
    assert_eq!(fstat(read.as_fd()).unwrap().st_uid, 4001);
    // Who has the other end can now open it by its name, as /dev/stdout does.
    let file = tempfile::NamedTempFile::new().unwrap();
    give(file.as_file(), 4001).unwrap();
    assert_eq!(file.as_file().metadata().unwrap().uid(), 0);
    let null = File::options().write(true).open("/dev/null").unwrap();
    give(&null, 4001).unwrap();
    assert_eq!(null.metadata().unwrap().uid(), 0);
}

fn a_pipe_that_cannot_be_given_stays() {
    testing::needs!(UserNamespaces);
    let mut subject = Subject::start(Who::RootOfNamespace, |_| {
        let (read, _write) = pipe()?;
        give(&read, 4001)?;
        Ok(fstat(read.as_fd())?.st_uid.to_string())
    });
    assert_eq!(subject.word(), "0");
}
