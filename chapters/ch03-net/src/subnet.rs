//! A range of IPv4 addresses that share their first bits.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

// ANCHOR: subnet
/// Such as 10.77.0.0/16. The first address names the subnet, the last one means all of it (broadcast), and the one
/// after the first is the gateway; the others are for containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    first: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// Docker takes 172.17.0.0/16 and those after it, podman 10.88.0.0/16, libvirt 192.168.122.0/24: none of these.
    pub const DEFAULT: Subnet = Subnet { first: Ipv4Addr::new(10, 77, 0, 0), prefix: 16 };

    /// The subnet of the first `prefix` bits of `first`.
    ///
    /// # Errors
    ///
    /// `first` has bits after those, or the prefix leaves no room for a gateway and a container.
    pub fn new(first: Ipv4Addr, prefix: u8) -> Result<Subnet> {
        ensure!(
            (8..=30).contains(&prefix),
            "the subnet {first}/{prefix} has a prefix that is not from 8 to 30"
        );
        let network = Ipv4Addr::from_bits(first.to_bits() & mask(prefix));
        ensure!(
            first == network,
            "the subnet {first}/{prefix} has bits after its prefix: {network}/{prefix} is meant"
        );
        Ok(Subnet { first, prefix })
    }

    /// The address that names the subnet.
    pub fn first(self) -> Ipv4Addr {
        self.first
    }

    /// The number of bits that all addresses share.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The bridge's own address, through which containers reach everything else.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits() + 1)
    }

    /// The addresses for containers.
    pub fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        let last = self.first.to_bits() | !mask(self.prefix);
        (self.first.to_bits() + 2..last).map(Ipv4Addr::from_bits)
    }

    /// Whether an address is in both this subnet and `other`/`prefix`.
    pub fn overlaps(self, other: Ipv4Addr, prefix: u8) -> bool {
        let shared = mask(self.prefix.min(prefix));
        self.first.to_bits() & shared == other.to_bits() & shared
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}
// ANCHOR_END: subnet

impl FromStr for Subnet {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Subnet> {
        let parts = text
            .split_once('/')
            .with_context(|| format!("the subnet {text:?} has no prefix: 10.77.0.0/16"))?;
        let first = parts.0.parse().with_context(|| format!("the subnet {text:?} has no IPv4 address"))?;
        let prefix = parts.1.parse().with_context(|| format!("the subnet {text:?} has no prefix"))?;
        Subnet::new(first, prefix)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}/{}", self.first, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::Subnet;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn the_gateway_and_the_broadcast_address_are_not_for_containers() {
        let small = subnet("192.0.2.8/29");
        assert_eq!(small.gateway(), Ipv4Addr::new(192, 0, 2, 9));
        let addresses: Vec<_> = small.addresses().map(|address| address.octets()[3]).collect();
        assert_eq!(addresses, [10, 11, 12, 13, 14]);
        assert_eq!(subnet("192.0.2.0/30").addresses().count(), 1);
        assert_eq!(Subnet::DEFAULT.addresses().count(), 65533);
        assert_eq!(subnet("255.255.255.252/30").addresses().count(), 1);
    }

    #[test]
    fn subnets_overlap_when_one_is_in_the_other() {
        let own = Subnet::DEFAULT;
        assert!(own.overlaps(Ipv4Addr::new(10, 77, 3, 0), 24));
        assert!(own.overlaps(Ipv4Addr::new(10, 0, 0, 0), 8));
        assert!(own.overlaps(Ipv4Addr::new(10, 77, 255, 255), 32));
        assert!(own.overlaps(Ipv4Addr::UNSPECIFIED, 0));
        assert!(!own.overlaps(Ipv4Addr::new(10, 78, 0, 0), 16));
        assert!(!own.overlaps(Ipv4Addr::new(172, 17, 0, 0), 16));
    }

    #[test]
    fn what_is_no_subnet_is_refused() {
        for text in [
            "10.77.0.0",
            "10.77.0.1/16",
            "10.77.0.0/31",
            "10.0.0.0/7",
            "10.77.0/16",
            "::/64",
            "a/16",
            "10.77.0.0/x",
        ] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
        assert_eq!(Subnet::DEFAULT.to_string(), "10.77.0.0/16");
    }
}
