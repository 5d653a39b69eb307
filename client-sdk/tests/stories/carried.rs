//! People who move: vaults of one account written into those of another, on another server.

use crate::fake::Fake;
use crate::vaults::{APP, another_device, id, person, same, text};
use selkie_client::{Account, CarriedOver, CarriedVault, Error, Role, SignedUp, Vault, VaultId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const ANA: &str = "ana@example.org";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Ana's laptop, with a journal on one server and an account on the next.
struct Move {
    old: Arc<Fake>,
    new: Arc<Fake>,
    there: SignedUp,
    here: SignedUp,
    journal: Vault,
}

async fn a_move() -> Move {
    let (old, new) = (Fake::start(), Fake::start());
    let (there, here) = (person(&old, ANA).await, person(&new, ANA).await);
    let journal = there.account.create_vault("Journal", APP).await.unwrap();
    Move { old, new, there, here, journal }
}

impl Move {
    /// All that Ana owns, from her laptop, with a round before and after.
    async fn carry(&self) -> Vec<CarriedVault> {
        in_step(&self.there.account).await;
        carry(&self.there.account, &self.here.account).await
    }

    /// What the journal has become.
    async fn journal_here(&self) -> Vault {
        self.here.account.vault("Journal").await.unwrap().unwrap()
    }
}

async fn carry(from: &Account, to: &Account) -> Vec<CarriedVault> {
    in_step(to).await;
    let carried = all_of(from.carry_over(to).await.unwrap());
    in_step(to).await;
    carried
}

fn all_of(carried: CarriedOver) -> Vec<CarriedVault> {
    carried.vaults.into_iter().map(|(_, outcome)| outcome.unwrap()).collect()
}

async fn in_step(account: &Account) {
    let outcome = account.sync().await.unwrap();
    assert!(outcome.first_error().is_none(), "{outcome:?}");
}

async fn said(vault: &Vault, number: u8) -> Vec<(String, u64)> {
    let history = vault.history(id(number)).await.unwrap();
    history.into_iter().map(|version| (String::from_utf8(version.data).unwrap(), version.written.ms)).collect()
}

#[tokio::test]
async fn whoever_moves_to_another_server_has_everything_there_with_its_history() {
    let story = a_move().await;
    let journal = &story.journal;
    for (number, words) in [(1, "first"), (2, "to be deleted"), (1, "second"), (3, "only once")] {
        journal.put("notes", id(number), words.as_bytes()).await.unwrap();
        story.old.later(1_000);
        story.new.later(1_000);
        journal.sync().await.unwrap();
    }
    journal.delete("notes", id(2)).await.unwrap();
    journal.put("notes", id(1), b"not sent yet").await.unwrap();

    // What was not sent goes along, too: nobody asked a server.
    in_step(&story.here.account).await;
    let carried = all_of(story.there.account.carry_over(&story.here.account).await.unwrap());
    let [only] = carried.as_slice() else { panic!("{carried:?}") };
    let all = CarriedVault {
        from: journal.id(),
        to: only.to,
        records: 3,
        same: 0,
        kept: 0,
        unreadable: 0,
        undecided: 0,
        elsewhere: 0,
    };
    assert_eq!(*only, all);
    let here = story.journal_here().await;
    assert_eq!(here.id(), only.to);
    assert_ne!(here.id(), journal.id());
    in_step(&story.here.account).await;
    for number in [1, 2, 3] {
        assert_eq!(said(&here, number).await, said(journal, number).await, "{number}");
    }
    let phone = another_device(&story.new, ANA, &story.here).await;
    in_step(&phone).await;
    let on_phone = phone.vault("Journal").await.unwrap().unwrap();
    assert_eq!(text(&on_phone, 1).await.as_deref(), Some("not sent yet"));
    assert_eq!(text(&on_phone, 2).await, None);
    assert_eq!(text(&on_phone, 3).await.as_deref(), Some("only once"));
    in_step(&story.here.account).await;
    same(&[&on_phone, &here]).await;

    // And nothing was taken away, and once is enough.
    assert_eq!(text(journal, 1).await.as_deref(), Some("not sent yet"));
    let before = here.digest().await.unwrap();
    let again = story.carry().await;
    assert_eq!(again, [CarriedVault { records: 0, same: 3, ..all }]);
    assert_eq!(here.digest().await.unwrap(), before);
}

#[tokio::test]
async fn two_devices_move_one_after_the_other_and_end_with_the_same() {
    let story = a_move().await;
    story.journal.put("notes", id(1), b"of both").await.unwrap();
    // Two vaults of one name stay two.
    let second = story.there.account.create_vault("Journal", APP).await.unwrap();
    second.put("notes", id(9), b"the other one").await.unwrap();
    in_step(&story.there.account).await;
    let phone_there = another_device(&story.old, ANA, &story.there).await;
    in_step(&phone_there).await;

    let became = |carried: Vec<CarriedVault>| {
        carried.into_iter().map(|vault| (vault.from, vault.to)).collect::<BTreeMap<VaultId, VaultId>>()
    };
    in_step(&story.here.account).await;
    let of_second = second.carry_over(&story.here.account).await.unwrap().to;
    let homes = became(story.carry().await);
    assert_eq!((homes.len(), homes[&second.id()]), (2, of_second));
    assert_ne!(homes[&story.journal.id()], of_second);
    let here = story.here.account.vault_by_id(homes[&story.journal.id()]).await.unwrap().unwrap();

    // The phone was away, wrote something on the old server's account, and something newer stands on the new one.
    let on_phone = phone_there.vault_by_id(story.journal.id()).await.unwrap().unwrap();
    on_phone.put("notes", id(1), b"older, from the phone").await.unwrap();
    on_phone.put("notes", id(2), b"new, from the phone").await.unwrap();
    story.new.later(60_000);
    here.put("notes", id(1), b"newer, from the laptop").await.unwrap();
    in_step(&story.here.account).await;

    let phone_here = another_device(&story.new, ANA, &story.here).await;
    assert_eq!(became(carry(&phone_there, &phone_here).await), homes, "they have become what they had become");
    in_step(&story.here.account).await;
    assert_eq!(text(&here, 1).await.as_deref(), Some("newer, from the laptop"));
    assert_eq!(text(&here, 2).await.as_deref(), Some("new, from the phone"));
    let of_first = said(&here, 1).await;
    let words: Vec<&str> = of_first.iter().map(|(words, _)| words.as_str()).collect();
    assert!(words.contains(&"older, from the phone"), "it is in the history: {words:?}");
    let on_phone_here = phone_here.vault_by_id(here.id()).await.unwrap().unwrap();
    for (from, to) in [(&phone_there, &phone_here), (&story.there.account, &story.here.account)] {
        assert_eq!(carry(from, to).await.iter().map(|vault| vault.records).sum::<u64>(), 0);
    }
    in_step(&phone_here).await;
    in_step(&story.here.account).await;
    same(&[&here, &on_phone_here]).await;
    let others = story.here.account.vault_by_id(homes[&second.id()]).await.unwrap().unwrap();
    assert_eq!((text(&others, 9).await.as_deref(), text(&others, 1).await), (Some("the other one"), None));
    let apps = story.here.account.vaults().await.unwrap().into_iter().filter(|summary| !summary.is_own).count();
    assert_eq!(apps, 2);
}

#[tokio::test]
async fn a_vault_of_somebody_else_stays_theirs_unless_a_copy_is_wanted() {
    let story = a_move().await;
    let bob = person(&story.old, "bob@example.org").await;
    let household = bob.account.create_vault("Household", APP).await.unwrap();
    household.put("notes", id(4), b"milk").await.unwrap();
    household.sync().await.unwrap();
    household.add_member(story.there.account.user_id(), Role::Editor).await.unwrap();
    household.sync().await.unwrap();
    in_step(&story.there.account).await;

    in_step(&story.here.account).await;
    let carried = story.there.account.carry_over(&story.here.account).await.unwrap();
    assert_eq!(carried.of_others, [household.id()]);
    assert_eq!(carried.vaults.len(), 1);
    assert!(story.here.account.vault("Household").await.unwrap().is_none());

    let shared = story.there.account.vault_by_id(household.id()).await.unwrap().unwrap();
    let copy = shared.carry_over(&story.here.account).await.unwrap();
    let copy = story.here.account.vault_by_id(copy.to).await.unwrap().unwrap();
    assert_eq!(text(&copy, 4).await.as_deref(), Some("milk"));
    assert_eq!(copy.members().await.unwrap().len(), 1);

    let into_itself = story.journal.carry_over(&story.there.account).await;
    assert!(matches!(into_itself, Err(Error::ApiMisuse(_))), "{into_itself:?}");
}

#[tokio::test]
async fn what_cannot_go_along_is_counted_and_harms_nothing() {
    let story = a_move().await;
    for number in 1..=3 {
        story.journal.put("notes", id(number), b"old").await.unwrap();
    }
    in_step(&story.there.account).await;
    story.old.later(400 * DAY_MS);
    story.new.later(400 * DAY_MS);
    story.journal.let_go(Duration::from_secs(100 * 24 * 60 * 60)).await.unwrap();
    story.journal.put("notes", id(4), b"new").await.unwrap();

    let carried = story.carry().await;
    assert_eq!((carried[0].records, carried[0].elsewhere), (1, 3));
    let here = story.journal_here().await;
    assert_eq!(text(&here, 1).await, None);

    story.journal.fetch_all_records().await.unwrap();
    // Over there the same name stands for something else by now: it stays.
    here.put("letters", id(2), b"a letter").await.unwrap();
    let carried = story.carry().await;
    assert_eq!((carried[0].records, carried[0].same, carried[0].kept, carried[0].elsewhere), (2, 1, 1, 0));
    assert_eq!(text(&here, 1).await.as_deref(), Some("old"));
    assert_eq!(text(&here, 2).await.as_deref(), Some("a letter"));
}

#[tokio::test]
async fn what_was_written_by_a_clock_far_ahead_wins_nothing_for_years() {
    let story = a_move().await;
    story.old.later(3650 * DAY_MS);
    story.journal.put("notes", id(1), b"from the future").await.unwrap();
    story.journal.put("notes", id(1), b"from the future, again").await.unwrap();
    in_step(&story.here.account).await;
    story.there.account.carry_over(&story.here.account).await.unwrap();
    let here = story.journal_here().await;
    assert_eq!(text(&here, 1).await.as_deref(), Some("from the future, again"));
    let now = story.new.now_ms();
    assert!(said(&here, 1).await.iter().all(|(_, ms)| *ms <= now + DAY_MS));
    in_step(&story.here.account).await;
    story.new.later(1_000);
    let phone = another_device(&story.new, ANA, &story.here).await;
    in_step(&phone).await;
    let on_phone = phone.vault("Journal").await.unwrap().unwrap();
    on_phone.put("notes", id(1), b"today").await.unwrap();
    in_step(&phone).await;
    let again = story.there.account.carry_over(&story.here.account).await.unwrap();
    assert_eq!(all_of(again)[0].records, 0, "it was said already");
    in_step(&story.here.account).await;
    assert_eq!(text(&here, 1).await.as_deref(), Some("today"));
}
