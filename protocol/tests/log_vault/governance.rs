//! Who may do what to members, keys and rules: the table of operations, row by row.

use super::cast::{Cast, Device, Vault, rotate};
use selkie_protocol::account_log::{Payload, Pin};
use selkie_protocol::id::{InviteId, UserId};
use selkie_protocol::log::{Control, Denied, Entry, Kind, Policy, Refusal, Role, signed};
use selkie_protocol::sign::{PublicKey, Signature};

/// One member of every role, and Eve outside.
struct Story {
    cast: Cast,
    vault: Vault,
    owner: Device,
    admin: Device,
    editor: Device,
    viewer: Device,
    eve: Device,
}

fn story() -> Story {
    let mut cast = Cast::default();
    let [owner, admin, editor, viewer, eve] = [1, 2, 3, 4, 5].map(|number| cast.person(number));
    let mut vault = Vault::create(&cast, &owner);
    vault.does(&cast, &owner, &cast.add(admin.user, Role::Admin));
    vault.does(&cast, &owner, &cast.add(editor.user, Role::Editor));
    vault.does(&cast, &owner, &cast.add(viewer.user, Role::Viewer));
    Story { cast, vault, owner, admin, editor, viewer, eve }
}

impl Story {
    #[track_caller]
    fn denies(&self, device: &Device, control: &Control, rule: Denied) {
        self.vault.refuses_to(&self.cast, device, control, Refusal::NotAllowed(rule));
    }

    #[track_caller]
    fn does(&mut self, who: fn(&Story) -> &Device, control: &Control) {
        let bytes = who(self).control(&self.vault.log, control);
        self.vault.takes(&self.cast, bytes);
    }

    fn role(&self, device: &Device) -> Option<Role> {
        self.vault.log.core().governance().member(&device.user).map(|member| member.role)
    }

    fn set(&self, device: &Device, role: Role) -> Control {
        Control::SetRole { user: device.user, role }
    }

    fn add(&self, role: Role) -> Control {
        self.cast.add(self.eve.user, role)
    }
}

#[test]
fn mal_027_a_ghost_is_not_added_by_anybody_who_may_not() {
    let story = story();
    for device in [&story.editor, &story.viewer] {
        story.denies(device, &story.add(Role::Viewer), Denied::Role);
    }
    let by_herself = story.add(Role::Viewer);
    story.vault.refuses_to(&story.cast, &story.eve, &by_herself, Refusal::NotAMember);
    // The server signs for the owner with a key it has.
    let bytes = story.eve.sign(&story.owner.header(&story.vault.log), Kind::Control, &by_herself.to_bytes());
    story.vault.refuses(&story.cast, &bytes, Refusal::Forged);
}

#[test]
fn an_admin_adds_up_to_editors_and_an_owner_anybody() {
    let story = story();
    for role in [Role::Admin, Role::Owner] {
        story.denies(&story.admin, &story.add(role), Denied::Role);
    }
    for (device, roles) in [
        (&story.admin, &[Role::Viewer, Role::Editor][..]),
        (&story.owner, &[Role::Viewer, Role::Editor, Role::Admin, Role::Owner]),
    ] {
        for role in roles {
            let mut vault = story.vault.clone();
            vault.does(&story.cast, device, &story.add(*role));
            assert_eq!(vault.log.core().governance().member(&story.eve.user).unwrap().role, *role);
        }
    }
}

#[test]
fn nobody_is_added_twice() {
    let story = story();
    let again = story.cast.add(story.viewer.user, Role::Editor);
    story.denies(&story.owner, &again, Denied::AlreadyMember);
}

