//! Regions on one machine: a network namespace each, joined by a bridge, with the time between them that real ones have.
//!
//! ```text
//!   namespace of region 1        bridge of this run         namespace of region 2
//!   198.18.N.1  eth0 ──veth──────────── 198.18.N.254 ──────────veth── eth0  198.18.N.2
//!               tc netem delay 75 ms                      tc netem delay 75 ms
//! ```
//!
//! What leaves a region is late by half of the round trip, by `tc netem`. A kernel without it gets the same delay from
//! this program: the addresses that nodes tell each other are then those of relays on the bridge ([`relay`]).
//! Everything is made by the run and goes with it; it needs the right to make namespaces, as root has it.

mod relay;

use crate::fleet::Site;
use crate::node::Layout;
use crate::progress;
use crate::registrar::TRUST_DOMAIN;
use crate::trouble::Trouble;
use relay::Relay;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The port on which every node of a region listens, its number added.
const FIRST_PORT: u16 = 8_100;

/// The last byte of the bridge's address; those of regions count from 1.
const BRIDGE: u8 = 254;

/// Who makes messages late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Delay {
    /// The kernel, or this program where the kernel cannot.
    Auto,
    /// The kernel, by `tc netem`.
    Netem,
    /// This program.
    Relay,
}

/// The regions of a run.
#[derive(Debug)]
pub(crate) struct Network {
    name: String,
    subnet: u8,
    regions: Vec<String>,
    one_way: Duration,
    relayed: bool,
    relays: Vec<Relay>,
}

impl Network {
    /// Makes regions, this round trip apart.
    pub(crate) fn make(regions: &[&str], round_trip: Duration, delay: Delay) -> Result<Self, Trouble> {
        let process = std::process::id();
        let mut network = Self {
            name: format!("q{process}"),
            subnet: process.to_le_bytes().first().copied().unwrap_or_default(),
            regions: regions.iter().map(|region| (*region).to_owned()).collect(),
            one_way: round_trip / 2,
            relayed: delay == Delay::Relay,
            relays: Vec::new(),
        };
        network.lay().map_err(|error| Trouble::NotPermitted(format!("network namespaces cannot be made: {error}")))?;
        if delay != Delay::Relay
            && let Err(error) = network.shape()
        {
            if delay == Delay::Netem {
                return Err(Trouble::NotPermitted(format!("tc netem cannot be used: {error}")));
            }
            network.relayed = true;
        }
        let by = if network.relayed { "relays of this program (tc netem cannot be used here)" } else { "tc netem" };
        progress(&format!("  {} regions, {} ms apart by {by}", regions.len(), round_trip.as_millis()));
        Ok(network)
    }

    /// How messages are made late, in words.
    pub(crate) fn delayed_by(&self) -> &'static str {
        if self.relayed { "relays" } else { "tc netem" }
    }

    /// The bridge, the namespaces, and what joins them.
    fn lay(&self) -> Result<(), String> {
        let (bridge, hub) = (&self.name, self.address(BRIDGE));
        run(&["ip", "link", "add", bridge, "type", "bridge"])?;
        run(&["ip", "address", "add", &format!("{hub}/24"), "dev", bridge])?;
        run(&["ip", "link", "set", bridge, "up"])?;
        for (index, _) in self.regions.iter().enumerate() {
            let (namespace, veth) = (self.namespace(index), format!("{}v{index}", self.name));
            run(&["ip", "netns", "add", &namespace])?;
            run(&["ip", "link", "add", &veth, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
            run(&["ip", "link", "set", &veth, "master", bridge, "up"])?;
            let address = format!("{}/24", self.region_address(index));
            run(&["ip", "-n", &namespace, "address", "add", &address, "dev", "eth0"])?;
            run(&["ip", "-n", &namespace, "link", "set", "eth0", "up"])?;
            run(&["ip", "-n", &namespace, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    /// What leaves a region leaves it late.
    fn shape(&self) -> Result<(), String> {
        let late = format!("{}ms", self.one_way.as_millis());
        for index in 0..self.regions.len() {
            let namespace = self.namespace(index);
            run(&["tc", "-n", &namespace, "qdisc", "add", "dev", "eth0", "root", "netem", "delay", &late])?;
        }
        Ok(())
    }

    fn namespace(&self, region: usize) -> String {
        format!("{}r{region}", self.name)
    }

    /// An address of this run, in a range that is set aside for measurements (RFC 2544).
    fn address(&self, last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(198, 18, self.subnet, last))
    }

    fn region_address(&self, region: usize) -> IpAddr {
        self.address(u8::try_from(region + 1).unwrap_or(BRIDGE))
    }

    /// Sites for nodes in these regions, counted from 0; a relay is started for each where there are relays.
    pub(crate) async fn sites(&mut self, regions: &[usize]) -> Result<Vec<Site>, Trouble> {
        let mut sites = Vec::new();
        for (number, region) in regions.iter().copied().enumerate() {
            let port = FIRST_PORT + u16::try_from(number).unwrap_or_default();
            let peer = SocketAddr::new(self.region_address(region), port);
            let advertised = if self.relayed { self.relay(peer).await? } else { peer };
            let name = format!("node-{}", number + 1);
            let layout = Layout {
                name,
                peer,
                advertised,
                namespace: Some(self.namespace(region)),
                trust_domain: TRUST_DOMAIN.to_owned(),
                further: String::new(),
            };
            sites.push(Site { layout, region: self.regions.get(region).cloned().unwrap_or_default() });
        }
        Ok(sites)
    }

    async fn relay(&mut self, to: SocketAddr) -> Result<SocketAddr, Trouble> {
        let relay = Relay::start(self.address(BRIDGE), to, self.one_way).await?;
        let address = relay.address();
        self.relays.push(relay);
        Ok(address)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // A namespace takes its end of the pair with it. What cannot be removed was never made.
        for index in 0..self.regions.len() {
            let _ = run(&["ip", "netns", "delete", &self.namespace(index)]);
        }
        let _ = run(&["ip", "link", "delete", &self.name]);
    }
}

/// Runs a command to its end; what it wrote on its standard error when it failed.
fn run(command: &[&str]) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", command.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
