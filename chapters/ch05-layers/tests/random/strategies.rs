//! How random cases are made. Few names, so that operations meet; few values, each one an edge.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

use super::case::{Case, Item, Operation, Step};
use super::words::{Bytes, Flags, Mode, Place};

pub fn case() -> impl Strategy<Value = Case> {
    let layers = vec(vec(item(), 0..10), 1..=4);
    (layers, vec(step(), 1..16)).prop_map(|(layers, steps)| Case { layers, steps })
}

/// Names of which some are likely, so that one operation often finds what another one has made.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just("a"), 2 => Just("b"), 1 => Just("c")].prop_map(str::to_string)
}

fn below(name: impl Strategy<Value = String> + Clone) -> impl Strategy<Value = Place> {
    let depth = prop_oneof![5 => Just(1_usize), 3 => Just(2), 1 => Just(3)];
    depth.prop_flat_map(move |depth| vec(name.clone(), depth)).prop_map(|names| Place(names.join("/")))
}

fn place() -> impl Strategy<Value = Place> {
    let special = prop_oneof![
        select(vec![251, 252, 255, 256]).prop_map(|length| "n".repeat(length)),
        select(vec![".wh.a", ".wh..wh..opq", ".wh.", ".whiteout"]).prop_map(str::to_string),
    ];
    prop_oneof![30 => below(name().boxed()), 1 => below(special.boxed())]
}

/// A path in a layer, where only the names that every file system takes can be.
fn item_place() -> impl Strategy<Value = Place> {
    below(name().boxed())
}

/// Where a symlink leads: to a name beside it, up, or nowhere. Never out of the case.
fn target() -> impl Strategy<Value = Place> {
    select(vec!["a", "b", "c", "a/b", "."]).prop_map(|target| Place(target.to_string()))
}

fn mode() -> impl Strategy<Value = Mode> {
    select(vec![0o644, 0o755, 0o777, 0o600, 0o1777, 0o2775, 0o4755, 0o2777, 0o000, 0o444]).prop_map(Mode)
}

fn user() -> impl Strategy<Value = u32> {
    select(vec![0, 1000, 65534])
}

fn bytes() -> impl Strategy<Value = Bytes> {
    let length = select(vec![0, 1, 10, 4096, 5000, 10000]);
    (select(vec!['x', 'y', 'z']), length).prop_map(|(letter, length)| Bytes { letter, length })
}

fn length() -> impl Strategy<Value = i64> {
    select(vec![0, 1, 7, 4096, 6000, 20000])
}

/// `security.capability` has a format of its own and is played by a test of its own.
fn xattr_name() -> impl Strategy<Value = String> {
    select(vec!["user.a", "user.b", "trusted.a"]).prop_map(str::to_string)
}

fn value() -> impl Strategy<Value = Bytes> {
    (select(vec!['v', 'w']), select(vec![0, 3, 100])).prop_map(|(letter, length)| Bytes { letter, length })
}

fn flags() -> impl Strategy<Value = Flags> {
    let access = select(vec![0, libc::O_WRONLY, libc::O_RDWR]);
    let more = (
        weighted(0.5, Just(libc::O_CREAT)),
        weighted(0.15, Just(libc::O_EXCL)),
        weighted(0.2, Just(libc::O_TRUNC)),
        weighted(0.15, Just(libc::O_APPEND)),
        weighted(0.1, select(vec![libc::O_DIRECTORY, libc::O_NOFOLLOW])),
    );
    (access, more).prop_map(|(access, (create, exclusive, truncate, append, kind))| {
        // O_EXCL without O_CREAT is undefined (open(2)).
        let exclusive = create.and(exclusive);
        Flags([create, exclusive, truncate, append, kind].iter().flatten().fold(access, |all, bit| all | bit))
    })
}