#[test]
fn mal_028_who_is_added_is_who_the_account_log_says() {
    let story = story();
    let Control::AddMember { user, anchor, role, invite, identity } = story.add(Role::Editor) else { unreachable!() };
    let other = Control::AddMember { user, identity: PublicKey([1; 32]), anchor, role, invite };
    story.denies(&story.owner, &other, Denied::WrongIdentity);
    let ahead = Pin { index: anchor.index + 1, hash: [1; 32] };
    let ahead = Control::AddMember { user, identity, anchor: ahead, role, invite };
    let needed = Refusal::AccountLogNeeded { user, index: 2 };
    story.vault.refuses_to(&story.cast, &story.owner, &ahead, needed);
    let forked = Pin { hash: [1; 32], ..anchor };
    let forked = Control::AddMember { user, identity, anchor: forked, role, invite };
    story.vault.refuses_to(&story.cast, &story.owner, &forked, Refusal::AccountForked { user });
    let nobody = UserId([1; 32]);
    let unknown = Control::AddMember { user: nobody, identity, anchor, role, invite };
    let needed = Refusal::AccountLogNeeded { user: nobody, index: 1 };
    story.vault.refuses_to(&story.cast, &story.owner, &unknown, needed);
}

#[test]
fn mal_031_roles_are_set_only_by_who_may_govern_both() {
    let mut story = story();
    for device in [&story.editor, &story.viewer] {
        story.denies(device, &story.set(&story.viewer, Role::Editor), Denied::Role);
        story.denies(device, &story.set(device, Role::Owner), Denied::Role);
    }
    story.denies(&story.admin, &story.set(&story.admin, Role::Owner), Denied::Role);
    story.denies(&story.admin, &story.set(&story.admin, Role::Editor), Denied::Role);
    story.denies(&story.admin, &story.set(&story.owner, Role::Viewer), Denied::Role);
    story.denies(&story.admin, &story.set(&story.editor, Role::Admin), Denied::Role);
    story.denies(&story.owner, &story.set(&story.eve, Role::Admin), Denied::NoSuchMember);
    story.denies(&story.owner, &story.set(&story.editor, Role::Editor), Denied::NothingChanges);
    story.denies(&story.owner, &story.set(&story.editor, Role::Recovery), Denied::Recovery);

    story.does(|story| &story.admin, &story.set(&story.viewer, Role::Editor));
    assert_eq!(story.role(&story.viewer), Some(Role::Editor));
    story.does(|story| &story.owner, &story.set(&story.viewer, Role::Owner));
    assert_eq!(story.role(&story.viewer), Some(Role::Owner));
}

#[test]
fn mal_031_a_viewer_writes_nothing_but_their_own_anchor() {
    let mut story = story();
    let device = &story.viewer;
    let denied = Refusal::NotAllowed(Denied::Role);
    story.vault.refuses(&story.cast, &device.heartbeat(&story.vault.log), denied.clone());
    story.vault.refuses(&story.cast, &device.checkpoint(&story.vault.log), denied.clone());
    let body = super::cast::payload(1);
    let data = device.data(&story.vault.log, &[super::cast::whole(super::cast::record(1), &[], &body)]);
    story.vault.refuses(&story.cast, &data, denied);
    story.denies(device, &rotate(&story.vault.log, &[]), Denied::Role);
    let user = story.viewer.user;
    story.cast.device(user, 40);
    story.does(|story| &story.viewer, &story.cast.move_anchor(user));
}

#[test]
fn mal_042_the_last_owner_stays() {
    let mut story = story();
    story.denies(&story.owner, &story.set(&story.owner, Role::Admin), Denied::LastOwner);
    story.denies(&story.owner, &rotate(&story.vault.log, &[&story.owner]), Denied::SelfRemoval);
    story.does(|story| &story.owner, &story.set(&story.admin, Role::Owner));
    story.does(|story| &story.owner, &story.set(&story.owner, Role::Viewer));
    assert_eq!(story.role(&story.owner), Some(Role::Viewer));
    story.denies(&story.admin, &story.set(&story.admin, Role::Admin), Denied::LastOwner);
}

#[test]
fn who_leaves_does_not_make_the_next_key() {
    let mut story = story();
    story.does(|story| &story.owner, &story.set(&story.editor, Role::Owner));
    story.denies(&story.editor, &rotate(&story.vault.log, &[&story.editor]), Denied::SelfRemoval);
    story.does(|story| &story.owner, &rotate(&story.vault.log, &[&story.editor]));
    assert_eq!(story.role(&story.editor), None);
}

