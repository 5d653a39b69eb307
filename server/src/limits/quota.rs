//! How much is allowed, as people write it: `"30/min burst 30"`, `"2/min burst 10, max 100/day"`, `"off"`.
//!
//! Owns the grammar and its meaning in buckets. Knows nothing about who is limited, or for what.

use governor::Quota;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// Limits that all hold at once; none of them means no limit.
#[derive(Clone, PartialEq, Eq)]
pub struct Quotas(Vec<Rate>);

/// So many in each period.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Rate {
    count: NonZeroU32,
    period: Period,
    bound: Bound,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// So many at once, then as they come back at the rate.
    Burst(NonZeroU32),
    /// Never more than the count in any one period.
    Max,
}

type Period = (&'static str, Duration);

const PERIODS: [Period; 4] = [
    ("sec", Duration::from_secs(1)),
    ("min", Duration::from_secs(60)),
    ("hour", Duration::from_secs(3_600)),
    ("day", Duration::from_secs(86_400)),
];

const EXPECTED: &str =
    "expected a limit such as \"30/min\", \"30/min burst 60\", \"2/min burst 10, max 100/day\" or \"off\"";

impl Quotas {
    pub(super) fn to_governor(&self) -> impl Iterator<Item = Quota> + '_ {
        self.0.iter().copied().map(Rate::to_governor)
    }
}

impl Rate {
    fn to_governor(self) -> Quota {
        let (refilled, burst) = match self.bound {
            Bound::Burst(burst) => (self.count.get(), burst),
            // A bucket lets its burst and one refill through in a period. Half each makes exactly the count.
            Bound::Max => {
                let burst = NonZeroU32::new(self.count.get().div_ceil(2)).expect("half of one, rounded up, is one");
                ((self.count.get() / 2).max(1), burst)
            }
        };
        let interval = (self.period.1 / refilled).max(Duration::from_nanos(1));
        Quota::with_period(interval).expect("at least a nanosecond").allow_burst(burst)
    }
}

impl FromStr for Quotas {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Quotas(Vec::new()));
        }
        text.split(", ").map(|part| rate(part).ok_or(EXPECTED)).collect::<Result<_, _>>().map(Quotas)
    }
}

fn rate(text: &str) -> Option<Rate> {
    let words: Vec<_> = text.split(' ').collect();
    let (rate, burst, max) = match words[..] {
        [rate] => (rate, None, false),
        [rate, "burst", burst] => (rate, Some(burst), false),
        ["max", rate] => (rate, None, true),
        _ => return None,
    };
    let (count, unit) = rate.split_once('/')?;
    let count: NonZeroU32 = count.parse().ok()?;
    let period = PERIODS.into_iter().find(|(name, _)| *name == unit)?;
    let burst = burst.map_or(Some(count), |burst| burst.parse().ok())?;
    Some(Rate { count, period, bound: if max { Bound::Max } else { Bound::Burst(burst) } })
}

impl fmt::Display for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("off");
        }
        for (i, Rate { count, period: (unit, _), bound }) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            match bound {
                Bound::Burst(burst) if burst == count => write!(f, "{count}/{unit}")?,
                Bound::Burst(burst) => write!(f, "{count}/{unit} burst {burst}")?,
                Bound::Max => write!(f, "max {count}/{unit}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Quotas {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quotas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_and_shown_the_same() {
        for text in ["off", "30/min", "30/min burst 60", "2/min burst 10, max 100/day", "5/sec", "7/hour"] {
            assert_eq!(text.parse::<Quotas>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_limit_is_refused() {
        let wrong =
            ["", "30", "30/fortnight", "0/min", "30/min burst", "30/min burst 0", "max", "-1/min", "1/min,2/day", "on"];
        for text in wrong {
            assert!(text.parse::<Quotas>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_limit_or_refused(text in "(max )?[0-9]{1,11}/(sec|min|hour|day)( burst [0-9]{1,11})?|.*") {
            if let Ok(quotas) = text.parse::<Quotas>() {
                let again = quotas.to_string().parse::<Quotas>();
                proptest::prop_assert!(again == Ok(quotas.clone()));
                quotas.to_governor().for_each(drop);
            }
        }
    }

    #[test]
    fn a_maximum_holds_in_any_period_however_it_is_spent() {
        for count in [1u32, 2, 3, 99, 100] {
            let quota = format!("max {count}/day").parse::<Quotas>().unwrap().to_governor().next().unwrap();
            let day = Duration::from_secs(86_400) - Duration::from_nanos(1);
            let refilled = day.as_nanos() / quota.replenish_interval().as_nanos();
            assert!(u128::from(quota.burst_size().get()) + refilled <= u128::from(count), "max {count}/day");
        }
    }
}
