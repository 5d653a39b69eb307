//! Tenants, and invitations to them.

use super::*;
use crate::store::*;

on_both![
    a_tenant_is_found_by_its_slug_with_its_limits,
    a_slug_is_taken_once,
    a_tenant_needs_a_plan_that_exists,
    another_plan_holds_at_once_for_the_tenant_and_its_sessions,
    a_suspended_tenant_says_so_to_its_sessions,
    an_invitation_gives_a_role_until_it_is_used_up,
    an_invitation_is_good_for_nothing_once_expired_revoked_or_elsewhere,
    the_first_invitation_is_void_once_somebody_lives_anywhere,
    the_first_invitation_is_replaced_until_somebody_lives_here,
];

async fn a_tenant_is_found_by_its_slug_with_its_limits(house: House) {
    let made = house.create_tenant(house::tenant("acme", "free")).await.unwrap();
    let found = house.tenant_by_slug("acme").await.unwrap().unwrap();
    assert_eq!(made, found);
    assert_eq!((found.name.as_str(), found.plan.as_str(), found.accounts), ("ACME", "free", 0));
    assert!(found.max_accounts.is_some() && found.max_devices.is_some() && !found.suspended);
    let home = house.tenant_by_slug("home").await.unwrap().unwrap();
    assert_eq!((home.max_accounts, home.max_devices), (None, None));
    assert_eq!(house.tenants().await.unwrap(), vec![home, found]);
    assert_eq!(house.tenant_by_slug("ACME").await.unwrap(), None);
}

async fn a_slug_is_taken_once(house: House) {
    assert_eq!(refused(house.create_tenant(house::tenant("home", "free")).await), Refused::SlugTaken);
    assert_eq!(house.tenants().await.unwrap().len(), 1);
}

async fn a_tenant_needs_a_plan_that_exists(house: House) {
    assert_eq!(missing(house.create_tenant(house::tenant("acme", "golden")).await), "plan");
    assert_eq!(house.tenant_by_slug("acme").await.unwrap(), None);
}

async fn another_plan_holds_at_once_for_the_tenant_and_its_sessions(house: House) {
    let plans: Vec<(String, i32)> =
        house.plans().await.unwrap().into_iter().map(|row| (row.plan, row.limit_factor)).collect();
    assert_eq!(plans, [("free".into(), 100), ("home".into(), 100), ("team".into(), 400)]);
    let account = house.register(house.home, bare(1)).await.unwrap();
    house.open_session(house.home, session(1, account, None), audit("signed_in")).await.unwrap();
    house.set_tenant_plan(house.home, "team", audit("plan_changed")).await.unwrap();
    let row = house.tenant_by_number(house.home).await.unwrap().unwrap();
    assert_eq!(Some(&row), house.tenant_by_slug("home").await.unwrap().as_ref());
    assert_eq!((row.plan.as_str(), row.limit_factor), ("team", 400));
    assert_eq!(house.session(house.home, session_id(1)).await.unwrap().unwrap().limit_factor, 400);
    assert_eq!(missing(house.set_tenant_plan(house.home, "golden", audit("x")).await), "plan");
    assert_eq!(missing(house.set_tenant_plan(Tenant(77), "team", audit("x")).await), "tenant");
    assert_eq!(house.tenant_by_number(Tenant(77)).await.unwrap(), None);
    house.expect_whole_audit().await;
}

async fn a_suspended_tenant_says_so_to_its_sessions(house: House) {
    let account = house.register(house.home, bare(1)).await.unwrap();
    house.open_session(house.home, session(1, account, None), audit("signed_in")).await.unwrap();
    for suspended in [true, false] {
        house.set_tenant_suspended(house.home, suspended, audit("tenant_changed")).await.unwrap();
        assert_eq!(house.tenant_by_slug("home").await.unwrap().unwrap().suspended, suspended);
        let row = house.session(house.home, session_id(1)).await.unwrap().unwrap();
        assert_eq!(row.tenant_suspended, suspended);
    }
    assert_eq!(missing(house.set_tenant_suspended(Tenant(77), true, audit("x")).await), "tenant");
    house.expect_whole_audit().await;
}