#[test]
fn removal_begins_the_next_epoch_at_once() {
    let mut story = story();
    story.denies(&story.viewer, &rotate(&story.vault.log, &[]), Denied::Role);
    story.denies(&story.editor, &rotate(&story.vault.log, &[&story.viewer]), Denied::Role);
    story.denies(&story.admin, &rotate(&story.vault.log, &[&story.admin]), Denied::Role);
    story.denies(&story.admin, &rotate(&story.vault.log, &[&story.viewer, &story.owner]), Denied::Role);
    story.denies(&story.admin, &rotate(&story.vault.log, &[&story.eve]), Denied::NoSuchMember);
    let both = rotate(&story.vault.log, &[&story.viewer, &story.editor]);
    story.does(|story| &story.admin, &both);
    let governance = story.vault.log.core().governance();
    assert_eq!((governance.epoch(), governance.members().len()), (2, 2));
    assert_eq!(governance.commitment(1), Some(&[0xc1; 32]));
    assert_eq!(governance.commitment(2), Some(&[2; 32]));
    assert_eq!((governance.commitment(0), governance.commitment(3)), (None, None));
    let gone = story.editor.heartbeat(&story.vault.log);
    story.vault.refuses(&story.cast, &gone, Refusal::NotAMember);
}

#[test]
fn an_editor_may_begin_an_epoch_but_only_the_next_one() {
    let mut story = story();
    for epoch in [0, 1, 3, u32::MAX] {
        let Control::RemoveRotate(mut op) = rotate(&story.vault.log, &[]) else { unreachable!() };
        op.epoch = epoch;
        story.denies(&story.editor, &Control::RemoveRotate(op), Denied::Epoch);
    }
    let next = rotate(&story.vault.log, &[]);
    story.does(|story| &story.editor, &next);
    assert_eq!(story.vault.log.core().governance().epoch(), 2);
}

#[test]
fn who_was_removed_can_be_added_again_and_goes_on_counting() {
    let mut story = story();
    story.vault.takes(&story.cast, story.editor.heartbeat(&story.vault.log));
    let removal = rotate(&story.vault.log, &[&story.editor]);
    story.does(|story| &story.owner, &removal);
    story.does(|story| &story.owner, &story.cast.add(story.editor.user, Role::Editor));
    let header = story.editor.header(&story.vault.log);
    assert_eq!(header.dev_seq, 2, "the numbers of a device are used once");
    story.vault.takes(&story.cast, story.editor.heartbeat(&story.vault.log));
}

#[test]
fn an_anchor_is_moved_by_its_owner_and_only_forwards() {
    let mut story = story();
    let user = story.editor.user;
    let still = story.cast.move_anchor(user);
    story.denies(&story.editor, &still, Denied::Anchor);
    story.cast.device(user, 30);
    story.denies(&story.owner, &story.cast.move_anchor(user), Denied::Anchor);
    story.denies(&story.owner, &story.cast.move_anchor(story.eve.user), Denied::NoSuchMember);
    story.does(|story| &story.editor, &story.cast.move_anchor(user));
    assert_eq!(story.vault.log.core().governance().member(&user).unwrap().anchor, story.cast.anchor(user));
    let back = Control::Anchor { user, anchor: Pin { index: 1, hash: [0; 32] } };
    story.denies(&story.editor, &back, Denied::Anchor);
}

#[test]
fn mal_018_two_account_logs_contradict_the_persons_own_anchor() {
    let mut story = story();
    let user = story.editor.user;
    // A contact is shown another account log of the same person. They part after the first device.
    let mut elsewhere = story.cast.clone();
    elsewhere.says(user, Payload::LoginName([9; 32]));
    story.cast.device(user, 30);
    let moved = story.editor.control(&story.vault.log, &story.cast.move_anchor(user));
    story.vault.refuses(&elsewhere, &moved, Refusal::AccountForked { user });
    // Nobody is accused on the word of an entry that the person did not sign.
    let forged =
        story.eve.sign(&story.editor.header(&story.vault.log), Kind::Control, &story.cast.move_anchor(user).to_bytes());
    story.vault.refuses(&elsewhere, &forged, Refusal::Forged);
    story.vault.takes(&story.cast, moved);
}

