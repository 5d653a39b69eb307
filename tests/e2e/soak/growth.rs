//! Whether what a server takes of the memory grows for as long as it lives.
//!
//! Pure.

use std::time::Duration;

use super::verdict::Sample;

/// A server that has just begun fills its caches.
const WARM_UP: Duration = Duration::from_secs(180);
/// Fewer looks say nothing.
const FEWEST: usize = 12;
/// In ten minutes. One is what should be; the memory for tokens that were verified, which has an end, fills with more
/// than another where everybody has a new token every few seconds. What loses 2 KiB with each of 400 writes a minute
/// grows by eight.
const MOST_MIB: f64 = 3.0;
/// How many times its standard error the growth may be beyond that: it is measured in the noise of an allocator.
const ERRORS: f64 = 2.0;

/// Before and after the middle of what is looked at. What loses memory loses it all the time; what takes a great piece
/// once, as for a device that begins with a checkpoint, and keeps it for the next, has done so in one of the two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth([Slope; 2]);

/// In MiB in ten minutes.
#[derive(Clone, Copy, Debug)]
struct Slope {
    by: f64,
    standard_error: f64,
}

impl Growth {
    /// Of the last server, in the second half of the time. `None` if its samples are few.
    pub(super) fn of(samples: &[Sample]) -> Option<Growth> {
        let (first, last) = (samples.first()?, samples.last()?);
        let half = (first.at + last.at) / 2;
        let its_first = samples.iter().find(|sample| sample.process == last.process)?;
        let from = half.max(its_first.at + WARM_UP);
        let late = samples.iter().filter(|sample| sample.at >= from && sample.process == last.process);
        let late: Vec<_> = late.map(|sample| (sample.at.as_secs_f64() / 600.0, sample.pss_mib)).collect();
        let (before, after) = late.split_at(late.len() / 2);
        Some(Growth([Slope::along(before)?, Slope::along(after)?]))
    }

    pub(super) fn is_a_leak(self) -> bool {
        self.0.iter().all(|slope| slope.by - ERRORS * slope.standard_error > MOST_MIB)
    }
}

impl Slope {
    /// A line through them, by least squares.
    fn along(points: &[(f64, f64)]) -> Option<Slope> {
        if points.len() < FEWEST {
            return None;
        }
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
        let by = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum::<f64>() / spread;
        let unexplained: f64 = points.iter().map(|(x, y)| (y - y_mean - by * (x - x_mean)).powi(2)).sum();
        Some(Slope { by, standard_error: (unexplained / (count - 2.0) / spread).sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selkie_e2e::dice::Dice;

    /// What 2 KiB for each of 400 writes come to in a minute.
    const LEAK_MIB_A_MINUTE: f64 = 400.0 * 2.0 / 1024.0;

    /// A server that is killed after a third of the time. Every quarter of a minute it is looked at, for so many
    /// minutes: the minute, and what it takes then.
    fn samples(minutes: u32, pss_mib: impl Fn(f64) -> f64) -> Vec<Sample> {
        let looks = (0..minutes * 4).map(|look| {
            let minute = f64::from(look) / 4.0;
            let process = if minute < f64::from(minutes) / 3.0 { 1 } else { 2 };
            Sample { process, at: Duration::from_secs(u64::from(look) * 15), pss_mib: pss_mib(minute), files: 0 }
        });
        looks.collect()
    }

    fn is_a_leak(samples: &[Sample]) -> bool {
        Growth::of(samples).expect("there are enough").is_a_leak()
    }

    #[test]
    fn what_goes_up_and_down_by_a_mebibyte_is_no_leak() {
        for minutes in [20, 60] {
            assert!(!is_a_leak(&samples(minutes, |_| 80.0)));
            assert!(!is_a_leak(&samples(minutes, |minute| 80.0 + (minute * 2.0).sin())));
            for seed in 0..100 {
                let dice = std::cell::RefCell::new(Dice::of(seed, 0));
                let noise = |_: f64| dice.borrow_mut().between(0, 2000) as f64 / 1000.0 - 1.0;
                assert!(!is_a_leak(&samples(minutes, |minute| 80.0 + noise(minute))), "{seed}");
            }
        }
        // As bad as it can fall: below in the first half of what is looked at, above in the second.
        assert!(!is_a_leak(&samples(60, |minute| if minute < 45.0 { 79.0 } else { 81.0 })));
    }

    /// As a server on PostgreSQL did in an hour that was in order otherwise.
    #[test]
    fn a_great_piece_that_is_taken_once_is_no_leak() {
        for jump in [33.0, 40.0, 45.0, 50.0, 58.0] {
            assert!(!is_a_leak(&samples(60, |minute| if minute < jump { 51.5 } else { 73.6 })), "{jump}");
        }
    }

    #[test]
    fn two_kibibytes_a_write_are_a_leak_whatever_goes_up_and_down() {
        let leaking = |minute: f64| 80.0 + LEAK_MIB_A_MINUTE * minute;
        for minutes in [20, 60] {
            assert!(is_a_leak(&samples(minutes, leaking)));
            for seed in 0..100 {
                let dice = std::cell::RefCell::new(Dice::of(seed, 0));
                let noise = |_: f64| dice.borrow_mut().between(0, 2000) as f64 / 1000.0 - 1.0;
                assert!(is_a_leak(&samples(minutes, |minute| leaking(minute) + noise(minute))), "{seed}");
            }
        }
        assert!(is_a_leak(&samples(60, |minute| leaking(minute) + if minute < 45.0 { 1.0 } else { -1.0 })));
    }

    #[test]
    fn what_other_servers_took_and_what_one_takes_to_begin_with_does_not_count() {
        // Here the last one begins after twenty minutes.
        let others = |minute: f64| if minute < 20.0 { 80.0 + 5.0 * minute } else { 80.0 };
        assert!(!is_a_leak(&samples(60, others)));
        let late = samples(60, |_| 80.0).into_iter().map(|sample| {
            let process = if sample.at < Duration::from_secs(31 * 60) { 1 } else { 2 };
            let since = sample.at.as_secs_f64() / 60.0 - 31.0;
            Sample { process, pss_mib: 80.0 + 10.0 * since.clamp(0.0, 3.0), ..sample }
        });
        assert!(!is_a_leak(&late.collect::<Vec<_>>()));
        assert!(Growth::of(&samples(2, |_| 80.0)).is_none(), "there is not enough to say");
    }
}
