//! Which trouble comes when: a schedule made from a seed.
//!
//! Pure. Knows nothing about how trouble is made.

use std::time::Duration;

use selkie_e2e::dice::Dice;
use selkie_e2e::premises::Backend;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// kill -9.
    ServerKilled,
    /// kill -9, too.
    DatabaseKilled,
    /// Nothing can be written any more.
    DiskFull,
    /// Nobody reaches the blobs. Somebody comes with a new device.
    BlobsAway,
    /// Nobody reaches the server.
    Unreachable,
    /// Everything takes its time. Where there are no blobs apart, it is now that somebody comes with a new device.
    Slow,
    /// Some of what is sent is never heard of again.
    Lossy,
    /// Connections end in the middle of what is said.
    CutOff,
}

/// One trouble, after a time without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) calm: Duration,
    pub(super) trouble: Trouble,
    pub(super) lasts: Duration,
}

const ALL: [Trouble; 8] = [
    Trouble::ServerKilled,
    Trouble::DatabaseKilled,
    Trouble::DiskFull,
    Trouble::BlobsAway,
    Trouble::Unreachable,
    Trouble::Slow,
    Trouble::Lossy,
    Trouble::CutOff,
];

/// No trouble has more time than this, with the calm before it.
const LONGEST: Duration = Duration::from_secs(15);

/// Every trouble that the backend can have, in rounds, each in another order. The server is killed in the first half
/// only: who is to be looked at for what leaks must live for a while.
pub(super) fn plan(seed: u64, backend: Backend, length: Duration) -> Vec<Event> {
    let mut dice = Dice::of(seed, 0);
    let embedded = backend == Backend::SqliteAndFiles;
    let possible = |trouble: &Trouble| !embedded || !matches!(trouble, Trouble::DatabaseKilled | Trouble::BlobsAway);
    let mut round: Vec<Trouble> = ALL.into_iter().filter(possible).collect();
    let each = (length / u32::try_from(round.len()).expect("there are few")).min(LONGEST);
    let mut events = Vec::new();
    let mut passed = Duration::ZERO;
    while passed + each <= length {
        dice.shuffle(&mut round);
        let early = usize::try_from(dice.below(round.len() as u64 / 2)).expect("there are few");
        let killed = round.iter().position(|trouble| *trouble == Trouble::ServerKilled).expect("it is possible");
        if killed > round.len() / 2 {
            round.swap(killed, early);
        }
        let is_late = passed >= length / 2;
        for trouble in round.iter().filter(|trouble| !is_late || **trouble != Trouble::ServerKilled) {
            let share = |dice: &mut Dice| each.mul_f64(dice.between(40, 50) as f64 / 100.0);
            let (calm, lasts) = (share(&mut dice), share(&mut dice));
            events.push(Event { calm, trouble: *trouble, lasts });
            passed += each;
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const BACKENDS: [Backend; 2] = [Backend::SqliteAndFiles, Backend::PostgresAndS3];

    #[test]
    fn a_seed_means_a_plan() {
        let plan_of = |seed| plan(seed, Backend::PostgresAndS3, Duration::from_secs(600));
        assert_eq!(plan_of(7), plan_of(7));
        assert_ne!(plan_of(7), plan_of(8));
    }

    #[test]
    fn no_trouble_is_left_out_however_short_the_plan() {
        for (backend, possible) in BACKENDS.into_iter().zip([6, 8]) {
            for length in [40, 180, 3600].map(Duration::from_secs) {
                for seed in 0..50 {
                    let events = plan(seed, backend, length);
                    let troubles: BTreeSet<Trouble> = events.iter().map(|event| event.trouble).collect();
                    assert_eq!(troubles.len(), possible, "{backend:?}, {length:?}, {seed}: {events:?}");
                    let takes: Duration = events.iter().map(|event| event.calm + event.lasts).sum();
                    assert!(
                        takes <= length + Duration::from_secs(120) && takes >= length / 2,
                        "{takes:?} of {length:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_server_that_lives_in_the_second_half_is_not_killed() {
        for (seed, backend) in (0..50).flat_map(|seed| BACKENDS.map(|backend| (seed, backend))) {
            let length = Duration::from_secs(600);
            let mut passed = Duration::ZERO;
            for event in plan(seed, backend, length) {
                passed += event.calm + event.lasts;
                let is_late = passed > length.mul_f64(0.75);
                assert!(!is_late || event.trouble != Trouble::ServerKilled, "{seed}, {backend:?}");
            }
        }
    }
}