#[test]
fn mal_017_an_account_log_that_ends_before_the_anchor_is_not_enough() {
    let mut story = story();
    let (user, before) = (story.editor.user, story.cast.clone());
    story.cast.device(user, 30);
    let moved = story.editor.control(&story.vault.log, &story.cast.move_anchor(user));
    story.vault.refuses(&before, &moved, Refusal::AccountLogNeeded { user, index: 2 });
}

#[test]
fn mal_040_a_policy_is_raised_by_owners_and_never_lowered() {
    let mut story = story();
    let policy = |min_format, flags| Control::Policy(Policy { min_format, flags, recovery: None });
    for device in [&story.admin, &story.editor, &story.viewer] {
        story.denies(device, &policy(1, Policy::STRICT), Denied::Role);
    }
    story.denies(&story.owner, &policy(0, 0), Denied::PolicyLowered);
    story.denies(&story.owner, &policy(1, 0), Denied::NothingChanges);
    story.does(|story| &story.owner, &policy(1, Policy::STRICT));
    story.denies(&story.owner, &policy(1, 0), Denied::PolicyLowered);
    for later in [policy(2, Policy::STRICT), policy(255, Policy::STRICT), policy(1, Policy::STRICT | 2)] {
        story.vault.refuses_to(&story.cast, &story.owner, &later, Refusal::UpgradeNeeded);
    }
}

#[test]
fn mal_040_a_policy_of_before_is_not_taken_again() {
    let mut story = story();
    let policy = |recovery: &Device| Control::Policy(Policy { min_format: 1, flags: 0, recovery: Some(recovery.user) });
    // The owner names one recovery identity, and then, more strictly, another.
    let first = story.owner.control(&story.vault.log, &policy(&story.viewer));
    story.vault.takes(&story.cast, first.clone());
    let stricter = Policy { min_format: 1, flags: Policy::STRICT, recovery: Some(story.eve.user) };
    story.does(|story| &story.owner, &Control::Policy(stricter));
    // The server plays the first one again, as it was and as if it had been made now.
    let expected = story.vault.log.core().device(&story.owner.id()).unwrap().dev_seq + 1;
    let replayed = Refusal::DeviceSequence { expected, found: expected - 2 };
    story.vault.refuses(&story.cast, &first, replayed);
    let unsigned = story.owner.header(&story.vault.log).with_body(Kind::Control, &policy(&story.viewer).to_bytes());
    let old_signature = Signature(first[first.len() - 64..].try_into().unwrap());
    story.vault.refuses(&story.cast, &signed(unsigned, &old_signature), Refusal::Forged);
    // Not even the owner takes a demand back.
    story.denies(&story.owner, &policy(&story.viewer), Denied::PolicyLowered);
    assert_eq!(story.vault.log.core().governance().policy(), stricter);
}

#[test]
fn mal_029_an_invitation_into_one_vault_is_not_honoured_by_another() {
    let story = story();
    // The invitation that Eve holds names the vault. A server that wants her in another one must show her a CREATE
    // that hashes to that name, whoever made it.
    let invited = story.vault.log.core().vault();
    let trap = Vault::create_with(&story.cast, &story.eve, 66);
    assert_ne!(trap.log.core().vault(), invited);
    let shown = Entry::parse(&trap.entries[0]).unwrap();
    assert_ne!(shown.creates(), Some(invited));
    // Its entries do not pass for entries of the vault she was invited to, nor the other way round.
    story.vault.refuses(&story.cast, &story.eve.heartbeat(&trap.log), Refusal::OtherVault);
    trap.refuses(&story.cast, &story.owner.control(&story.vault.log, &story.add(Role::Editor)), Refusal::OtherVault);
}

