//! How many connections strangers may hold, and how often one address may ask.
//!
//! A flood comes from few addresses or from many. From few, it meets their own limits. From many, it meets the limit of all,
//! and there the connection that has been idle longest makes room: whoever asks and goes always gets in.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::ServerLimits;
use crate::metrics::CONNECTIONS;

/// Of the connections of a server, the part that one address may have: a quarter. Four have to work together before anybody
/// else is kept waiting.
const ORIGIN_PART: usize = 4;

/// Seconds' worth of requests that may come at once: clients of one site that start together.
const BURST_SECONDS: u32 = 10;

/// Addresses that are kept account of at most; some 100 bytes each. Beyond it, those that are new share one account.
const ORIGINS_LIMIT: usize = 16_384;

/// How often accounts that are as good as new are looked for, when there is no room for another. A look goes through all of
/// them, and whoever dials from ever new addresses must not cause one for each.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Bits of an IPv6 address that tell one site from another: a host can have every address of its network.
const SITE_BITS: u32 = 64;

/// Whom limits are kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// An IPv4 address, or the first 64 bits of an IPv6 address with zeros behind.
    Address(IpAddr),
    /// All that a proxy of ours passes on.
    Proxy,
    /// All that there was no account left for.
    Others,
}

impl Origin {
    /// The account of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let site = v6.to_bits() >> SITE_BITS << SITE_BITS;
                Self::Address(IpAddr::V6(Ipv6Addr::from_bits(site)))
            }
            v4 @ IpAddr::V4(_) => Self::Address(v4),
        }
    }
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The server has as many as it may, and none is idle.
    Full,
    /// This address has.
    OriginFull,
    /// This address asks too often.
    Rate,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the limit of connections is reached",
            Self::OriginFull => "this address has as many connections as it may",
            Self::Rate => "this address asks too often",
        })
    }
}

/// The limits of one server, and who holds how much of them.
#[derive(Debug)]
pub(super) struct Admission {
    listener: &'static str,
    limits: ServerLimits,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    connections: HashMap<u64, Arc<Activity>>,
    held: HashMap<Origin, usize>,
    accounts: HashMap<Origin, Account>,
    /// When accounts were looked through last.
    swept: Option<Instant>,
}

/// What is left to an address, and when that was reckoned.
#[derive(Debug, Clone, Copy)]
struct Account {
    left: f64,
    at: Instant,
}

impl Account {
    /// Takes one request out, if there is one.
    fn take(&mut self, now: Instant, rate: u32) -> bool {
        let rate = f64::from(rate);
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        self.left = (self.left + gained).min(rate * f64::from(BURST_SECONDS));
        self.at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }

    /// Whether it is as good as new, so that nothing is lost with it.
    fn is_full(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= Duration::from_secs(u64::from(BURST_SECONDS))
    }
}

impl Admission {
    pub(super) fn new(listener: &'static str, limits: ServerLimits) -> Arc<Self> {
        Arc::new(Self { listener, limits, table: Mutex::default() })
    }

    /// Counts a new connection. It is the first request of its address at the same time: handshakes cost more than answers.
    pub(super) fn admit(self: &Arc<Self>, origin: Origin) -> Result<Place, Refused> {
        let most = self.limits.max_connections;
        let mut table = self.table.lock();
        if !table.take(origin, self.limits.requests_per_second) {
            return Err(Refused::Rate);
        }
        let held = table.held.get(&origin).copied().unwrap_or(0);
        if origin != Origin::Proxy && held >= (most / ORIGIN_PART).max(1) {
            return Err(Refused::OriginFull);
        }
        if table.connections.len() >= most && !table.make_room() {
            return Err(Refused::Full);
        }
        let number = table.next;
        table.next = number.wrapping_add(1);
        let activity = Arc::new(Activity::new());
        table.connections.insert(number, Arc::clone(&activity));
        *table.held.entry(origin).or_default() += 1;
        self.show(&table);
        Ok(Place { admission: Arc::clone(self), origin, number, activity })
    }

    fn show(&self, table: &Table) {
        metrics::gauge!(CONNECTIONS, "listener" => self.listener).set(table.connections.len() as f64);
    }
}

impl Table {
    fn take(&mut self, origin: Origin, rate: u32) -> bool {
        if origin == Origin::Proxy {
            return true;
        }
        let now = Instant::now();
        let mut origin = origin;
        if !self.accounts.contains_key(&origin) && self.accounts.len() >= ORIGINS_LIMIT {
            if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_EVERY) {
                self.swept = Some(now);
                self.accounts.retain(|_, account| !account.is_full(now));
            }
            if self.accounts.len() >= ORIGINS_LIMIT {
                origin = Origin::Others;
            }
        }
        let new = Account { left: f64::from(rate) * f64::from(BURST_SECONDS), at: now };
        self.accounts.entry(origin).or_insert(new).take(now, rate)
    }

    /// Asks the connection that has been idle longest to go; its place counts as free at once.
    fn make_room(&mut self) -> bool {
        let idle = self.connections.iter().filter_map(|(number, activity)| Some((activity.idle_since()?, *number)));
        let Some((_, number)) = idle.min() else { return false };
        if let Some(activity) = self.connections.remove(&number) {
            activity.evicted.notify_one();
        }
        true
    }
}

