// ANCHOR: size
//! Amounts, as they are typed and as they are shown.

use anyhow::{Context, Result, ensure};

/// Bytes, as `64M`. K, M and G are powers of 1024, as in the kernel's own files and in Docker's flags.
pub fn parse_bytes(text: &str) -> Result<u64> {
    let number = text.trim_end_matches(['b', 'B']);
    let (number, power) = match number.as_bytes().last() {
        Some(b'k' | b'K') => (&number[..number.len() - 1], 1),
        Some(b'm' | b'M') => (&number[..number.len() - 1], 2),
        Some(b'g' | b'G') => (&number[..number.len() - 1], 3),
        _ => (number, 0),
    };
    let number: u64 = number.parse().with_context(|| format!("{text:?} is no size such as 64M"))?;
    let bytes = number.checked_mul(1024u64.pow(power)).filter(|bytes| *bytes > 0);
    bytes.with_context(|| format!("{text:?} is no size between 1 byte and 16 EiB"))
}

/// CPUs, as `0.5`: how much time of a CPU the command gets in a second.
pub fn parse_cpus(text: &str) -> Result<f64> {
    let cpus: f64 = text.parse().with_context(|| format!("{text:?} is no number of CPUs such as 0.5"))?;
    // The kernel takes no quota below a millisecond; with periods of 100 milliseconds that is 0.01.
    ensure!((0.01..=100_000.0).contains(&cpus), "{text:?} CPUs: at least 0.01");
    Ok(cpus)
}

/// Bytes for people: `64.0 MiB`.
pub fn show_bytes(bytes: f64) -> String {
    match bytes {
        0.0..1024.0 => format!("{bytes:.0} B"),
        1024.0..1_048_576.0 => format!("{:.1} KiB", bytes / 1024.0),
        1_048_576.0..1_073_741_824.0 => format!("{:.1} MiB", bytes / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes / 1_073_741_824.0),
    }
}

/// A time for people, from microseconds: `1.52 s`.
pub fn show_time(microseconds: u64) -> String {
    format!("{:.2} s", microseconds as f64 / 1e6)
}
// ANCHOR_END: size

// ANCHOR: tests
#[cfg(test)]
mod tests {
    use super::{parse_bytes, parse_cpus, show_bytes};

    #[test]
    fn sizes_are_read_as_the_kernel_reads_them() {
        assert_eq!(parse_bytes("64M").unwrap(), 64 << 20);
        assert_eq!(parse_bytes("64mb").unwrap(), 64 << 20);
        assert_eq!(parse_bytes("512k").unwrap(), 512 << 10);
        assert_eq!(parse_bytes("3G").unwrap(), 3 << 30);
        assert_eq!(parse_bytes("4096").unwrap(), 4096);
        for wrong in ["", "M", "-1M", "1.5M", "0", "20000000000G", "64X"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn cpus_are_more_than_nothing() {
        assert_eq!(parse_cpus("0.5").unwrap(), 0.5);
        for wrong in ["", "0", "-1", "nan", "inf", "half"] {
            assert!(parse_cpus(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn bytes_are_shown_with_one_digit_after_the_point() {
        assert_eq!(show_bytes(64.0 * 1024.0 * 1024.0), "64.0 MiB");
        assert_eq!(show_bytes(512.0), "512 B");
        assert_eq!(show_bytes(1536.0), "1.5 KiB");
    }
}
// ANCHOR_END: tests
