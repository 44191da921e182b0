//! How much may pass in a second, as tc(8) writes it.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

// ANCHOR: rate
/// Bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// `bits` per second.
    ///
    /// # Errors
    ///
    /// Less than 8000 (a kilobyte per second) would hold a single packet back for seconds.
    pub fn new(bits: u64) -> Result<Rate> {
        ensure!(bits >= 8000, "a rate of {bits} bit/s is too little: 8kbit is the least");
        Ok(Rate(bits))
    }

    /// In bits per second, as `10mbit` is meant.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// In bytes per second, as the kernel counts.
    pub fn bytes(self) -> u64 {
        self.0 / 8
    }
}
// ANCHOR_END: rate

// ANCHOR: units
/// Name and bits: tc(8), "Parameters". A bare number is bits; `bps` is *bytes* per second there.
const UNITS: [(&str, u64); 19] = [
    ("", 1),
    ("bit", 1),
    ("kbit", 1000),
    ("mbit", 1000_u64.pow(2)),
    ("gbit", 1000_u64.pow(3)),
    ("tbit", 1000_u64.pow(4)),
    ("kibit", 1024),
    ("mibit", 1024_u64.pow(2)),
    ("gibit", 1024_u64.pow(3)),
    ("tibit", 1024_u64.pow(4)),
    ("bps", 8),
    ("kbps", 8 * 1000),
    ("mbps", 8 * 1000_u64.pow(2)),
    ("gbps", 8 * 1000_u64.pow(3)),
    ("tbps", 8 * 1000_u64.pow(4)),
    ("kibps", 8 * 1024),
    ("mibps", 8 * 1024_u64.pow(2)),
    ("gibps", 8 * 1024_u64.pow(3)),
    ("tibps", 8 * 1024_u64.pow(4)),
];
// ANCHOR_END: units

impl FromStr for Rate {
    type Err = anyhow::Error;

    /// Reads `10mbit`, `1.5gbit`, `500kbps`, in capitals too.
    fn from_str(text: &str) -> Result<Rate> {
        let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let number: f64 = number.parse().with_context(|| format!("the rate {text:?} has no number"))?;
        let unit = unit.to_ascii_lowercase();
        let Some((_, bits)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            bail!(
                "the rate {text:?} has the unknown unit {unit:?}: kbit, mbit, gbit (bits) or kbps, mbps (bytes)"
            );
        };
        let bits = number * *bits as f64;
        // What the kernel can count: 64 bits of bytes; far below it, a mistake is more likely than a network.
        ensure!(bits < 1e15, "the rate {text:?} is more than any network has");
        Rate::new(bits.round() as u64)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let units = [("gbit", 1000_u64.pow(3)), ("mbit", 1000_u64.pow(2)), ("kbit", 1000)];
        let whole = units.iter().find(|(_, bits)| self.0 % bits == 0);
        let (name, bits) = whole.unwrap_or(&("bit", 1));
        write!(formatter, "{}{name}", self.0 / bits)
    }
}

#[cfg(test)]
mod tests {
    use super::Rate;

    fn bits(text: &str) -> u64 {
        text.parse::<Rate>().unwrap().bits()
    }

    #[test]
    fn units_are_tc_s() {
        assert_eq!(bits("10mbit"), 10_000_000);
        assert_eq!(bits("1.5Gbit"), 1_500_000_000);
        assert_eq!(bits("100kbps"), 800_000);
        assert_eq!(bits("8kibit"), 8192);
        assert_eq!(bits("64000"), 64_000);
    }

    #[test]
    fn what_is_no_rate_is_named() {
        for text in ["", "mbit", "10mb", "-1mbit", "1..2mbit", "1e6", "1mbit/s", "7999", "0", "9999tbit"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_is_written_as_it_is_read() {
        for text in ["10mbit", "1gbit", "64kbit", "1500mbit", "8001bit"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }
}
