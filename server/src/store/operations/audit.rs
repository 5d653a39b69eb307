//! Keeps the audit log: appends to the chain, reads an account's entries, walks the whole.
//!
//! Knows nothing of what the entries mean.

use super::{Backend, Conn, Reach};
use crate::store::chain::{self, Content};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::{accounts, audit_head, audit_log, devices, failures};
use crate::store::{AccountNumber, Audit, AuditRow, FailureKind, FailureRow, NewAudit, Result, Tenant};
use async_trait::async_trait;
use diesel::{ExpressionMethods as _, OptionalExtension as _, QueryDsl as _};
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use futures_util::FutureExt as _;
use selkie_protocol::hash::sha256;
use selkie_protocol::id::DeviceId;
use std::collections::HashMap;

#[async_trait]
impl Audit for Backend {
    async fn record(&self, tenant: Tenant, account: Option<AccountNumber>, audit: NewAudit) -> Result<()> {
        self.write(Reach::Tenant(tenant), (tenant, account, audit), |conn, (tenant, account, audit)| {
            async move {
                // Nobody has no subject, and is looked up all the same: both take the same time.
                let about = about(conn, *tenant, account.unwrap_or(AccountNumber(0))).await;
                match account {
                    Some(_) => append(conn, *tenant, Some(&about?), audit).await,
                    None => append(conn, *tenant, None, audit).await,
                }
            }
            .boxed()
        })
        .await
    }

    async fn count_failure(
        &self,
        tenant: Tenant,
        account: Option<AccountNumber>,
        kind: FailureKind,
        audit: NewAudit,
    ) -> Result<()> {
        let args = (tenant, account, kind, audit);
        self.write(Reach::Tenant(tenant), args, |conn, args| count_failure(conn, args).boxed()).await
    }

