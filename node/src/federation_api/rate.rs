//! How often one asker may ask: a bucket of tokens each, beside the limits of its address. Those who need not say who they
//! are have buckets apart, so that no number of them takes the room of those who do.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Calls that an asker may make at once after a pause: all nodes of a large peer that start together.
const BURST: f64 = 60.0;

/// Calls a second in the long run. A peer asks once in a refresh hint, or not at all while it watches.
const PER_SECOND: f64 = 2.0;

/// Most askers that are remembered; whoever has not asked for a while is forgotten first. As many as there may be API keys.
const ASKERS_LIMIT: usize = 4_096;

/// When a bucket that was empty is full again: then nothing is lost by forgetting it.
const FULL_AGAIN: Duration = Duration::from_secs(30);

/// Bits of an IPv6 address that tell one site from another: a host can have every address of its network.
const SITE_BITS: u32 = 64;

/// The buckets.
#[derive(Debug, Default)]
pub(super) struct Rates {
    known: Mutex<BTreeMap<String, Bucket>>,
    anonymous: Mutex<BTreeMap<IpAddr, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Rates {
    /// Whether this asker, who has proved who it is, may ask once more now.
    pub(super) fn admits(&self, asker: &str) -> bool {
        take(&mut self.known.lock(), asker.to_owned())
    }

    /// Whether somebody at this address, who need not say who it is, may ask once more now.
    pub(super) fn admits_anonymous(&self, address: IpAddr) -> bool {
        let site = match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> SITE_BITS << SITE_BITS)),
            v4 @ IpAddr::V4(_) => v4,
        };
        take(&mut self.anonymous.lock(), site)
    }
}

fn take<K: Ord>(buckets: &mut BTreeMap<K, Bucket>, asker: K) -> bool {
    let now = Instant::now();
    if !buckets.contains_key(&asker) && buckets.len() >= ASKERS_LIMIT {
        buckets.retain(|_, bucket| now.duration_since(bucket.at) < FULL_AGAIN);
        if buckets.len() >= ASKERS_LIMIT {
            return false;
        }
    }
    let bucket = buckets.entry(asker).or_insert(Bucket { tokens: BURST, at: now });
    let earned = now.duration_since(bucket.at).as_secs_f64() * PER_SECOND;
    bucket.tokens = (bucket.tokens + earned).min(BURST);
    bucket.at = now;
    let is_admitted = bucket.tokens >= 1.0;
    if is_admitted {
        bucket.tokens -= 1.0;
    }
    is_admitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_asker_that_asks_too_often_waits_and_others_do_not() {
        let rates = Rates::default();
        let burst = (0..1_000).take_while(|_| rates.admits("a")).count();
        assert_eq!(burst, 60);
        assert!(rates.admits("b"));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(rates.admits("a") && !rates.admits("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn askers_are_forgotten_and_never_too_many() {
        let rates = Rates::default();
        assert!((0..ASKERS_LIMIT).all(|number| rates.admits(&number.to_string())));
        assert!(!rates.admits("one more") && rates.admits("0"));
        tokio::time::advance(FULL_AGAIN).await;
        assert!(rates.admits("one more"));
        assert_eq!(rates.known.lock().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_of_ipv6_is_one_asker_and_strangers_never_take_the_room_of_those_who_are_known() {
        let rates = Rates::default();
        let of = |high: u128, low: u128| IpAddr::V6(Ipv6Addr::from_bits((high << SITE_BITS) | low));
        let burst = (0..1_000).take_while(|host| rates.admits_anonymous(of(1, *host))).count();
        assert_eq!(burst, 60);
        (2..=u128::try_from(ASKERS_LIMIT).unwrap()).for_each(|site| assert!(rates.admits_anonymous(of(site, 0))));
        assert!(!rates.admits_anonymous(IpAddr::from([192, 0, 2, 1])) && rates.admits("a peer"));
    }
}