#[test]
fn mal_039_only_the_recovery_identity_of_the_policy_is_added_and_it_never_writes() {
    let mut story = story();
    story.denies(&story.owner, &story.add(Role::Recovery), Denied::Recovery);
    story.denies(&story.admin, &story.add(Role::Recovery), Denied::Role);
    let name = |user| Control::Policy(Policy { min_format: 1, flags: 0, recovery: Some(user) });
    story.denies(&story.admin, &name(story.eve.user), Denied::Role);
    story.does(|story| &story.owner, &name(story.eve.user));
    story.denies(&story.admin, &story.add(Role::Recovery), Denied::Role);
    let other = story.cast.person(9);
    story.denies(&story.owner, &story.cast.add(other.user, Role::Recovery), Denied::Recovery);
    story.does(|story| &story.owner, &story.add(Role::Recovery));
    story.vault.refuses(&story.cast, &story.eve.heartbeat(&story.vault.log), Refusal::NotAllowed(Denied::Role));
    story.denies(&story.eve, &rotate(&story.vault.log, &[]), Denied::Role);
    story.denies(&story.owner, &story.set(&story.eve, Role::Owner), Denied::Recovery);
    story.denies(&story.admin, &rotate(&story.vault.log, &[&story.eve]), Denied::Role);
    let removal = rotate(&story.vault.log, &[&story.eve]);
    story.does(|story| &story.owner, &removal);
}

#[test]
fn mal_030_an_invitation_lets_one_person_in() {
    let mut story = story();
    let (invite, role) = (InviteId([1; 16]), Role::Editor);
    let open = Control::InviteOpen { invite, role, expires: 9 };
    let by_invite = |story: &Story, device: &Device, role| {
        let Control::AddMember { user, identity, anchor, .. } = story.cast.add(device.user, role) else {
            unreachable!()
        };
        Control::AddMember { user, identity, anchor, role, invite: Some(invite) }
    };
    story.denies(&story.owner, &by_invite(&story, &story.eve, role), Denied::Invite);
    story.denies(&story.editor, &open, Denied::Role);
    story.denies(&story.admin, &Control::InviteOpen { invite, role: Role::Admin, expires: 9 }, Denied::Role);
    story.denies(&story.owner, &Control::InviteOpen { invite, role: Role::Recovery, expires: 9 }, Denied::Role);
    story.does(|story| &story.admin, &open);
    story.denies(&story.admin, &open, Denied::Invite);
    story.denies(&story.owner, &by_invite(&story, &story.eve, Role::Admin), Denied::Invite);
    let joins = by_invite(&story, &story.eve, role);
    story.does(|story| &story.admin, &joins);

    let mallory = story.cast.person(9);
    story.denies(&story.owner, &by_invite(&story, &mallory, role), Denied::Invite);
}

#[test]
fn a_closed_invitation_lets_nobody_in() {
    let mut story = story();
    let invite = InviteId([1; 16]);
    story.denies(&story.owner, &Control::InviteClose { invite }, Denied::Invite);
    story.does(|story| &story.owner, &Control::InviteOpen { invite, role: Role::Admin, expires: 9 });
    story.denies(&story.admin, &Control::InviteClose { invite }, Denied::Role);
    story.does(|story| &story.owner, &Control::InviteClose { invite });
    let Control::AddMember { user, identity, anchor, role, .. } = story.add(Role::Admin) else { unreachable!() };
    let late = Control::AddMember { user, identity, anchor, role, invite: Some(invite) };
    story.denies(&story.owner, &late, Denied::Invite);
}

#[test]
fn a_tail_is_given_up_by_owners_where_they_stand() {
    let mut story = story();
    let n = story.vault.log.head().n;
    for device in [&story.admin, &story.editor, &story.viewer] {
        story.denies(device, &Control::ResetTail { n }, Denied::Role);
    }
    let reset = story.owner.control(&story.vault.log, &Control::ResetTail { n });
    story.vault.takes(&story.cast, story.editor.heartbeat(&story.vault.log));
    story.vault.refuses(&story.cast, &reset, Refusal::BadSeen { seen: n, n: n + 2 });
    story.does(|story| &story.owner, &Control::ResetTail { n: n + 1 });
}

#[test]
fn a_thousand_invitations_are_open_at_most() {
    let mut story = story();
    let open = |number: u16| {
        let mut id = [1; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        Control::InviteOpen { invite: InviteId(id), role: Role::Viewer, expires: 9 }
    };
    for number in 0..1000 {
        story.does(|story| &story.owner, &open(number));
    }
    story.vault.refuses_to(&story.cast, &story.owner, &open(1000), Refusal::TooMany("open invitations"));
    let Control::InviteOpen { invite, .. } = open(7) else { unreachable!() };
    story.does(|story| &story.owner, &Control::InviteClose { invite });
    story.does(|story| &story.owner, &open(1000));
}
