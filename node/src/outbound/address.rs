//! Which addresses this node lets itself be led to (ATK-37).
//!
//! A bundle endpoint's URL, a redirect, a discovered host: each is a request that somebody else makes this node send. So
//! that none of them reaches what only this host or its network should reach, every address is put into a class before
//! anything is sent to it, and the one that was judged is the one that is dialled.
//!
//! ```text
//!   forbidden   link-local, metadata services, multicast, unspecified, reserved; always, also within mapped, NAT64 forms
//!   loopback  \  narrower than public: an operator's own URL may lead there; a redirect or a discovered name only from as
//!   private   /  narrow a place, or where the operator has allowed that network (`federation.allow_private`)
//!   public       everything else
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Metadata and platform services that are not link-local: whoever may ask them gets credentials of the machine.
const METADATA_V4: [Ipv4Addr; 2] = [
    // Alibaba Cloud's metadata, within the shared address space.
    Ipv4Addr::new(100, 100, 100, 200),
    // Azure's platform channel, a public address.
    Ipv4Addr::new(168, 63, 129, 16),
];

/// The same of version 6, all within the unique local addresses.
const METADATA_V6: [Ipv6Addr; 3] = [
    // AWS.
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    // Google Cloud.
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    // Scaleway.
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// How far away an address is: the later, the wider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// This host alone.
    Loopback,
    /// Networks of the organisation: RFC 1918, shared address space, unique local addresses, benchmarks.
    Private,
    /// The Internet.
    Public,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Public => "public",
        })
    }
}

/// Why nothing is sent to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// Unspecified, or of "this network".
    #[error("it is the unspecified address")]
    Unspecified,
    /// Valid on one link alone; metadata services of clouds live there.
    #[error("it is link-local, where metadata services live")]
    LinkLocal,
    /// A metadata or platform service of a cloud.
    #[error("it is a cloud's metadata service")]
    Metadata,
    /// Multicast.
    #[error("it is multicast")]
    Multicast,
    /// Reserved, or a form of tunnelling that nobody should meet today and that hides where it leads.
    #[error("it is of a reserved range")]
    Reserved,
    /// Narrower than where the way began, and of no allowed network.
    #[error(
        "it is a {to} address and the way there began at a {from} one: if that is right, name its network in \
         federation.allow_private"
    )]
    Narrower {
        /// Where the way began.
        from: Reach,
        /// Where it leads.
        to: Reach,
    },
}

/// Where a URL comes from, and so how far it is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlTrust {
    /// An administrator wrote it: it may be private or loopback.
    Operator,
    /// A redirect led here, from an address of this reach. It leads to nothing narrower.
    Followed {
        /// The widest address on the way so far.
        from: Reach,
    },
    /// A name server or a stranger's document named it: public, but for allowed networks.
    Discovered,
}

/// Which networks may be reached from outside all the same.
#[derive(Debug, Clone, Default)]
pub struct AddressRules {
    allowed: Vec<IpNet>,
}

impl AddressRules {
    /// Rules with these private networks allowed.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Judges an address: how far away it is, if anything may be sent to it. What `accept_private` says of a peer stands
    /// above the list of networks.
    ///
    /// # Errors
    /// Why nothing may be.
    pub fn judge(&self, address: IpAddr, trust: UrlTrust, accept_private: Option<bool>) -> Result<Reach, AddressFault> {
        let (reach, seen) = reach_of(address)?;
        let from = match trust {
            UrlTrust::Operator => return Ok(reach),
            UrlTrust::Followed { from } => from,
            UrlTrust::Discovered => Reach::Public,
        };
        let is_allowed = accept_private.unwrap_or_else(|| self.allowed.iter().any(|network| network.contains(&seen)));
        if reach < from && !is_allowed { Err(AddressFault::Narrower { from, to: reach }) } else { Ok(reach) }
    }
}

/// How far away an address is; with it the address that it stands for, which of a mapped one is the inner one.
fn reach_of(address: IpAddr) -> Result<(Reach, IpAddr), AddressFault> {
    match address {
        IpAddr::V4(inner) => Ok((reach_of_v4(inner)?, address)),
        IpAddr::V6(outer) => match embedded(outer) {
            Some(inner) => Ok((reach_of_v4(inner)?, IpAddr::V4(inner))),
            None => Ok((reach_of_v6(outer)?, address)),
        },
    }
}

