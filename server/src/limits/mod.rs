//! How often something may be tried, by whom.
//!
//! Owns the limiters and their memory; [`Rules`] is the table of what is allowed, [`address`] tells who is asking.
//! Knows nothing about requests and accounts: it is asked with an action and the keys of whoever does it.
//!
//! Limiters live in this process. With several replicas a caller gets the allowance of each.

pub mod address;
mod bounded;
mod quota;
mod rules;

pub use quota::Quotas;
pub use rules::{Action, Rules, Who};

use crate::edges::Edges;
use bounded::BoundedStore;
use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::{Quota, RateLimiter};
use selkie_protocol::id::DeviceId;
use selkie_protocol::name::LoginName;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// Whoever does something, in one of the ways in which they can be told apart.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    /// The network address, as [`address::real_address`] found it.
    Address(IpAddr),
    /// A login name within a tenant, whether or not there is such an account.
    LoginName {
        tenant: i64,
        name: &'a LoginName,
    },
    Account(Uuid),
    Device(DeviceId),
    Tenant(i64),
}

/// How many times more than the table a plan allows, for accounts, devices and tenants. A power of two up to 64.
/// Strangers, and whatever protects from guessing, have [`PlanFactor::ONE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanFactor(u8);

/// What is left of the tightest limit that applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How many can be done at once when nothing was done for a while.
    pub limit: u32,
    /// How many of these are left.
    pub remaining: u32,
    /// Seconds until all of them are back.
    pub reset: u64,
}

/// Too many. Which limit it was is for our own metrics only: all refusals look the same from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Seconds to wait, at least one.
    pub retry_after: u64,
    pub action: Action,
    pub who: Who,
}

/// All limiters of this process.
pub struct Limits {
    buckets: Vec<Bucket>,
    clock: SteadyClock,
    hasher: RandomState,
    max_keys: usize,
}

/// One limit of the table; a limiter of it for each plan factor, made when first needed.
struct Bucket {
    action: Action,
    who: Who,
    quota: Quota,
    by_factor: [OnceLock<Limiter>; FACTORS],
}

struct Limiter {
    limiter: RateLimiter<u64, BoundedStore, SteadyClock, StateInformationMiddleware>,
    memory: BoundedStore,
}

const FACTORS: usize = 7;

/// Keys that one limiter remembers, at some 40 bytes each. Past it newcomers share a few buckets until old keys expire.
const MAX_KEYS: usize = 100_000;

impl Limits {
    pub fn new(rules: &Rules, edges: &Edges) -> Self {
        Self::with_max_keys(rules, edges, MAX_KEYS)
    }

    fn with_max_keys(rules: &Rules, edges: &Edges, max_keys: usize) -> Self {
        let mut buckets = Vec::new();
        for (action, who, quotas) in rules.table() {
            buckets.extend(quotas.to_governor().map(|quota| Bucket {
                action,
                who,
                quota,
                by_factor: Default::default(),
            }));
        }
        Limits { buckets, clock: SteadyClock::new(edges), hasher: RandomState::new(), max_keys }
    }

