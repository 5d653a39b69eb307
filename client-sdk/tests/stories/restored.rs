//! A server that was restored from a backup, as far as people and their devices are concerned: what came after the
//! backup is put back or told, and an honest restore is never an alarm.

use crate::fake::Fake;
use crate::fake::server::Sess;
use crate::fake::server::account::Acct;
use crate::vaults::{APP, PASSWORD, another_device, id, person, same, text};
use futures_util::StreamExt as _;
use selkie_client::{
    Account, Client, EmergencySheet, Error, Misbehaviour, Recover, Role, SignIn, SignUp, SignedIn, SignedUp, WrongKey,
};
use selkie_protocol::id::{DeviceId, SessionId, VaultId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const ANA: &str = "ana@example.org";
const NEW_PASSWORD: &str = "battery staple";

/// What a server has of accounts and sessions, and where its vaults end.
struct Backup {
    accounts: HashMap<String, Acct>,
    sessions: HashMap<SessionId, Sess>,
    ends: BTreeMap<VaultId, u64>,
}

impl Backup {
    fn make(server: &Arc<Fake>) -> Backup {
        server.with(|world| Backup {
            accounts: world.accounts.clone(),
            sessions: world.sessions.clone(),
            ends: world.vaults.all.iter().map(|(id, one)| (*id, one.frames.len() as u64)).collect(),
        })
    }

    /// As an operator does it: the server says that it is in another life.
    fn restore(&self, server: &Arc<Fake>) {
        server.with(|world| {
            let people = world.people();
            let all: Vec<VaultId> = world.vaults.all.keys().copied().collect();
            let ends = all.into_iter().map(|id| (id, self.ends.get(&id).copied().unwrap_or(0))).collect();
            world.vaults.restore(&ends, &people);
        });
        self.turn_back_accounts(server);
    }

    /// Without a word.
    fn turn_back_accounts(&self, server: &Arc<Fake>) {
        server.with(|world| {
            (world.accounts, world.sessions) = (self.accounts.clone(), self.sessions.clone());
            world.people.clear();
        });
    }
}

async fn sign_in(device: &Client, password: &str, first: Option<&SignedUp>) -> selkie_client::Result<SignedIn> {
    let options = SignIn { device_name: "tablet".into(), ..SignIn::default() };
    device.sign_in(ANA, password, first.and_then(|first| first.sheet.secret_key()), options).await
}

async fn in_step(account: &Account) {
    for _ in 0..2 {
        let synced = account.sync().await.unwrap();
        assert!(synced.first_error().is_none(), "{synced:?}");
    }
}

async fn nobody_is_accused(accounts: &[&Account]) {
    for account in accounts {
        for vault in account.vaults().await.unwrap() {
            let vault = account.vault(&vault.id.to_string()).await.unwrap().unwrap();
            assert!(vault.export_evidence().await.unwrap().is_empty(), "an honest restore is no lie");
        }
    }
}

async fn laptop() -> (Arc<Fake>, Client, SignedUp) {
    let server = Fake::start();
    let laptop = server.device();
    let options = SignUp { device_name: "laptop".into(), ..SignUp::default() };
    let ana = laptop.sign_up(ANA, PASSWORD, options).await.unwrap();
    (server, laptop, ana)
}

/// A laptop and a backup; then a phone came, and wrote.
struct Late {
    server: Arc<Fake>,
    laptop: Client,
    ana: SignedUp,
    backup: Backup,
    phone: Client,
    on_phone: Account,
}

impl Late {
    async fn begin() -> Late {
        let (server, laptop, ana) = laptop().await;
        let vault = ana.account.create_vault("Journal", APP).await.unwrap();
        vault.put("notes", id(1), b"before").await.unwrap();
        in_step(&ana.account).await;
        let backup = Backup::make(&server);
        let phone = server.device();
        let on_phone = sign_in(&phone, PASSWORD, Some(&ana)).await.unwrap().account;
        in_step(&on_phone).await;
        on_phone.vault("Journal").await.unwrap().unwrap().put("notes", id(2), b"on the phone").await.unwrap();
        in_step(&on_phone).await;
        Late { server, laptop, ana, backup, phone, on_phone }
    }

    async fn all_is_there(&self, phone: &Account) {
        in_step(phone).await;
        in_step(&self.ana.account).await;
        in_step(phone).await;
        let vaults =
            [self.ana.account.vault("Journal").await.unwrap().unwrap(), phone.vault("Journal").await.unwrap().unwrap()];
        for vault in &vaults {
            assert_eq!(text(vault, 2).await.as_deref(), Some("on the phone"));
        }
        same(&[&vaults[0], &vaults[1]]).await;
        nobody_is_accused(&[&self.ana.account, phone]).await;
    }
}

#[tokio::test]
async fn a_device_that_came_after_the_backup_is_put_back_by_another() {
    let late = Late::begin().await;
    in_step(&late.ana.account).await;
    late.ana.account.devices().await.unwrap();
    late.backup.restore(&late.server);

    in_step(&late.ana.account).await;
    assert!(matches!(late.on_phone.sync().await, Err(Error::SignInAgain { .. })), "its session is lost");
    let back = sign_in(&late.phone, PASSWORD, None).await.unwrap();
    assert!(!back.new_device, "the same device as before");
    late.all_is_there(&back.account).await;
    let devices = late.ana.account.devices().await.unwrap().devices;
    let names: Vec<_> = devices.iter().map(|device| device.name.as_deref().unwrap_or("?")).collect();
    assert_eq!(names, ["laptop", "tablet"], "what the server has lost of their names, they have told each other");
}

#[tokio::test]
async fn a_device_that_only_itself_remembers_puts_itself_back() {
    let late = Late::begin().await;
    late.backup.restore(&late.server);
    in_step(&late.ana.account).await;
    let back = sign_in(&late.phone, PASSWORD, None).await.unwrap();
    assert!(!back.new_device);
    late.all_is_there(&back.account).await;
}

#[tokio::test]
async fn a_device_that_was_revoked_after_the_backup_stays_out() {
    let (server, laptop, ana) = laptop().await;
    let phone = another_device(&server, ANA, &ana).await;
    in_step(&ana.account).await;
    let backup = Backup::make(&server);
    ana.account.revoke(&phone.device_id(), PASSWORD).await.unwrap();
    backup.restore(&server);
    assert!(phone.devices().await.is_ok(), "nobody has told the server yet");
    // Its session is younger than the backup.
    in_step(&sign_in(&laptop, PASSWORD, None).await.unwrap().account).await;
    assert!(matches!(phone.devices().await, Err(Error::SignInAgain { .. })));
}

#[tokio::test]
async fn a_password_that_was_changed_after_the_backup_is_asked_for_again_and_no_alarm() {
    let (server, device, ana) = laptop().await;
    let phone = another_device(&server, ANA, &ana).await;
    in_step(&phone).await;
    in_step(&ana.account).await;
    let backup = Backup::make(&server);
    ana.account.change_password(PASSWORD, NEW_PASSWORD, true).await.unwrap();
    let newest = ana.account.rotate_recovery_key(NEW_PASSWORD).await.unwrap();
    in_step(&phone).await;
    phone.devices().await.unwrap();
    backup.restore(&server);

    assert!(matches!(sign_in(&device, NEW_PASSWORD, None).await, Err(Error::WrongCredentials)));
    let back = sign_in(&device, PASSWORD, None).await.unwrap();
    assert!(back.keys_superseded, "the person is told to change it");
    let laptop = &back.account;
    in_step(laptop).await;
    in_step(&phone).await;
    // The password of the backup may be known to whoever it was changed for: it opens nothing by itself.
    let strange = sign_in(&server.device(), PASSWORD, Some(&ana)).await;
    assert!(matches!(strange, Err(Error::KeysSuperseded)), "{strange:?}");
    let recover = async |sheet: &EmergencySheet| {
        server.device().recover(ANA, sheet.recovery_key(), "third words", Recover::default()).await
    };
    assert!(matches!(recover(&ana.sheet).await, Err(Error::WrongKey(WrongKey::RecoveryKey))));
    assert!(matches!(recover(&newest).await, Err(Error::KeysSuperseded)));
    // The devices know, and one of them makes new keys.
    for device in [laptop, &phone] {
        let refused = device.revoke(&DeviceId([7; 16]), PASSWORD).await;
        assert!(matches!(refused, Err(Error::KeysSuperseded)), "{refused:?}");
    }
    assert!(matches!(laptop.rotate_recovery_key(PASSWORD).await, Err(Error::KeysSuperseded)));
    phone.change_password(PASSWORD, "third words", true).await.unwrap();
    let sheet = phone.unconfirmed_sheet().expect("the recovery key of the backup is void, too");
    in_step(laptop).await;
    let tablet = sign_in(&server.device(), "third words", Some(&ana)).await.unwrap();
    assert!(tablet.new_device && !tablet.keys_superseded);
    recover(&sheet).await.unwrap();
    nobody_is_accused(&[laptop, &phone]).await;
}

#[tokio::test]
async fn a_new_device_is_told_of_a_lost_recovery_key_and_a_lost_password_does_not_hold_up_a_recovery() {
    for only_the_sheet in [true, false] {
        let (server, device, ana) = laptop().await;
        in_step(&ana.account).await;
        let backup = Backup::make(&server);
        let sheet = match only_the_sheet {
            true => ana.account.rotate_recovery_key(PASSWORD).await.unwrap(),
            false => {
                ana.account.change_password(PASSWORD, NEW_PASSWORD, true).await.unwrap();
                ana.sheet.clone()
            }
        };
        backup.restore(&server);
        let back = sign_in(&device, PASSWORD, None).await.unwrap();
        assert!(back.keys_superseded);
        let strange = sign_in(&server.device(), PASSWORD, Some(&ana)).await;
        assert!(matches!(strange, Err(Error::KeysSuperseded)), "{strange:?}");
        let recovered = server.device().recover(ANA, sheet.recovery_key(), "third words", Recover::default()).await;
        match only_the_sheet {
            true => {
                assert!(matches!(recovered, Err(Error::KeysSuperseded)), "{recovered:?}");
                back.account.rotate_recovery_key(PASSWORD).await.unwrap();
                sign_in(&server.device(), PASSWORD, Some(&ana)).await.unwrap();
            }
            false => drop(recovered.unwrap()),
        }
    }
}

#[tokio::test]
async fn in_a_life_that_has_shown_the_newest_keys_an_earlier_password_is_an_alarm_again() {
    let server = Fake::start();
    let ana = person(&server, ANA).await;
    let laptop = &ana.account;
    Backup::make(&server).restore(&server);
    in_step(laptop).await;
    let before = Backup::make(&server);
    laptop.change_password(PASSWORD, NEW_PASSWORD, true).await.unwrap();
    let newest = server.with(|world| world.accounts[ANA].entries.clone());
    before.turn_back_accounts(&server);
    server.with(|world| world.accounts.get_mut(ANA).unwrap().entries = newest);
    let caught = laptop.unlock(PASSWORD).await;
    let kind = |error: &Error| match error {
        Error::ServerMisbehaved { kind, .. } => Some(*kind),
        _ => None,
    };
    assert_eq!(caught.as_ref().err().and_then(kind), Some(Misbehaviour::PasswordRollback), "{caught:?}");
}

#[tokio::test]
async fn a_log_that_ends_earlier_in_the_same_life_is_an_alarm() {
    let late = Late::begin().await;
    in_step(&late.ana.account).await;
    late.ana.account.devices().await.unwrap();
    late.backup.turn_back_accounts(&late.server);
    let caught = late.ana.account.devices().await;
    assert!(matches!(caught, Err(Error::ServerMisbehaved { kind: Misbehaviour::Rollback, .. })), "{caught:?}");
}

#[tokio::test]
async fn a_server_that_does_not_take_the_log_back_is_told_of_as_long_as_it_does_not() {
    let late = Late::begin().await;
    in_step(&late.ana.account).await;
    late.ana.account.devices().await.unwrap();
    late.backup.restore(&late.server);
    late.server.refuse("/v1/account/log");
    for _ in 0..2 {
        let told = late.ana.account.sync().await;
        assert!(matches!(told, Err(Error::AccountBehind { missing: 1 })), "{told:?}");
    }
}

#[tokio::test]
async fn an_account_that_went_on_before_a_device_was_there_asks_a_person() {
    let late = Late::begin().await;
    in_step(&late.ana.account).await;
    late.ana.account.devices().await.unwrap();
    late.backup.restore(&late.server);
    // Somebody comes with a new device, before those that know better.
    let watch = another_device(&late.server, ANA, &late.ana).await;
    in_step(&watch).await;

    for _ in 0..2 {
        let told = late.ana.account.sync().await;
        assert!(matches!(told, Err(Error::AccountBehind { missing: 1 })), "{told:?}");
    }
    let laptop = &late.laptop;
    let refused = sign_in(laptop, PASSWORD, None).await;
    assert!(matches!(refused, Err(Error::AccountBehind { missing: 1 })), "{refused:?}");
    let accept = SignIn { device_name: "phone".into(), accept_loss: true, ..SignIn::default() };
    for device in [laptop, &late.phone] {
        device.sign_in(ANA, PASSWORD, None, accept.clone()).await.unwrap();
    }
    let on_laptop = laptop.account(ANA).await.unwrap().unwrap();
    let on_phone = late.phone.account(ANA).await.unwrap().unwrap();
    // What the phone wrote as a device that the server forgot has no place there any more; an owner gives that up, and
    // it is written again.
    let journal = async |account: &Account| account.vault("Journal").await.unwrap().unwrap();
    assert!(on_phone.sync().await.unwrap().first_error().is_some());
    journal(&on_phone).await.reset_tail().await.unwrap();
    in_step(&on_phone).await;
    let told = journal(&on_laptop).await.sync().await;
    assert!(matches!(told, Err(Error::TailReset { .. })), "{told:?}");
    journal(&on_laptop).await.accept_reset().await.unwrap();
    for device in [&on_phone, &on_laptop, &watch] {
        in_step(device).await;
        let vault = device.vault("Journal").await.unwrap().unwrap();
        assert_eq!(text(&vault, 2).await.as_deref(), Some("on the phone"));
    }
    nobody_is_accused(&[&on_phone, &on_laptop, &watch]).await;
}

#[tokio::test]
async fn a_device_that_meets_the_new_life_before_it_hears_of_the_lost_password_cries_out_no_more_than_the_others() {
    let (server, _, ana) = laptop().await;
    let laptop = &ana.account;
    let device = server.device();
    let phone = sign_in(&device, PASSWORD, Some(&ana)).await.unwrap().account;
    in_step(&phone).await;
    in_step(laptop).await;
    let backup = Backup::make(&server);
    phone.change_password(PASSWORD, NEW_PASSWORD, true).await.unwrap();
    backup.restore(&server);
    in_step(laptop).await;
    sign_in(&device, PASSWORD, None).await.unwrap();
    laptop.devices().await.unwrap();

    laptop.change_password(PASSWORD, "third words", true).await.unwrap();
    in_step(laptop).await;
    nobody_is_accused(&[laptop, &phone]).await;
}

#[tokio::test]
async fn once_the_password_is_changed_again_no_device_asks_for_that_any_more() {
    let (server, device, ana) = laptop().await;
    let phone = another_device(&server, ANA, &ana).await;
    in_step(&phone).await;
    in_step(&ana.account).await;
    let backup = Backup::make(&server);
    ana.account.change_password(PASSWORD, NEW_PASSWORD, true).await.unwrap();
    backup.restore(&server);
    let laptop = sign_in(&device, PASSWORD, None).await.unwrap().account;
    in_step(&laptop).await;
    in_step(&phone).await;
    let asks = async |account: &Account| {
        let status = account.status().next().await.unwrap();
        status.blocked.iter().any(|blocked| blocked.kind == "keys_superseded")
    };
    assert!(asks(&laptop).await && asks(&phone).await, "both say so, whoever put the log back");
    phone.change_password(PASSWORD, "third words", true).await.unwrap();
    for account in [&laptop, &phone] {
        account.devices().await.unwrap();
        assert!(!asks(account).await);
    }
}

/// Ana has seen more of Bob's account than the restored server.
struct Fellows {
    server: Arc<Fake>,
    ana: SignedUp,
    bob: SignedUp,
    tablet: DeviceId,
}

impl Fellows {
    async fn begin() -> Fellows {
        let server = Fake::start();
        let (ana, bob) = (person(&server, ANA).await, person(&server, "bob").await);
        let shared = ana.account.create_vault("Shared", APP).await.unwrap();
        in_step(&ana.account).await;
        shared.add_member(bob.account.user_id(), Role::Editor).await.unwrap();
        in_step(&bob.account).await;
        let backup = Backup::make(&server);
        let tablet = another_device(&server, "bob", &bob).await;
        in_step(&tablet).await;
        tablet.vault("Shared").await.unwrap().unwrap().put("notes", id(5), b"from the tablet").await.unwrap();
        in_step(&tablet).await;
        in_step(&ana.account).await;
        backup.restore(&server);
        Fellows { server, ana, bob, tablet: tablet.device_id() }
    }

    fn server_knows_the_tablet(&self) -> bool {
        self.server.with(|world| world.accounts["bob"].log().unwrap().active_device(&self.tablet).is_some())
    }
}

#[tokio::test]
async fn what_a_fellow_member_wrote_on_a_device_that_the_server_forgot_is_put_back_with_the_device() {
    let Fellows { ana, bob, .. } = Fellows::begin().await;
    in_step(&ana.account).await;
    in_step(&bob.account).await;
    let shared = ana.account.vault("Shared").await.unwrap().unwrap();
    let his = bob.account.vault("Shared").await.unwrap().unwrap();
    assert_eq!(text(&his, 5).await.as_deref(), Some("from the tablet"));
    same(&[&shared, &his]).await;
    nobody_is_accused(&[&ana.account, &bob.account]).await;
}

#[tokio::test]
async fn what_a_server_does_not_take_back_of_a_fellow_is_not_forgotten_here() {
    let fellows = Fellows::begin().await;
    fellows.server.refuse("/log");
    let _told = fellows.ana.account.sync().await;
    assert!(!fellows.server_knows_the_tablet());
    fellows.server.be_honest();
    let shared = fellows.ana.account.vault("Shared").await.unwrap().unwrap();
    assert_eq!(text(&shared, 5).await.as_deref(), Some("from the tablet"));
    // Had it been forgotten, there would be nothing to give back in the next life.
    Backup::make(&fellows.server).restore(&fellows.server);
    let _told = fellows.ana.account.sync().await;
    assert!(fellows.server_knows_the_tablet());
    nobody_is_accused(&[&fellows.ana.account, &fellows.bob.account]).await;
}

#[tokio::test]
async fn a_fellow_whose_account_went_on_in_another_way_is_followed() {
    let fellows = Fellows::begin().await;
    let watch = another_device(&fellows.server, "bob", &fellows.bob).await;
    in_step(&watch).await;
    let shared = watch.vault("Shared").await.unwrap().unwrap();
    shared.put("notes", id(6), b"from the watch").await.unwrap();
    in_step(&watch).await;
    // What the tablet wrote has no place any more, which an owner decides.
    let synced = fellows.ana.account.sync().await.unwrap();
    assert!(matches!(synced.first_error(), Some((_, Error::ServerBehind { .. }))), "{synced:?}");
    let shared = fellows.ana.account.vault("Shared").await.unwrap().unwrap();
    shared.reset_tail().await.unwrap();
    in_step(&fellows.ana.account).await;
    assert_eq!(text(&shared, 6).await.as_deref(), Some("from the watch"));
    nobody_is_accused(&[&fellows.ana.account, &watch]).await;
}
