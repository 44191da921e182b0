//! Values of one version as values of the other.

use ch04_cgroups::convert::{
    blkio_weight_to_io_weight, cpu_shares_to_weight, cpu_weight_to_shares, io_weight_to_blkio_weight,
    memory_and_swap_to_swap, swap_to_memory_and_swap,
};
use ch04_cgroups::limits::Bound::{At, Max};

#[test]
fn the_least_the_default_and_the_most_shares_are_those_of_weight() {
    assert_eq!([2, 1024, 262_144].map(cpu_shares_to_weight), [1, 100, 10_000].map(Some));
    assert_eq!([1, 100, 10_000].map(cpu_weight_to_shares), [2, 1024, 262_144].map(Some));
}

#[test]
fn shares_become_the_weights_that_other_runtimes_make() {
    // 2000: runc 1.4.0 in opencontainers/runc issue 4896. 22000: youki-dev/youki pull request 3274.
    assert_eq!(cpu_shares_to_weight(2000), Some(170));
    assert_eq!(cpu_shares_to_weight(22_000), Some(1204));
}

#[test]
fn shares_and_weights_beyond_the_ends_are_the_ends() {
    assert_eq!(cpu_shares_to_weight(1), Some(1));
    assert_eq!(cpu_shares_to_weight(u64::MAX), Some(10_000));
    assert_eq!(cpu_weight_to_shares(u64::MAX), Some(262_144));
    assert_eq!(blkio_weight_to_io_weight(1), Some(1));
    assert_eq!(blkio_weight_to_io_weight(1_000_000), Some(10_000));
    assert_eq!(io_weight_to_blkio_weight(u64::MAX), Some(1000));
}

#[test]
fn zero_is_not_set() {
    assert_eq!(cpu_shares_to_weight(0), None);
    assert_eq!(cpu_weight_to_shares(0), None);
    assert_eq!(blkio_weight_to_io_weight(0), None);
    assert_eq!(io_weight_to_blkio_weight(0), None);
}

#[test]
fn more_shares_never_weigh_less() {
    let mut before = None;
    for shares in 1..=262_145 {
        let weight = cpu_shares_to_weight(shares);
        assert!(before <= weight, "{shares}: {weight:?} after {before:?}");
        before = weight;
    }
}

#[test]
fn each_weight_comes_back_from_its_shares() {
    for weight in 1..=10_000 {
        let shares = cpu_weight_to_shares(weight).unwrap();
        assert_eq!(cpu_shares_to_weight(shares), Some(weight), "by {shares} shares");
    }
}

#[test]
fn each_blkio_weight_comes_back_and_the_ends_are_the_ends() {
    assert_eq!([10, 500, 1000].map(blkio_weight_to_io_weight), [1, 4950, 10_000].map(Some));
    for weight in 10..=1000 {
        let io_weight = blkio_weight_to_io_weight(weight).unwrap();
        assert_eq!(io_weight_to_blkio_weight(io_weight), Some(weight), "by {io_weight}");
    }
}

#[test]
fn swap_is_what_both_have_more_than_memory() {
    assert_eq!(memory_and_swap_to_swap(Some(At(100)), Some(At(60))).unwrap(), Some(At(40)));
    assert_eq!(memory_and_swap_to_swap(Some(At(60)), Some(At(60))).unwrap(), Some(At(0)));
    assert_eq!(memory_and_swap_to_swap(Some(Max), Some(At(60))).unwrap(), Some(Max));
    assert_eq!(memory_and_swap_to_swap(Some(Max), None).unwrap(), Some(Max));
    assert_eq!(memory_and_swap_to_swap(Some(At(100)), Some(Max)).unwrap(), Some(At(100)));
    assert_eq!(memory_and_swap_to_swap(None, Some(Max)).unwrap(), Some(Max));
    assert_eq!(memory_and_swap_to_swap(None, Some(At(60))).unwrap(), None);
    assert_eq!(memory_and_swap_to_swap(None, None).unwrap(), None);
    let error = memory_and_swap_to_swap(Some(At(50)), Some(At(60))).unwrap_err().to_string();
    assert!(error.contains("50 bytes, is below that of memory alone, 60"), "{error}");
    assert!(memory_and_swap_to_swap(Some(At(100)), None).is_err());
}

#[test]
fn swap_and_memory_add_up() {
    assert_eq!(swap_to_memory_and_swap(At(40), At(60)), At(100));
    assert_eq!(swap_to_memory_and_swap(At(0), At(60)), At(60));
    assert_eq!(swap_to_memory_and_swap(Max, At(60)), Max);
    assert_eq!(swap_to_memory_and_swap(At(40), Max), Max);
}