    async fn failures(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<FailureRow>> {
        self.read(Reach::Tenant(tenant), (tenant, account), |conn, args| failures_of(conn, args).boxed()).await
    }

    async fn audit(&self, tenant: Tenant, account: AccountNumber, before: i64, limit: u32) -> Result<Vec<AuditRow>> {
        self.read(Reach::Tenant(tenant), (tenant, account, before, limit), |conn, args| of_account(conn, args).boxed())
            .await
    }

    async fn verify_audit(&self, tenant: Tenant) -> Result<Option<i64>> {
        self.read(Reach::Tenant(tenant), tenant, |conn, tenant| first_misfit(conn, *tenant).boxed()).await
    }
}

/// The one entry of the day is written; every other is written and taken back, so that all of them take their time.
async fn count_failure(
    conn: &mut Conn,
    (tenant, account, kind, audit): &(Tenant, Option<AccountNumber>, FailureKind, NewAudit),
) -> Outcome<()> {
    let number = account.unwrap_or(AccountNumber(0));
    let about = match (about(conn, *tenant, number).await, account) {
        (Ok(about), _) => Some(about),
        (Err(_), None) => None,
        (Err(missing), Some(_)) => return Err(missing),
    };
    let times: i64 = diesel::insert_into(failures::table)
        .values((
            failures::tenant.eq(tenant.0),
            failures::account.eq(number.0),
            failures::kind.eq(columns::failure_number(*kind)),
            failures::day.eq(FailureRow::day_of(audit.at)),
            failures::times.eq(1),
        ))
        .on_conflict((failures::tenant, failures::account, failures::kind, failures::day))
        .do_update()
        .set(failures::times.eq(failures::times + 1))
        .returning(failures::times)
        .get_result(conn)
        .await?;
    let stays = about.is_some() && times == 1;
    conn.batch_execute("SAVEPOINT entry").await?;
    append(conn, *tenant, about.as_ref(), audit).await?;
    if !stays {
        conn.batch_execute("ROLLBACK TO SAVEPOINT entry").await?;
    }
    Ok(conn.batch_execute("RELEASE SAVEPOINT entry").await?)
}

async fn failures_of(conn: &mut Conn, (tenant, account): &(Tenant, AccountNumber)) -> Outcome<Vec<FailureRow>> {
    let rows: Vec<(i16, i64, i64)> = failures::table
        .filter(failures::tenant.eq(tenant.0))
        .filter(failures::account.eq(account.0))
        .order((failures::day, failures::kind))
        .select((failures::kind, failures::day, failures::times))
        .load(conn)
        .await?;
    rows.into_iter()
        .map(|(kind, day, times)| Ok(FailureRow { kind: columns::failure_kind(kind)?, day, times }))
        .collect()
}

/// Appends an entry about an account.
pub(super) async fn append_about(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    audit: &NewAudit,
) -> Outcome<()> {
    let about = about(conn, tenant, account).await?;
    append(conn, tenant, Some(&about), audit).await
}

/// Appends an entry. The head's row is locked from here to the end of the transaction, so this comes last.
pub(super) async fn append(conn: &mut Conn, tenant: Tenant, about: Option<&About>, audit: &NewAudit) -> Outcome<()> {
    // The chain of a new head is the start, that of an old one the last entry's: either way, what this entry follows.
    let (number, previous): (i64, Vec<u8>) = diesel::insert_into(audit_head::table)
        .values((audit_head::tenant.eq(tenant.0), audit_head::number.eq(1), audit_head::chain.eq(chain::START)))
        .on_conflict(audit_head::tenant)
        .do_update()
        .set(audit_head::number.eq(audit_head::number + 1))
        .returning((audit_head::number, audit_head::chain))
        .get_result(conn)
        .await?;
    let previous = columns::fixed(previous, "audit chain")?;
    let subject = about.map(|about| about.subject.as_slice());
    let device = about.zip(audit.device).map(|(about, device)| about.alias_of(device));
    let device = device.as_ref().map(<[u8; 16]>::as_slice);
    let content = Content { at: audit.at, subject, action: audit.action, device, detail: audit.detail.as_deref() };
    let chain = chain::next(&previous, number, &content);
    diesel::insert_into(audit_log::table)
        .values((
            audit_log::tenant.eq(tenant.0),
            audit_log::number.eq(number),
            audit_log::at.eq(audit.at),
            audit_log::subject.eq(subject),
            audit_log::action.eq(audit.action),
            audit_log::device.eq(device),
            audit_log::detail.eq(audit.detail.as_deref()),
            audit_log::chain.eq(chain),
        ))
        .execute(conn)
        .await?;
    diesel::update(audit_head::table.find(tenant.0)).set(audit_head::chain.eq(chain)).execute(conn).await?;
    Ok(())
}

/// What an account and its devices are called in the audit log. Neither name can be traced once the account is gone:
/// the subject is random, and a device's alias takes the account's secret uuid to make.
pub(super) struct About {
    pub(super) subject: Vec<u8>,
    pub(super) uuid: Vec<u8>,
}

impl About {
    fn alias_of(&self, device: DeviceId) -> [u8; 16] {
        let hash = sha256(&[b"selkie/v1/audit-device", self.uuid.as_slice(), device.as_bytes()].concat());
        *hash.first_chunk().expect("a hash has 32 bytes")
    }
}

pub(super) async fn about(conn: &mut Conn, tenant: Tenant, account: AccountNumber) -> Outcome<About> {
    let (subject, uuid) = accounts::table
        .find((tenant.0, account.0))
        .select((accounts::audit_subject, accounts::uuid))
        .first(conn)
        .await
        .optional()?
        .ok_or(Failure::not_found("account"))?;
    Ok(About { subject, uuid })
}

async fn of_account(
    conn: &mut Conn,
    (tenant, account, before, limit): &(Tenant, AccountNumber, i64, u32),
) -> Outcome<Vec<AuditRow>> {
    type Row = (i64, i64, String, Option<Vec<u8>>, Option<String>);
    let about = about(conn, *tenant, *account).await?;
    let own: Vec<Vec<u8>> = devices::table
        .filter(devices::tenant.eq(tenant.0))
        .filter(devices::account.eq(account.0))
        .select(devices::device)
        .load(conn)
        .await?;
    let mut by_alias = HashMap::new();
    for device in own {
        let device = columns::device(device)?;
        by_alias.insert(about.alias_of(device).to_vec(), device);
    }
    let rows: Vec<Row> = audit_log::table
        .filter(audit_log::tenant.eq(tenant.0))
        .filter(audit_log::subject.eq(about.subject))
        .filter(audit_log::number.lt(before))
        .order(audit_log::number.desc())
        .limit(i64::from(*limit))
        .select((audit_log::number, audit_log::at, audit_log::action, audit_log::device, audit_log::detail))
        .load(conn)
        .await?;
    rows.into_iter()
        .map(|(number, at, action, device, detail)| {
            let device = device.and_then(|alias| by_alias.get(&alias).copied());
            Ok(AuditRow { number, at, action, device, detail })
        })
        .collect()
}

async fn first_misfit(conn: &mut Conn, tenant: Tenant) -> Outcome<Option<i64>> {
    type Row = (i64, i64, Option<Vec<u8>>, String, Option<Vec<u8>>, Option<String>, Vec<u8>);
    const PAGE: i64 = 1000;
    let head: Option<(i64, Vec<u8>)> = audit_head::table
        .find(tenant.0)
        .select((audit_head::number, audit_head::chain))
        .first(conn)
        .await
        .optional()?;
    let (mut number, mut previous) = (0, chain::START);
    loop {
        let page: Vec<Row> = audit_log::table
            .filter(audit_log::tenant.eq(tenant.0))
            .filter(audit_log::number.gt(number))
            .order(audit_log::number.asc())
            .limit(PAGE)
            .select((
                audit_log::number,
                audit_log::at,
                audit_log::subject,
                audit_log::action,
                audit_log::device,
                audit_log::detail,
                audit_log::chain,
            ))
            .load(conn)
            .await?;
        if page.is_empty() {
            break;
        }
        for (found, at, subject, action, device, detail, chain) in page {
            number += 1;
            let content = Content {
                at,
                subject: subject.as_deref(),
                action: &action,
                device: device.as_deref(),
                detail: detail.as_deref(),
            };
            previous = chain::next(&previous, number, &content);
            if found != number || chain != previous {
                return Ok(Some(number));
            }
        }
    }
    // An end that was cut off fits by itself; the head knows how far the log went.
    match head {
        Some((last, _)) if last != number => Ok(Some(last.min(number) + 1)),
        Some((last, chain)) if chain != previous => Ok(Some(last)),
        None if number > 0 => Ok(Some(1)),
        _ => Ok(None),
    }
}