    /// Counts one action against every key it has a limit for. Addresses are asked first: whoever floods from one
    /// address uses up their own allowance before anybody else's.
    pub fn check(&self, action: Action, keys: &[Key<'_>], plan: PlanFactor) -> Result<Option<Standing>, Refused> {
        let mut tightest: Option<Standing> = None;
        for bucket in self.buckets.iter().filter(|bucket| bucket.action == action) {
            for key in keys.iter().filter(|key| key.who() == bucket.who) {
                let standing = self.count(bucket, key, plan)?;
                if tightest.is_none_or(|so_far| standing.remaining < so_far.remaining) {
                    tightest = Some(standing);
                }
            }
        }
        Ok(tightest)
    }

    /// Takes back what [`check`](Self::check) counted, for an action that turned out to be what it should be. Only
    /// login names are forgiven: addresses are counted for the work they cause, right or wrong.
    pub fn forgive(&self, action: Action, key: &Key<'_>) {
        for bucket in self.buckets.iter().filter(|bucket| bucket.action == action) {
            if bucket.who == Who::LoginName && key.who() == Who::LoginName {
                let one_action = Nanos::from(bucket.quota.replenish_interval());
                let limiter = self.limiter(bucket, PlanFactor::ONE);
                limiter.memory.forgive(self.hasher.hash_one(key.canonical()), one_action);
            }
        }
    }

    fn count(&self, bucket: &Bucket, key: &Key<'_>, plan: PlanFactor) -> Result<Standing, Refused> {
        let limiter = self.limiter(bucket, if bucket.who.depends_on_plan() { plan } else { PlanFactor::ONE });
        match limiter.limiter.check_key(&self.hasher.hash_one(key.canonical())) {
            Ok(state) => {
                let (quota, remaining) = (state.quota(), state.remaining_burst_capacity());
                let limit = quota.burst_size().get();
                let refill = quota.replenish_interval().saturating_mul(limit.saturating_sub(remaining));
                Ok(Standing { limit, remaining, reset: whole_seconds(refill) })
            }
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.clock.now());
                Err(Refused { retry_after: whole_seconds(wait).max(1), action: bucket.action, who: bucket.who })
            }
        }
    }

    fn limiter<'b>(&self, bucket: &'b Bucket, plan: PlanFactor) -> &'b Limiter {
        bucket.by_factor[usize::from(plan.0)].get_or_init(|| {
            let factor = 1u32 << plan.0;
            let interval = (bucket.quota.replenish_interval() / factor).max(Duration::from_nanos(1));
            let burst =
                bucket.quota.burst_size().saturating_mul(factor.try_into().expect("a power of two is not zero"));
            let quota = Quota::with_period(interval).expect("at least a nanosecond").allow_burst(burst);
            let memory = BoundedStore::new(self.max_keys);
            Limiter { limiter: RateLimiter::new(quota, memory.clone(), self.clock.clone()), memory }
        })
    }

    /// Forgets everybody whose allowance is whole again. To be called every few seconds.
    pub fn sweep(&self) {
        for limiter in self.limiters() {
            limiter.limiter.retain_recent();
            limiter.limiter.shrink_to_fit();
        }
    }

    /// How many keys are remembered in all, for the metrics.
    pub fn remembered_keys(&self) -> usize {
        self.limiters().map(|limiter| limiter.limiter.len()).sum()
    }

    fn limiters(&self) -> impl Iterator<Item = &Limiter> {
        self.buckets.iter().flat_map(|bucket| &bucket.by_factor).filter_map(OnceLock::get)
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").field("remembered_keys", &self.remembered_keys()).finish_non_exhaustive()
    }
}

impl Key<'_> {
    fn who(&self) -> Who {
        match self {
            Key::Address(_) => Who::Address,
            Key::LoginName { .. } => Who::LoginName,
            Key::Account(_) => Who::Account,
            Key::Device(_) => Who::Device,
            Key::Tenant(_) => Who::Tenant,
        }
    }

    /// What is hashed. An IPv6 address counts by its /64, which is what one customer is given.
    fn canonical(&self) -> (i64, &[u8], [u8; 16]) {
        const NOTHING: &[u8] = &[];
        match self {
            Key::Address(address) => match address.to_canonical() {
                IpAddr::V4(v4) => (0, NOTHING, v4.to_ipv6_mapped().octets()),
                IpAddr::V6(v6) => (0, NOTHING, (u128::from(v6) >> 64 << 64).to_be_bytes()),
            },
            Key::LoginName { tenant, name } => (*tenant, name.as_str().as_bytes(), [0; 16]),
            Key::Account(id) => (0, NOTHING, id.into_bytes()),
            Key::Device(id) => (0, NOTHING, id.0),
            Key::Tenant(tenant) => (*tenant, NOTHING, [0; 16]),
        }
    }
}

/// A key names people: it shows only its kind.
impl std::fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key::{:?}(***)", self.who())
    }
}

impl PlanFactor {
    pub const ONE: PlanFactor = PlanFactor(0);

    /// As a plan says it: 100 is the table itself.
    pub fn of_percent(percent: i32) -> Self {
        Self::times(u32::try_from(percent).unwrap_or(100).div_ceil(100))
    }

    /// How many times the table this is.
    pub fn as_times(self) -> u32 {
        1 << self.0
    }

    /// At least so many times the table; rounded up to a power of two, and at most 64.
    pub fn times(factor: u32) -> Self {
        let exponent = factor.clamp(1, 1 << (FACTORS - 1)).next_power_of_two().trailing_zeros();
        PlanFactor(u8::try_from(exponent).expect("at most six"))
    }
}

