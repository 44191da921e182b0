//! What the kernel takes for a map. It answers all that is wrong with one word, EINVAL, and so does
//! newuidmap(1): here each reason has its sentence.

use anyhow::{Result, anyhow, ensure};
use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};

use crate::{IdMap, Ids};

/// How many ranges a map may have (UID_GID_MAP_MAX_EXTENTS of Linux 4.15; before, it was 5).
const MOST_RANGES: usize = 340;

// ANCHOR: check
/// Whether the kernel would take `maps` as the map of `ids`.
///
/// # Errors
///
/// EINVAL, with the range and the reason: no range at all, a count of 0, numbers past the last one (2^32 - 2:
/// the number 2^32 - 1 means "no change" in chown(2), and so is nobody's), two ranges with the same number in
/// them, more than 340 ranges, a text that is not shorter than a page of memory.
pub fn check(ids: Ids, maps: &[IdMap]) -> Result<()> {
    let refused = |why: String| anyhow!(Errno::EINVAL).context(format!("the {}: {why}", ids.file()));
    ensure!(!maps.is_empty(), refused("it has no range".into()));
    ensure!(
        maps.len() <= MOST_RANGES,
        refused(format!("{} ranges, the kernel takes {MOST_RANGES}", maps.len()))
    );
    for map in maps {
        ensure!(map.count > 0, refused(format!("the range \"{map}\" is empty: its count is 0")));
        for (first, side) in [(map.inside, "inside"), (map.outside, "outside")] {
            // The number after the last one must still be a number, for the kernel's sum must not wrap.
            let fits = first.checked_add(map.count).is_some();
            ensure!(fits, refused(format!("the range \"{map}\" goes past 4294967294, the last id, {side}")));
        }
    }
    for (side, first) in [("inside", first_inside as fn(&IdMap) -> u32), ("outside", first_outside)] {
        if let Some((one, other)) = overlap(maps, first) {
            Err(refused(format!("the ranges \"{one}\" and \"{other}\" overlap {side}")))?;
        }
    }
    // One write(2) must bring all of it, and the kernel takes less than a page in one.
    let (length, page) = (text(maps).len(), page_size());
    ensure!(
        length < page,
        refused(format!("its text has {length} bytes, the kernel takes less than {page}"))
    );
    Ok(())
}

/// Whether there is a root inside: without one, no process could become uid 0, or own what root makes.
///
/// # Errors
///
/// EINVAL, where no range of `maps` has the number 0 inside.
pub fn check_root(ids: Ids, maps: &[IdMap]) -> Result<()> {
    ensure!(
        crate::map::to_outside(maps, 0).is_some(),
        anyhow!(Errno::EINVAL)
            .context(format!("the {}: no range has the id 0 inside, so there is no root", ids.file()))
    );
    Ok(())
}
// ANCHOR_END: check

/// The text that is written into the file.
pub(crate) fn text(maps: &[IdMap]) -> String {
    maps.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn first_inside(map: &IdMap) -> u32 {
    map.inside
}

fn first_outside(map: &IdMap) -> u32 {
    map.outside
}

/// Two ranges that share a number, on the side whose first number `first` tells.
fn overlap(maps: &[IdMap], first: fn(&IdMap) -> u32) -> Option<(IdMap, IdMap)> {
    let mut sorted = maps.to_vec();
    sorted.sort_by_key(first);
    let mut neighbours = sorted.windows(2);
    let pair = neighbours
        .find(|pair| u64::from(first(&pair[0])) + u64::from(pair[0].count) > u64::from(first(&pair[1])));
    pair.map(|pair| (pair[0], pair[1]))
}

fn page_size() -> usize {
    sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| size.try_into().ok()).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::{check, check_root};
    use crate::{IdMap, Ids};

    fn map(inside: u32, outside: u32, count: u32) -> IdMap {
        IdMap { inside, outside, count }
    }

    #[test]
    fn each_refusal_names_the_range_and_the_reason() {
        let many: Vec<IdMap> = (0..341).map(|number| map(number * 2, number * 2, 1)).collect();
        let long: Vec<IdMap> =
            (0..170).map(|number| map(4_000_000_000 + number * 2, 4_000_000_000 + number * 2, 1)).collect();
        let cases: [(&[IdMap], &str); 8] = [
            (&[], "no range"),
            (&[map(0, 1, 0)], "\"0 1 0\" is empty"),
            (&[map(1, 0, u32::MAX)], "\"1 0 4294967295\" goes past 4294967294, the last id, inside"),
            (&[map(0, u32::MAX, 1)], "\"0 4294967295 1\" goes past 4294967294, the last id, outside"),
            (&[map(5, 100, 10), map(0, 0, 6)], "\"0 0 6\" and \"5 100 10\" overlap inside"),
            (&[map(0, 100, 10), map(10, 109, 1)], "\"0 100 10\" and \"10 109 1\" overlap outside"),
            (&many, "341 ranges, the kernel takes 340"),
            (&long, "bytes, the kernel takes less than"),
        ];
        // A page of 4096 bytes, or 16384 or 65536 on aarch64, where all of `long` fits.
        let long_fits = super::text(&long).len() < super::page_size();
        for (maps, why) in cases {
            if why.starts_with("bytes") && long_fits {
                continue;
            }
            let error = check(Ids::Users, maps).unwrap_err();
            let chain = format!("{error:#}");
            assert!(chain.contains(why) && chain.starts_with("the uid_map: "), "{chain}");
            assert_eq!(error.downcast_ref(), Some(&nix::errno::Errno::EINVAL));
        }
    }

    #[test]
    fn what_only_touches_is_taken() {
        check(Ids::Users, &[map(0, 0, u32::MAX)]).unwrap();
        check(Ids::Groups, &[map(10, 0, 10), map(0, 10, 10), map(u32::MAX - 1, u32::MAX - 1, 1)]).unwrap();
    }

    #[test]
    fn a_map_without_root_is_refused_where_root_is_needed() {
        check(Ids::Groups, &[map(1, 0, 10)]).unwrap();
        assert!(
            format!("{:#}", check_root(Ids::Groups, &[map(1, 0, 10)]).unwrap_err())
                .contains("gid_map: no range has the id 0")
        );
        check_root(Ids::Groups, &[map(1, 1, 10), map(0, 50, 1)]).unwrap();
    }
}