/// The address of version 4 within one of version 6 that is carried to it as it is: mapped (RFC 4291 section 2.5.5.2) or by
/// NAT64 under its well-known prefix (RFC 6052).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let is_mapped = [a, b, c, d, e, f] == [0, 0, 0, 0, 0, 0xffff];
    let is_nat64 = [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0];
    (is_mapped || is_nat64).then(|| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

fn reach_of_v4(address: Ipv4Addr) -> Result<Reach, AddressFault> {
    if METADATA_V4.contains(&address) {
        return Err(AddressFault::Metadata);
    }
    match address.octets() {
        [0, ..] => Err(AddressFault::Unspecified),
        [169, 254, ..] => Err(AddressFault::LinkLocal),
        [224..=239, ..] => Err(AddressFault::Multicast),
        // Protocol assignments (Oracle's old metadata service is among them); 6to4 relays; the rest up to broadcast.
        [192, 0, 0, _] | [192, 88, 99, _] | [240..=255, ..] => Err(AddressFault::Reserved),
        [127, ..] => Ok(Reach::Loopback),
        [10, ..] | [100, 64..=127, ..] | [172, 16..=31, ..] | [192, 168, ..] | [198, 18..=19, ..] => Ok(Reach::Private),
        _ => Ok(Reach::Public),
    }
}

fn reach_of_v6(address: Ipv6Addr) -> Result<Reach, AddressFault> {
    if METADATA_V6.contains(&address) {
        return Err(AddressFault::Metadata);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Err(AddressFault::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Ok(Reach::Loopback),
        [0xfe80..=0xfebf, ..] => Err(AddressFault::LinkLocal),
        [0xff00..=0xffff, ..] => Err(AddressFault::Multicast),
        // IPv4-compatible and IPv4-translated, NAT64 of one's own network (its IPv4 part is at no fixed place), discard-only,
        // Teredo, 6to4, site-local: given up, or a way around this very list.
        [0, 0, 0, 0, ..]
        | [0x64, 0xff9b, 1, ..]
        | [0x100, 0, 0, ..]
        | [0x2001, 0, ..]
        | [0x2002, ..]
        | [0xfec0..=0xfeff, ..] => Err(AddressFault::Reserved),
        [0xfc00..=0xfdff, ..] => Ok(Reach::Private),
        _ => Ok(Reach::Public),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(address: &str, trust: UrlTrust) -> Result<Reach, AddressFault> {
        AddressRules::default().judge(address.parse().unwrap(), trust, None)
    }

    /// ATK-37: whoever named it, an operator too.
    #[test]
    fn metadata_link_local_multicast_and_unspecified_addresses_are_refused_in_every_form() {
        let refused = [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "224.0.0.1",
            "239.255.255.250",
            "255.255.255.255",
            "240.0.0.1",
            "192.88.99.1",
            "::",
            "fe80::1",
            "fe80::a9fe:a9fe",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd00:42::42",
            // The same hosts by other names: mapped, compatible, translated, NAT64, 6to4, Teredo.
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b::0.0.0.0",
            "64:ff9b::100.100.100.200",
            "::ffff:100.100.100.200",
            "::ffff:0.0.0.0",
            "::ffff:224.0.0.1",
            "2002:a9fe:a9fe::1",
            "2002:7f00:1::",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "::2",
            "100::1",
        ];
        for address in refused {
            for trust in [UrlTrust::Operator, UrlTrust::Discovered, UrlTrust::Followed { from: Reach::Loopback }] {
                assert!(judged(address, trust).is_err(), "{address} {trust:?}");
            }
            let all = AddressRules::new(vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
            assert!(
                all.judge(address.parse().unwrap(), UrlTrust::Discovered, Some(true)).is_err(),
                "{address}, all allowed"
            );
        }
    }

    #[test]
    fn an_operator_may_name_a_private_address_and_a_stranger_may_not() {
        let narrow = [
            ("127.0.0.1", Reach::Loopback),
            ("127.9.9.9", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("64:ff9b::127.0.0.1", Reach::Loopback),
            ("10.0.0.1", Reach::Private),
            ("172.16.0.1", Reach::Private),
            ("172.31.255.255", Reach::Private),
            ("192.168.1.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("198.18.0.1", Reach::Private),
            ("fd12:3456::1", Reach::Private),
            ("fc00::1", Reach::Private),
            ("::ffff:10.0.0.1", Reach::Private),
            ("64:ff9b::192.168.0.1", Reach::Private),
        ];
        for (address, reach) in narrow {
            assert_eq!(judged(address, UrlTrust::Operator), Ok(reach), "{address}");
            let fault = AddressFault::Narrower { from: Reach::Public, to: reach };
            assert_eq!(judged(address, UrlTrust::Discovered), Err(fault), "{address}");
            assert_eq!(judged(address, UrlTrust::Followed { from: Reach::Public }), Err(fault), "{address}");
        }
        for public in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"]
        {
            assert_eq!(judged(public, UrlTrust::Discovered), Ok(Reach::Public), "{public}");
        }
    }

    #[test]
    fn a_redirect_leads_to_nothing_narrower_than_where_it_came_from() {
        let private = UrlTrust::Followed { from: Reach::Private };
        assert_eq!(judged("10.1.2.3", private), Ok(Reach::Private));
        assert_eq!(judged("8.8.8.8", private), Ok(Reach::Public));
        assert_eq!(
            judged("127.0.0.1", private),
            Err(AddressFault::Narrower { from: Reach::Private, to: Reach::Loopback })
        );
        assert_eq!(judged("127.0.0.1", UrlTrust::Followed { from: Reach::Loopback }), Ok(Reach::Loopback));
    }

    #[test]
    fn an_allowed_network_may_be_reached_from_outside_also_by_its_mapped_form() {
        let rules = AddressRules::new(vec!["10.1.0.0/16".parse().unwrap(), "fd12::/16".parse().unwrap()]);
        let judge = |address: &str| rules.judge(address.parse().unwrap(), UrlTrust::Discovered, None).is_ok();
        assert!(judge("10.1.2.3") && judge("::ffff:10.1.2.3") && judge("64:ff9b::10.1.2.3") && judge("fd12::5"));
        assert!(!judge("10.2.0.1") && !judge("127.0.0.1") && !judge("fd13::5"));
        let of_peer = |address: &str, accept| rules.judge(address.parse().unwrap(), UrlTrust::Discovered, Some(accept));
        assert!(of_peer("10.2.0.1", true).is_ok(), "allowed for this peer");
        assert!(of_peer("10.1.2.3", false).is_err(), "forbidden for this peer");
    }
}
