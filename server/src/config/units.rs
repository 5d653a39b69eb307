//! Lengths of time, sizes, networks and secrets, as people write them in a configuration file.
//!
//! This module owns how one value is read and shown. It knows nothing about sections, files or defaults.

use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// A length of time: `"20s"`, `"15m"`, `"90d"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(Duration);

/// A number of bytes: `"512B"`, `"64KiB"`, `"2MiB"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

/// A network of addresses: `"10.0.0.0/8"`, `"fd00::/8"`, or one address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// A text that is shown to nobody: it prints as `***`, is written out as `set`, and is wiped when it goes.
#[derive(Clone)]
pub struct Secret(SecretString);

const PERIOD_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

impl Period {
    pub const fn seconds(seconds: u64) -> Self {
        Period(Duration::from_secs(seconds))
    }

    pub const fn minutes(minutes: u64) -> Self {
        Self::seconds(minutes * 60)
    }

    pub const fn days(days: u64) -> Self {
        Self::seconds(days * 86_400)
    }

    pub fn as_duration(self) -> Duration {
        self.0
    }

    /// In milliseconds, as the clock counts.
    pub fn as_ms(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }

    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl Size {
    pub const fn bytes(bytes: u64) -> Self {
        Size(bytes)
    }

    pub const fn kib(kib: u64) -> Self {
        Size(kib << 10)
    }

    pub fn as_bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Secret(SecretString::from(text.into()))
    }

    /// The text itself, at the one place that needs it.
    pub fn reveal(&self) -> &str {
        self.0.expose_secret()
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ms = number_with_unit(text, &PERIOD_UNITS)
            .ok_or("expected a length of time such as \"20s\", \"15m\", \"12h\" or \"90d\"")?;
        Ok(Period(Duration::from_millis(ms)))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes =
            number_with_unit(text, &SIZE_UNITS).ok_or("expected a size such as \"512B\", \"64KiB\" or \"2MiB\"")?;
        Ok(Size(bytes))
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => {
                text.parse().map_err(|_| "expected a network such as \"10.0.0.0/8\", \"fd00::/8\" or one address")?
            }
        };
        if network.trunc() != network {
            return Err(format!("the address has bits outside its mask; did you mean \"{}\"?", network.trunc()));
        }
        Ok(Network(network))
    }
}

fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// In the largest unit that needs no fraction.
fn in_largest_unit(number: u64, units: &[(&str, u64)], unit_of_zero: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match units.iter().rev().find(|(_, factor)| number != 0 && number.is_multiple_of(*factor)) {
        Some((unit, factor)) => write!(f, "{}{unit}", number / factor),
        None => write!(f, "{number}{unit_of_zero}"),
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_largest_unit(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &PERIOD_UNITS, "s", f)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_largest_unit(self.0, &SIZE_UNITS, "B", f)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! travels_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

travels_as_text!(Period, Size, Network);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A secret is written out as the word `set`, so that a whole configuration can be shown.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("set")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }
            // serde's own refusal of a number would quote it, and the number may be somebody's password.
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                Err(E::custom("expected a string, found a number"))
            }
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                Err(E::custom("expected a string, found a number"))
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                Err(E::custom("expected a string, found a number"))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read_and_shown_the_same() {
        for text in ["0s", "250ms", "20s", "15m", "36h", "90d"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        for text in ["0B", "100B", "64KiB", "3MiB", "1GiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!("24h".parse::<Period>().unwrap(), Period::days(1));
    }

    #[test]
    fn a_number_without_its_unit_is_refused() {
        for text in ["", "15", "m", "15 minutes", "-1s", "1.5h", "99999999999999999999d"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
        for text in ["", "64", "64KB", "64kib", "18446744073709551615GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_time_or_a_size_or_refused(text in "[0-9]{0,21}(ms|s|m|h|d|B|KiB|MiB|GiB)?|.*") {
            if let Ok(period) = text.parse::<Period>() {
                proptest::prop_assert_eq!(period.to_string().parse(), Ok(period));
            }
            if let Ok(size) = text.parse::<Size>() {
                proptest::prop_assert_eq!(size.to_string().parse(), Ok(size));
            }
        }
    }

    #[test]
    fn a_network_names_its_first_address() {
        let private: Network = "10.0.0.0/8".parse().unwrap();
        assert!(private.contains("10.1.2.3".parse().unwrap()));
        assert!(private.contains("::ffff:10.1.2.3".parse().unwrap()), "an IPv4 address in IPv6 clothes");
        assert!(!private.contains("11.0.0.1".parse().unwrap()));
        assert!("10.0.0.1/8".parse::<Network>().unwrap_err().contains("10.0.0.0/8"));
        assert!("::1".parse::<Network>().is_ok());
        assert!("localhost".parse::<Network>().is_err());
    }

    #[test]
    fn a_secret_shows_itself_only_when_asked() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"set\"");
        assert_eq!(secret.reveal(), "hunter2");
        let refused = serde_json::from_str::<Secret>("4711").unwrap_err().to_string();
        assert!(!refused.contains("4711"), "{refused}");
    }
}