/// A counted connection, until dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    origin: Origin,
    number: u64,
    activity: Arc<Activity>,
}

impl Place {
    /// What goes on on the connection.
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Whether this address may ask once more now. The first request of a connection was paid for with it.
    pub(super) fn may_ask(&self) -> bool {
        let is_first = self.activity.requests() == 0;
        let rate = self.admission.limits.requests_per_second;
        is_first || self.admission.table.lock().take(self.origin, rate)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.admission.table.lock();
        table.connections.remove(&self.number);
        if let Some(held) = table.held.get_mut(&self.origin) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                table.held.remove(&self.origin);
            }
        }
        self.admission.show(&table);
    }
}

/// What goes on on one connection.
#[derive(Debug)]
pub(super) struct Activity {
    now: Mutex<Doing>,
    changed: Notify,
    evicted: Notify,
}

#[derive(Debug)]
struct Doing {
    /// When each request began whose answer has not been sent whole, or when the last piece of it went that goes on for
    /// ever, by its number. There are as many at most as a connection has streams.
    in_flight: BTreeMap<u64, Instant>,
    /// Requests so far.
    requests: u64,
    /// When the last request began or the last answer ended.
    since: Instant,
}

/// How long a connection may go on as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until the first request, from the beginning, the handshake included.
    pub(super) first: Duration,
    /// Without a request.
    pub(super) idle: Duration,
    /// For one answer; for each piece of one that goes on for ever. It is the oldest one that counts: whoever takes none of
    /// it wins no time by asking for others.
    pub(super) answer: Option<Duration>,
}

impl Activity {
    fn new() -> Self {
        Self {
            now: Mutex::new(Doing { in_flight: BTreeMap::new(), requests: 0, since: Instant::now() }),
            changed: Notify::new(),
            evicted: Notify::new(),
        }
    }

    fn requests(&self) -> u64 {
        self.now.lock().requests
    }

    fn idle_since(&self) -> Option<Instant> {
        let now = self.now.lock();
        now.in_flight.is_empty().then_some(now.since)
    }

    /// Notes a request; its answer is on its way until what is given back is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        let mut now = self.now.lock();
        let number = now.requests;
        now.requests = number.saturating_add(1);
        now.since = Instant::now();
        let begun = now.since;
        now.in_flight.insert(number, begun);
        drop(now);
        self.changed.notify_one();
        InFlight { of: Arc::clone(self), number }
    }

    /// Waits until the connection has to make room for another.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Waits until patience is over.
    pub(super) async fn too_long(&self, patience: Patience) {
        loop {
            let deadline = self.now.lock().deadline(patience);
            let changed = self.changed.notified();
            match deadline {
                Some(deadline) if tokio::time::timeout_at(deadline, changed).await.is_err() => {
                    // What happened in the same instant is looked at once more.
                    if self.now.lock().deadline(patience) == Some(deadline) {
                        return;
                    }
                }
                Some(_) => {}
                None => self.changed.notified().await,
            }
        }
    }
}

impl Doing {
    /// When patience ends if nothing more happens; never while answers may take for ever.
    fn deadline(&self, patience: Patience) -> Option<Instant> {
        match self.in_flight.values().min() {
            Some(begun) => patience.answer.map(|limit| *begun + limit),
            None if self.requests == 0 => Some(self.since + patience.first),
            None => Some(self.since + patience.idle),
        }
    }
}

/// A request whose answer is under way, until dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    of: Arc<Activity>,
    number: u64,
}

