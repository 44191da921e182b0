//! Published ports: elements of the maps `published_tcp` and `published_udp`.

use std::net::Ipv4Addr;

use anyhow::Result;
use serde_json::Value;

use super::{conntrack, elements, nft};
use crate::publication::{Protocol, Publication};

// ANCHOR: publish
pub(super) fn publish(container: Ipv4Addr, publications: &[Publication]) -> Result<()> {
    if publications.is_empty() {
        return Ok(());
    }
    let script: String = publications.iter().map(|publication| addition(container, publication)).collect();
    nft::apply(&script, "published ports lead to the container")?;
    // A client that sent to the port before is in conntrack, as a flow to the host itself, and the chains of type nat
    // never see a flow twice. As long as it goes on sending it would never be let in. TCP begins anew.
    if publications.iter().all(|publication| publication.protocol == Protocol::Tcp) {
        return Ok(());
    }
    conntrack::forget(|flow| {
        publications.iter().any(|publication| {
            publication.protocol == Protocol::Udp
                && flow.protocol == libc::IPPROTO_UDP as u8
                && flow.destination_port == publication.host_port
                && (publication.address.is_unspecified() || publication.address == flow.destination)
        })
    })
}

fn addition(container: Ipv4Addr, publication: &Publication) -> String {
    let Publication { address, host_port, container_port, protocol } = publication;
    let address = if address.is_unspecified() { "0.0.0.0/0".to_string() } else { address.to_string() };
    format!(
        "add element inet hull published_{protocol} \
         {{ {address} . {host_port} : {container} . {container_port} }}\n"
    )
}
// ANCHOR_END: publish

// ANCHOR: withdraw
pub(super) fn withdraw(container: Ipv4Addr) -> Result<()> {
    if !nft::is_installed() {
        return Ok(());
    }
    let mut script = String::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let map = format!("published_{protocol}");
        for key in keys_to(container, &elements("map", &map)?) {
            script += &format!("delete element inet hull {map} {{ {key} }}\n");
        }
    }
    if script.is_empty() {
        return Ok(());
    }
    nft::apply(&script, "its published ports are closed")?;
    // Or the next container with this address would get what old clients still send.
    conntrack::forget(|flow| flow.answerer == container)
}

/// The keys, such as `0.0.0.0/0 . 8080`, whose data is the container's address and any port.
fn keys_to(container: Ipv4Addr, elements: &[Value]) -> Vec<String> {
    let container = container.to_string();
    let pairs = elements.iter().filter(|pair| pair[1]["concat"][0] == container.as_str());
    pairs.filter_map(|pair| key(&pair[0]["concat"])).collect()
}

/// `["127.0.0.1", 8080]`, or `[{"prefix": {"addr": "0.0.0.0", "len": 0}}, 8080]`.
fn key(concat: &Value) -> Option<String> {
    let port = concat[1].as_u64()?;
    match concat[0].as_str() {
        Some(address) => Some(format!("{address} . {port}")),
        None => {
            let prefix = &concat[0]["prefix"];
            Some(format!("{}/{} . {port}", prefix["addr"].as_str()?, prefix["len"].as_u64()?))
        }
    }
}
// ANCHOR_END: withdraw

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;

    use super::keys_to;

    #[test]
    fn the_ports_of_one_container_are_found_among_all() {
        // As nft 1.0.6 prints them.
        let map = json!([
            [{"concat": [{"prefix": {"addr": "0.0.0.0", "len": 0}}, 8080]}, {"concat": ["10.77.0.2", 80]}],
            [{"concat": ["127.0.0.1", 81]}, {"concat": ["10.77.0.2", 80]}],
            [{"concat": ["127.0.0.1", 82]}, {"concat": ["10.77.0.20", 80]}]
        ]);
        let keys = keys_to(Ipv4Addr::new(10, 77, 0, 2), map.as_array().unwrap());
        assert_eq!(keys, ["0.0.0.0/0 . 8080", "127.0.0.1 . 81"]);
    }
}