impl Standing {
    pub fn headers(&self) -> [(&'static str, String); 3] {
        [
            ("RateLimit-Limit", self.limit.to_string()),
            ("RateLimit-Remaining", self.remaining.to_string()),
            ("RateLimit-Reset", self.reset.to_string()),
        ]
    }
}

impl Refused {
    /// Says to the metrics, and to nobody else, which limit it was.
    pub fn note(&self) {
        let labels = [("action", self.action.word()), ("who", self.who.word())];
        metrics::counter!("selkie_refused_total", &labels).increment(1);
    }

    /// The same three for every refusal; the limit itself is left out, since it would tell which one it was.
    pub fn headers(&self) -> [(&'static str, String); 3] {
        let wait = self.retry_after.to_string();
        [("Retry-After", wait.clone()), ("RateLimit-Remaining", "0".into()), ("RateLimit-Reset", wait)]
    }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Our clock, made to run forwards only. The machine's clock can be set back, and a limiter that saw the future would
/// refuse everybody until it comes.
#[derive(Clone)]
struct SteadyClock {
    edges: Edges,
    hands: Arc<Mutex<Hands>>,
}

struct Hands {
    last_seen_ms: i64,
    elapsed: Nanos,
}

impl SteadyClock {
    fn new(edges: &Edges) -> Self {
        let hands = Hands { last_seen_ms: edges.now_ms(), elapsed: Nanos::new(0) };
        SteadyClock { edges: edges.clone(), hands: Arc::new(Mutex::new(hands)) }
    }
}

impl Clock for SteadyClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        // Two integers that are always consistent: a panic elsewhere cannot have spoiled them.
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = self.edges.now_ms();
        let step_ms = u64::try_from(now_ms.saturating_sub(hands.last_seen_ms)).unwrap_or(0);
        hands.last_seen_ms = now_ms;
        hands.elapsed = hands.elapsed + Nanos::from(Duration::from_millis(step_ms));
        hands.elapsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges;
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[derive(Debug, Default)]
    struct Watch(AtomicI64);

    impl Watch {
        fn advance(&self, by: Duration) {
            self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
        }
    }

    impl edges::Clock for Watch {
        fn now_ms(&self) -> i64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// Limits with a clock that we wind.
    fn limits(rules: &Rules, max_keys: usize) -> (Limits, Arc<Watch>) {
        let watch = Arc::new(Watch(AtomicI64::new(1_700_000_000_000)));
        let edges = Edges { clock: watch.clone(), dice: Edges::real().dice };
        (Limits::with_max_keys(rules, &edges, max_keys), watch)
    }

    fn address(text: &str) -> Key<'static> {
        Key::Address(text.parse().unwrap())
    }

    /// How often something is let through in a row.
    fn in_a_row(limits: &Limits, action: Action, keys: &[Key<'_>]) -> usize {
        std::iter::from_fn(|| limits.check(action, keys, PlanFactor::ONE).ok()).take(100_000).count()
    }

    #[test]
    fn a_login_name_has_ten_tries_then_one_in_half_a_minute() {
        let (limits, watch) = limits(&Rules::default(), MAX_KEYS);
        let name = LoginName::new("ana@example.org").unwrap();
        let key = [Key::LoginName { tenant: 1, name: &name }];
        assert_eq!(in_a_row(&limits, Action::SignIn, &key), 10);
        assert_eq!(limits.check(Action::SignIn, &key, PlanFactor::ONE).unwrap_err().retry_after, 30);
        watch.advance(29 * SECOND);
        assert_eq!(limits.check(Action::SignIn, &key, PlanFactor::ONE).unwrap_err().retry_after, 1);
        watch.advance(SECOND);
        assert_eq!(in_a_row(&limits, Action::SignIn, &key), 1);

        let elsewhere = [Key::LoginName { tenant: 2, name: &name }];
        assert_eq!(
            in_a_row(&limits, Action::SignIn, &elsewhere),
            10,
            "the same name at another tenant is somebody else"
        );
    }

    #[test]
    fn a_login_name_has_a_hundred_tries_in_any_day_however_they_are_spread() {
        let (limits, watch) = limits(&Rules::default(), MAX_KEYS);
        let name = LoginName::new("ana@example.org").unwrap();
        let key = [Key::LoginName { tenant: 1, name: &name }];
        let (mut today, mut most) = (VecDeque::new(), 0);
        for second in 0..3 * 86_400 {
            if limits.check(Action::SignIn, &key, PlanFactor::ONE).is_ok() {
                today.push_back(second);
            }
            while today.front().is_some_and(|then| *then <= second - 86_400) {
                today.pop_front();
            }
            most = most.max(today.len());
            watch.advance(SECOND);
        }
        assert!((99..=100).contains(&most), "{most} in a day");
    }

    #[test]
    fn an_address_has_thirty_sign_ins_a_minute() {
        let (limits, watch) = limits(&Rules::default(), MAX_KEYS);
        assert_eq!(in_a_row(&limits, Action::SignIn, &[address("192.0.2.1")]), 30);
        assert_eq!(in_a_row(&limits, Action::SignIn, &[address("192.0.2.2")]), 30);
        watch.advance(10 * SECOND);
        assert_eq!(in_a_row(&limits, Action::SignIn, &[address("192.0.2.1")]), 5);
    }

    #[test]
    fn an_address_counts_as_what_one_customer_is_given() {
        let (limits, _) = limits(&Rules::default(), MAX_KEYS);
        assert_eq!(in_a_row(&limits, Action::SignIn, &[address("2001:db8:1:2::1")]), 30);
        assert_eq!(in_a_row(&limits, Action::SignIn, &[address("2001:db8:1:2:ffff::9")]), 0, "the same /64");
        assert_eq!(in_a_row(&limits, Action::SignIn, &[address("2001:db8:1:3::1")]), 30, "the next /64");
        assert_eq!(in_a_row(&limits, Action::SignIn, &[address("192.0.2.1")]), 30);
        assert_eq!(in_a_row(&limits, Action::SignIn, &[address("::ffff:192.0.2.1")]), 0, "the same in IPv6 clothes");
        assert_eq!(in_a_row(&limits, Action::SignIn, &[address("::ffff:192.0.2.2")]), 30);
    }

    #[test]
    fn a_flooding_address_does_not_use_up_the_name_it_floods() {
        let (limits, _) = limits(&Rules::default(), MAX_KEYS);
        let (ana, other) = (LoginName::new("ana").unwrap(), LoginName::new("other").unwrap());
        let flood = address("192.0.2.1");
        assert_eq!(in_a_row(&limits, Action::SignIn, &[flood]), 30);
        for _ in 0..1000 {
            // Whichever way round the keys are given.
            let refused =
                limits.check(Action::SignIn, &[Key::LoginName { tenant: 1, name: &ana }, flood], PlanFactor::ONE);
            assert_eq!(refused.unwrap_err().who, Who::Address);
        }
        assert_eq!(
            in_a_row(&limits, Action::SignIn, &[Key::LoginName { tenant: 1, name: &ana }, address("192.0.2.2")]),
            10
        );
        assert_eq!(in_a_row(&limits, Action::SignIn, &[Key::LoginName { tenant: 1, name: &other }]), 10);
    }

    #[test]
    fn a_plan_allows_accounts_more_and_addresses_the_same() {
        let (limits, _) = limits(&Rules::default(), MAX_KEYS);
        let account = Key::Account(Uuid::from_u128(1));
        let in_a_row = |action, key, plan| std::iter::from_fn(|| limits.check(action, &[key], plan).ok()).count();
        assert_eq!(in_a_row(Action::Link, account, PlanFactor::times(4)), 120);
        assert_eq!(in_a_row(Action::Link, Key::Account(Uuid::from_u128(2)), PlanFactor::ONE), 30);
        assert_eq!(in_a_row(Action::Link, address("192.0.2.1"), PlanFactor::times(4)), 60);
        assert_eq!([100, 150, 400, 6400].map(|percent| PlanFactor::of_percent(percent).as_times()), [1, 2, 4, 64]);
        let rounded = [0, 1, 2, 3, 64, 1000, u32::MAX].map(PlanFactor::times);
        assert_eq!(rounded.map(|factor| 1 << factor.0), [1, 1, 2, 4, 64, 64, 64]);
    }

    #[test]
    fn the_headers_tell_what_is_left_and_a_refusal_not_of_what() {
        let (limits, watch) = limits(&Rules::default(), MAX_KEYS);
        let name = LoginName::new("ana").unwrap();
        let keys = [address("192.0.2.1"), Key::LoginName { tenant: 1, name: &name }];
        let standing = limits.check(Action::SignIn, &keys, PlanFactor::ONE).unwrap().unwrap();
        assert_eq!(standing, Standing { limit: 10, remaining: 9, reset: 30 }, "the tightest of three");
        assert_eq!(standing.headers()[1], ("RateLimit-Remaining", "9".to_owned()));
        in_a_row(&limits, Action::SignIn, &keys);
        watch.advance(Duration::from_millis(500));
        let refused = limits.check(Action::SignIn, &keys, PlanFactor::ONE).unwrap_err();
        assert_eq!(refused.headers()[0], ("Retry-After", "30".to_owned()), "half a second is a second to wait");
        assert!(refused.headers().iter().all(|(name, _)| *name != "RateLimit-Limit"));
    }

    #[test]
    fn what_is_off_or_not_in_the_table_is_not_limited() {
        let rules = Rules { sign_in_per_address: "off".parse().unwrap(), ..Rules::default() };
        let (limits, _) = limits(&rules, MAX_KEYS);
        assert_eq!(in_a_row(&limits, Action::SignIn, &[address("192.0.2.1")]), 100_000);
        assert_eq!(limits.check(Action::SignIn, &[Key::Tenant(1)], PlanFactor::ONE), Ok(None));
        assert_eq!(limits.check(Action::SignIn, &[], PlanFactor::ONE), Ok(None));
    }

    #[test]
    fn a_clock_that_is_set_back_refuses_nobody_for_longer() {
        let (limits, watch) = limits(&Rules::default(), MAX_KEYS);
        assert_eq!(in_a_row(&limits, Action::SignIn, &[address("192.0.2.1")]), 30);
        watch.0.fetch_sub(86_400_000, Ordering::Relaxed);
        assert_eq!(in_a_row(&limits, Action::SignIn, &[address("192.0.2.1")]), 0);
        watch.advance(60 * SECOND);
        assert_eq!(in_a_row(&limits, Action::SignIn, &[address("192.0.2.1")]), 30);
    }

    #[test]
    fn a_million_addresses_are_not_remembered() {
        let (limits, watch) = limits(&Rules::default(), MAX_KEYS);
        let known = address("192.0.2.1");
        assert_eq!(in_a_row(&limits, Action::SignIn, &[known]), 30);
        let mut let_through = 0u32;
        for i in 0..1_000_000u128 {
            let newcomer = Key::Address(IpAddr::V6((0x2001_0db8u128 << 96 | i << 64).into()));
            let_through += u32::from(limits.check(Action::SignIn, &[newcomer], PlanFactor::ONE).is_ok());
        }
        let (keys, overflow) = (limits.remembered_keys(), u32::try_from(bounded::SHARDS).unwrap() * 30);
        assert!((MAX_KEYS * 99 / 100..=MAX_KEYS + bounded::SHARDS).contains(&keys), "{keys} keys");
        // All that there was no room for shared a few buckets of the same size.
        assert_eq!(let_through + 1, u32::try_from(keys).unwrap() + overflow);
        assert_eq!(in_a_row(&limits, Action::SignIn, &[known]), 0, "who was known before is still known");

        watch.advance(120 * SECOND);
        limits.sweep();
        assert_eq!(limits.remembered_keys(), 0);
        assert_eq!(in_a_row(&limits, Action::SignIn, &[address("198.51.100.1")]), 30, "newcomers have their own again");
    }

    #[test]
    fn a_sweep_forgets_nobody_who_still_has_to_wait() {
        let (limits, watch) = limits(&Rules::default(), MAX_KEYS);
        let name = LoginName::new("ana").unwrap();
        let key = [Key::LoginName { tenant: 1, name: &name }];
        assert_eq!(in_a_row(&limits, Action::SignIn, &key), 10);
        watch.advance(29 * SECOND);
        limits.sweep();
        assert_eq!(in_a_row(&limits, Action::SignIn, &key), 0);
    }

    #[test]
    fn a_key_does_not_show_whom_it_names() {
        assert_eq!(format!("{:?}", address("192.0.2.1")), "Key::Address(***)");
    }
}