impl InFlight {
    /// A piece of an answer that goes on for ever was taken: the next one has its own time.
    pub(super) fn renew(&self) {
        if let Some(begun) = self.of.now.lock().in_flight.get_mut(&self.number) {
            *begun = Instant::now();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut now = self.of.now.lock();
        now.in_flight.remove(&self.number);
        now.since = Instant::now();
        drop(now);
        self.of.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(max_connections: usize, requests_per_second: u32) -> Arc<Admission> {
        Admission::new("test", ServerLimits { max_connections, requests_per_second })
    }

    fn from(last: u8) -> Origin {
        Origin::of(IpAddr::from([192, 0, 2, last]))
    }

    #[tokio::test]
    async fn one_address_gets_a_quarter_and_a_network_of_ipv6_is_one_address() {
        let admission = admission(8, 1000);
        let held = [admission.admit(from(1)).unwrap(), admission.admit(from(1)).unwrap()];
        assert_eq!(admission.admit(from(1)).unwrap_err(), Refused::OriginFull);
        let _other = admission.admit(from(2)).unwrap();
        drop(held);
        admission.admit(from(1)).unwrap();
        let of = |text: &str| Origin::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("::ffff:192.0.2.1"), from(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_idle_longest_makes_room_and_who_is_answered_does_not() {
        let admission = admission(4, 1000);
        let places: Vec<Place> = (1..=4)
            .map(|last| {
                let place = admission.admit(from(last)).unwrap();
                place.activity().now.lock().since += Duration::from_millis(u64::from(last));
                place
            })
            .collect();
        let busy = places[0].activity().begin();
        let _fifth = admission.admit(from(5)).unwrap();
        places[1].activity().evicted().await;
        let all: Vec<InFlight> = places[2..].iter().map(|place| place.activity().begin()).collect();
        let sixth = admission.admit(from(6)).unwrap();
        let _busy_too = sixth.activity().begin();
        assert_eq!(admission.admit(from(7)).unwrap_err(), Refused::Full);
        drop((busy, all));
        admission.admit(from(7)).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_asks_too_often_waits_and_another_does_not() {
        let admission = admission(1000, 2);
        let place = admission.admit(from(1)).unwrap();
        assert!(place.may_ask(), "the first one was paid for");
        drop(place.activity().begin());
        let asked = (0..100).filter(|_| place.may_ask()).count();
        assert_eq!(asked, 19, "ten seconds' worth, and one was the connection");
        assert_eq!(admission.admit(from(1)).unwrap_err(), Refused::Rate);
        admission.admit(from(2)).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(place.may_ask() && place.may_ask() && !place.may_ask());
    }

    #[tokio::test(start_paused = true)]
    async fn accounts_are_bounded_and_what_is_full_again_makes_room() {
        let admission = admission(100_000, 1);
        let many = |network: u8| {
            (0..ORIGINS_LIMIT).for_each(|number| {
                let [.., high, low] = u32::try_from(number).unwrap().to_be_bytes();
                let origin = Origin::of(IpAddr::from([10, network, high, low]));
                drop(admission.admit(origin));
            });
        };
        many(1);
        let swept = admission.table.lock().swept;
        many(2);
        assert!(admission.table.lock().accounts.len() <= ORIGINS_LIMIT + 1);
        assert!(
            swept.is_none() && admission.table.lock().swept == Some(Instant::now()),
            "looked through once, not each time"
        );
        tokio::time::advance(Duration::from_secs(11)).await;
        admission.admit(from(1)).unwrap();
        assert!(admission.table.lock().accounts.len() <= 2);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_for_who_never_asks_who_is_idle_and_who_takes_no_answer() {
        let patience = Patience {
            first: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            answer: Some(Duration::from_secs(30)),
        };
        let took = |activity: Arc<Activity>| async move {
            let before = Instant::now();
            activity.too_long(patience).await;
            before.elapsed().as_secs()
        };
        let silent = Arc::new(Activity::new());
        assert_eq!(took(Arc::clone(&silent)).await, 5);
        let answer = silent.begin();
        assert_eq!(took(Arc::clone(&silent)).await, 30);
        drop(answer);
        assert_eq!(took(silent).await, 60);
    }

    /// HTTP/2: a stream whose window stays closed is not kept open by requests on others.
    #[tokio::test(start_paused = true)]
    async fn who_takes_no_answer_wins_no_time_by_asking_for_more() {
        let limit = Duration::from_secs(30);
        let patience = Patience { first: limit, idle: limit, answer: Some(limit) };
        let activity = Arc::new(Activity::new());
        let _never_taken = activity.begin();
        let begun = Instant::now();
        let others = async {
            loop {
                tokio::time::sleep(Duration::from_secs(7)).await;
                drop(activity.begin());
            }
        };
        tokio::select! {
            () = activity.too_long(patience) => {}
            () = others => {}
        }
        assert_eq!(begun.elapsed(), limit);
    }

    /// A watch lasts for days, and one that nobody reads does not.
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_goes_on_has_its_time_from_its_last_piece() {
        let limit = Duration::from_secs(30);
        let patience = Patience { first: limit, idle: limit, answer: Some(limit) };
        let activity = Arc::new(Activity::new());
        let watch = activity.begin();
        let begun = Instant::now();
        let pieces = async {
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                watch.renew();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = activity.too_long(patience) => {}
            () = pieces => {}
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(100 * 20) + limit);
    }
}
