//! Queueing disciplines: in which order, and how fast, a link's packets leave. What `tc qdisc` shows.
//!
//! `tbf` is a *token bucket*: tokens run in at a fixed rate, a packet may leave when there is a token for each of its
//! bytes, and the bucket holds no more than `burst` of them. Packets that have to wait are kept, up to `limit` bytes;
//! more are dropped, by which TCP learns how fast the link is. It holds what *leaves* the link, so a container's
//! incoming traffic is held at the host's end of the cable. Manual page:
//! [tc-tbf(8)](https://man7.org/linux/man-pages/man8/tc-tbf.8.html).

use anyhow::{Context, Result};
use log::info;
use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};

use super::{Netlink, link};
use crate::Rate;

// ANCHOR: bucket
/// What a token bucket holds, for a rate. All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    rate: u64,
    burst: u32,
    limit: u32,
}

impl Bucket {
    fn new(rate: Rate) -> Bucket {
        let in_milliseconds = |time: u64| rate.bytes().saturating_mul(time) / 1000;
        // What runs in while the timer that lets the next packet go is late must find room, or the rate is never
        // reached: on a busy machine that is milliseconds, at 10gbit a megabyte each. At low rates there must be
        // room for a few packets. More would let too much pass in a short transfer: a full bucket goes at once.
        let burst = in_milliseconds(5).clamp(16 << 10, 64 << 20);
        // The kernel lets a connection of this machine have two packets in the queue, each of up to 64 KiB and more
        // in memory (tcp_limit_output_bytes in the kernel's ip-sysctl), and makes it wait for room. With less room
        // than that they are dropped instead and sent again: at 1mbit a tenth of the rate was lost so. At high rates
        // what runs in during 50 ms keeps the link busy while TCP halves its window after a loss; more would only be
        // delay.
        let wait = in_milliseconds(50).clamp(256 << 10, 256 << 20);
        Bucket { rate: rate.bytes(), burst: burst as u32, limit: (burst + wait) as u32 }
    }
}
// ANCHOR_END: bucket

// ANCHOR: limit
/// Lets what leaves by the link `name` of the calling thread's namespace pass at `rate`, and no faster.
///
/// # Errors
///
/// ENOENT where the kernel has no tbf (`modprobe sch_tbf`). Names the link.
pub fn limit(netlink: &mut Netlink, name: &str, rate: Rate) -> Result<()> {
    let bucket = Bucket::new(rate);
    info!(
        target: "syscall",
        "RTM_NEWQDISC {name:?} kind=\"tbf\" rate={rate} burst={} limit={}  what leaves there is held at the rate",
        bucket.burst,
        bucket.limit
    );
    let mut message = TcMessage::with_index(link::index(netlink, name)? as i32);
    message.header.parent = TcHandle::ROOT;
    message.attributes = vec![TcAttribute::Kind("tbf".to_string()), TcAttribute::Options(options(&bucket))];
    netlink
        .change(RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_REPLACE)
        .with_context(|| format!("hold what leaves by {name:?} at {rate}: it needs the kernel's sch_tbf"))
}

/// The attributes of `tbf`, which the crate does not know: linux/pkt_sched.h.
fn options(bucket: &Bucket) -> Vec<TcOption> {
    const TCA_TBF_PARMS: u16 = 1;
    const TCA_TBF_RATE64: u16 = 4;
    const TCA_TBF_BURST: u16 = 6;
    let option = |kind, value: &[u8]| TcOption::Other(DefaultNla::new(kind, value.to_vec()));

    let mut options = vec![
        option(TCA_TBF_PARMS, &parameters(bucket)),
        // In bytes. The field of the structure is a time, which loses precision.
        option(TCA_TBF_BURST, &bucket.burst.to_ne_bytes()),
    ];
    if u32::try_from(bucket.rate).is_err() {
        options.push(option(TCA_TBF_RATE64, &bucket.rate.to_ne_bytes()));
    }
    options
}

/// `struct tc_tbf_qopt`: two `struct tc_ratespec` (the rate, and a peak rate that we have none of), then three numbers.
fn parameters(bucket: &Bucket) -> Vec<u8> {
    // How a packet's length becomes a time. With the "unaware" of old, a table of 256 lengths would have to follow.
    const TC_LINKLAYER_ETHERNET: u8 = 1;
    let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(36);
    // cell_log, linklayer, overhead, cell_align, mpu (2 bytes each but the first two), rate
    bytes.extend([0, TC_LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0]);
    bytes.extend(rate.to_ne_bytes());
    bytes.extend([0; 12]);
    bytes.extend(bucket.limit.to_ne_bytes());
    // buffer and mtu, which TCA_TBF_BURST stands for.
    bytes.extend([0; 8]);
    bytes
}
// ANCHOR_END: limit

#[cfg(test)]
mod tests {
    use super::{Bucket, options, parameters};

    fn bucket(rate: &str) -> Bucket {
        Bucket::new(rate.parse().unwrap())
    }

    #[test]
    fn the_structure_has_the_kernel_s_size() {
        assert_eq!(parameters(&bucket("1mbit")).len(), 36);
    }

    #[test]
    fn a_packet_always_fits_into_the_bucket_and_a_burst_into_the_queue() {
        for rate in ["8kbit", "1mbit", "10gbit", "800gbit", "100tbit"] {
            let bucket = bucket(rate);
            assert!(
                bucket.burst >= 16 << 10 && bucket.limit - bucket.burst >= 256 << 10,
                "{rate} {bucket:?}"
            );
        }
    }

    #[test]
    fn a_rate_above_32_bits_has_an_attribute_of_its_own() {
        assert_eq!(options(&bucket("34gbit")).len(), 2);
        assert_eq!(options(&bucket("35gbit")).len(), 3);
    }
}
