//! Four people with three devices each keep one household for weeks, often offline: how many of their edits need a
//! person to look again, and is everything that anybody wrote still there?
//!
//! What they own and how it is merged is declared as an app would; how they live is in `life`. `SELKIE_LONG` makes it
//! the 10,000 edits of docs/benchmarks.md, `SELKIE_SEED=s` another household.

mod life;

use life::{Household, Tally};
use std::time::Instant;

#[tokio::test]
async fn a_household_seldom_needs_to_be_asked_and_never_loses_anything() {
    let long = std::env::var_os("SELKIE_LONG").is_some();
    let edits = if long { 10_000 } else { 1_200 };
    let seed = std::env::var("SELKIE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let begun = Instant::now();
    let mut household = Household::move_in(seed).await;
    household.live(edits).await;
    household.come_home().await;
    let days = household.days();
    let tally = household.judge().await;
    tell(&tally, edits, days, begun);
    assert!(tally.met > 0, "seed {seed}: they never met a conflict, so nothing was shown");
    assert!(tally.offline * 10 > edits, "seed {seed}: only {} edits were made offline", tally.offline);
    assert!(tally.needs_a_person() * 100 < edits, "seed {seed}: {tally:?}");
}

#[allow(clippy::print_stdout)]
fn tell(tally: &Tally, edits: usize, days: u64, begun: Instant) {
    let share = |some: usize| some as f64 * 100.0 / edits as f64;
    let (asked, lost, met, offline) = (tally.asked, tally.partly, tally.met, tally.offline);
    let seconds = begun.elapsed().as_secs_f64();
    println!("{edits} edits in {days} days, {offline} of them offline; it took {seconds:.1} s");
    println!("conflicts met      {met:5}  {:.2} %", share(met));
    println!("a person is asked  {asked:5}  {:.2} %", share(asked));
    println!("one edit lost out  {lost:5}  {:.2} %", share(lost));
}
