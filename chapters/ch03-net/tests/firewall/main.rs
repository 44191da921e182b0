//! What the firewall lets through and what it drops, tried with real packets in network namespaces that play the host,
//! its neighbours and the containers.

mod bounds;
mod foreign;
mod host;
mod ports;
mod sysctls;