async fn an_invitation_gives_a_role_until_it_is_used_up(house: House) {
    let admins = NewInvitation { role: TenantRole::Admin, ..invitation(1, 2) };
    let number = house.create_invitation(house.home, admins, audit("invited")).await.unwrap();
    let usable = house.usable_invitation(house.home, bytes("code", 1), NOW).await.unwrap().unwrap();
    assert_eq!((usable.invitation, usable.role, usable.uses_left), (number, TenantRole::Admin, 2));
    assert_eq!(house.invitations(house.home).await.unwrap(), vec![usable]);
    for n in 1..=2 {
        let invited = Registration { invitation: Some(bytes("code", 1)), ..bare(n) };
        let account = house.register(house.home, invited).await.unwrap();
        assert_eq!(house.account(house.home, account).await.unwrap().role, TenantRole::Admin);
    }
    let third = Registration { invitation: Some(bytes("code", 1)), ..bare(3) };
    assert_eq!(refused(house.register(house.home, third).await), Refused::InvitationInvalid);
    assert_eq!(house.usable_invitation(house.home, bytes("code", 1), NOW).await.unwrap(), None);
}

async fn an_invitation_is_good_for_nothing_once_expired_revoked_or_elsewhere(house: House) {
    let other = house.tenant("other", "home").await;
    let number = house.create_invitation(house.home, invitation(1, 9), audit("invited")).await.unwrap();
    let code: [u8; 32] = bytes("code", 1);
    let invited = |now| Registration { invitation: Some(code), now, ..bare(1) };
    assert_eq!(refused(house.register(house.home, invited(NOW + DAY)).await), Refused::InvitationInvalid);
    assert_eq!(house.usable_invitation(house.home, code, NOW + DAY).await.unwrap(), None);
    assert_eq!(refused(house.register(other, invited(NOW)).await), Refused::InvitationInvalid);
    assert_eq!(house.usable_invitation(other, code, NOW).await.unwrap(), None);
    assert_eq!(missing(house.revoke_invitation(other, number, audit("x")).await), "invitation");

    house.revoke_invitation(house.home, number, audit("invitation_revoked")).await.unwrap();
    assert_eq!(house.invitations(house.home).await.unwrap()[0].revoked_at, Some(NOW));
    assert_eq!(house.usable_invitation(house.home, code, NOW).await.unwrap(), None);
    assert_eq!(refused(house.register(house.home, invited(NOW)).await), Refused::InvitationInvalid);
    assert_eq!(missing(house.revoke_invitation(house.home, number, audit("x")).await), "invitation");
    assert_eq!(missing(house.create_invitation(Tenant(77), invitation(1, 1), audit("x")).await), "tenant");
    house.expect_whole_audit().await;
}

async fn the_first_invitation_is_replaced_until_somebody_lives_here(house: House) {
    house.create_invitation(house.home, invitation(9, 1), audit("invited")).await.unwrap();
    for n in 1..=3 {
        let first = NewInvitation { role: TenantRole::Owner, ..invitation(n, 1) };
        house.replace_first_invitation(house.home, first).await.unwrap();
    }
    assert_eq!(house.invitations(house.home).await.unwrap().len(), 2, "another's invitation stays");
    assert_eq!(house.usable_invitation(house.home, bytes("code", 2), NOW).await.unwrap(), None);
    let owner = Registration { invitation: Some(bytes("code", 3)), ..registration(1) };
    let account = house.register(house.home, owner).await.unwrap();
    assert_eq!(house.account(house.home, account).await.unwrap().role, TenantRole::Owner);
    let late = house.replace_first_invitation(house.home, invitation(4, 1)).await;
    assert_eq!(missing(late), "empty server");
    let other = house.tenant("other", "home").await;
    assert_eq!(missing(house.replace_first_invitation(other, invitation(4, 1)).await), "empty server");
    assert!(house.usable_invitation(house.home, bytes("code", 9), NOW).await.unwrap().is_some());
}

async fn the_first_invitation_is_void_once_somebody_lives_anywhere(house: House) {
    let other = house.tenant("other", "home").await;
    let first = || NewInvitation { role: TenantRole::Owner, ..invitation(1, 1) };
    let owner = || Registration { invitation: Some(bytes("code", 1)), ..bare(1) };
    house.replace_first_invitation(house.home, first()).await.unwrap();
    let neighbour = house.register(other, bare(2)).await.unwrap();
    assert_eq!(refused(house.register(house.home, owner()).await), Refused::InvitationInvalid);
    house.delete_account(other, neighbour, audit("deleted")).await.unwrap();
    house.register(house.home, bare(3)).await.unwrap();
    assert_eq!(house.usable_invitation(house.home, bytes("code", 1), NOW).await.unwrap(), None);
    assert_eq!(refused(house.register(house.home, owner()).await), Refused::InvitationInvalid);
    house.expect_whole_audit().await;
}
