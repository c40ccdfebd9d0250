//! How often one asker may ask: a bucket of tokens each, beside the limits of its address.

use std::collections::BTreeMap;
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

/// The buckets.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<BTreeMap<String, Bucket>>);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Rates {
    /// Whether this asker may ask once more now.
    pub(super) fn admits(&self, asker: &str) -> bool {
        let now = Instant::now();
        let mut buckets = self.0.lock();
        if !buckets.contains_key(asker) && buckets.len() >= ASKERS_LIMIT {
            buckets.retain(|_, bucket| now.duration_since(bucket.at) < FULL_AGAIN);
            if buckets.len() >= ASKERS_LIMIT {
                return false;
            }
        }
        let bucket = buckets.entry(asker.to_owned()).or_insert(Bucket { tokens: BURST, at: now });
        let earned = now.duration_since(bucket.at).as_secs_f64() * PER_SECOND;
        bucket.tokens = (bucket.tokens + earned).min(BURST);
        bucket.at = now;
        let is_admitted = bucket.tokens >= 1.0;
        if is_admitted {
            bucket.tokens -= 1.0;
        }
        is_admitted
    }
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
        assert_eq!(rates.0.lock().len(), 1);
    }
}