fn item() -> impl Strategy<Value = Item> {
    let path = item_place;
    prop_oneof![
        6 => (path(), mode(), user(), bytes())
            .prop_map(|(path, mode, user, content)| Item::File { path, mode, user, content }),
        4 => (path(), mode(), user()).prop_map(|(path, mode, user)| Item::Directory { path, mode, user }),
        3 => path().prop_map(|path| Item::Whiteout { path }),
        2 => path().prop_map(|path| Item::Opaque { path }),
        2 => (path(), target()).prop_map(|(path, target)| Item::Symlink { path, target }),
        2 => (path(), path()).prop_map(|(path, to)| Item::Link { path, to }),
        1 => (path(), mode()).prop_map(|(path, mode)| Item::Fifo { path, mode }),
        2 => (path(), xattr_name(), value()).prop_map(|(path, name, value)| Item::Xattr { path, name, value }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let operation = prop_oneof![4 => on_names(), 3 => on_files(), 2 => on_slots()];
    (prop::bool::weighted(0.2), operation).prop_map(|(as_user, operation)| Step { as_user, operation })
}

/// What changes names.
fn on_names() -> impl Strategy<Value = Operation> {
    let rename_flags = prop_oneof![
        4 => Just(0),
        1 => select(vec![libc::RENAME_NOREPLACE, libc::RENAME_EXCHANGE, libc::RENAME_WHITEOUT]),
    ];
    prop_oneof![
        3 => (place(), mode()).prop_map(|(path, mode)| Operation::MakeDirectory { path, mode }),
        2 => place().prop_map(|path| Operation::RemoveDirectory { path }),
        4 => place().prop_map(|path| Operation::Unlink { path }),
        1 => (target(), place()).prop_map(|(target, path)| Operation::Symlink { target, path }),
        1 => (place(), mode()).prop_map(|(path, mode)| Operation::Fifo { path, mode }),
        2 => (place(), place()).prop_map(|(from, to)| Operation::Link { from, to }),
        5 => (place(), place(), rename_flags)
            .prop_map(|(from, to, flags)| Operation::Rename { from, to, flags }),
    ]
}

/// What reads and changes what a name leads to.
fn on_files() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (place(), flags(), bytes())
            .prop_map(|(path, flags, content)| Operation::WriteFile { path, flags, content }),
        1 => (place(), length()).prop_map(|(path, length)| Operation::Truncate { path, length }),
        2 => (place(), mode()).prop_map(|(path, mode)| Operation::ChangeMode { path, mode }),
        1 => (place(), user(), user())
            .prop_map(|(path, user, group)| Operation::ChangeOwner { path, user, group }),
        1 => (place(), 100_000..100_010i64)
            .prop_map(|(path, seconds)| Operation::ChangeTime { path, seconds }),
        2 => (place(), xattr_name(), value(), 0..3)
            .prop_map(|(path, name, value, flags)| Operation::SetXattr { path, name, value, flags }),
        1 => (place(), xattr_name()).prop_map(|(path, name)| Operation::RemoveXattr { path, name }),
        1 => place().prop_map(|path| Operation::ReadFile { path }),
        1 => place().prop_map(|path| Operation::List { path }),
        1 => place().prop_map(|path| Operation::Stat { path }),
        1 => Just(Operation::Forget {}),
    ]
}

/// What is done to descriptors that stay open.
fn on_slots() -> impl Strategy<Value = Operation> {
    let slot = || 0..3usize;
    let allocate =
        select(vec![0, libc::FALLOC_FL_KEEP_SIZE, libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE]);
    prop_oneof![
        6 => (slot(), place(), flags(), mode())
            .prop_map(|(slot, path, flags, mode)| Operation::Open { slot, path, flags, mode }),
        1 => slot().prop_map(|slot| Operation::Close { slot }),
        3 => (slot(), length(), bytes())
            .prop_map(|(slot, offset, content)| Operation::Write { slot, offset, content }),
        2 => slot().prop_map(|slot| Operation::Read { slot }),
        1 => (slot(), length()).prop_map(|(slot, length)| Operation::TruncateOpen { slot, length }),
        1 => (slot(), allocate, length(), length())
            .prop_map(|(slot, mode, offset, length)| Operation::Allocate { slot, mode, offset, length }),
        1 => slot().prop_map(|slot| Operation::StatOpen { slot }),
        1 => (slot(), mode()).prop_map(|(slot, mode)| Operation::ModeOpen { slot, mode }),
        1 => slot().prop_map(|slot| Operation::Sync { slot }),
        1 => slot().prop_map(|slot| Operation::ListOpen { slot }),
        1 => (slot(), item_place(), mode())
            .prop_map(|(slot, name, mode)| Operation::MakeIn { slot, name, mode }),
    ]
}
