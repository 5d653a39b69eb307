//! Keeps the audit log: appends to the chain, reads an account's entries, walks the whole.
//!
//! Knows nothing of what the entries mean.

use super::{Backend, Conn, Reach};
use crate::store::chain::{self, Content};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::{accounts, audit_head, audit_log};
use crate::store::{AccountNumber, Audit, AuditRow, NewAudit, Result, Tenant};
use async_trait::async_trait;
use diesel::{ExpressionMethods as _, OptionalExtension as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;
use futures_util::FutureExt as _;

#[async_trait]
impl Audit for Backend {
    async fn record(&self, tenant: Tenant, account: Option<AccountNumber>, audit: NewAudit) -> Result<()> {
        self.write(Reach::Tenant(tenant), (tenant, account, audit), |conn, (tenant, account, audit)| {
            async move {
                // Nobody has no subject, and is looked up all the same: both take the same time.
                let subject = subject_of(conn, *tenant, account.unwrap_or(AccountNumber(0))).await;
                match account {
                    Some(_) => append(conn, *tenant, Some(&subject?), audit).await,
                    None => append(conn, *tenant, None, audit).await,
                }
            }
            .boxed()
        })
        .await
    }

    async fn audit(&self, tenant: Tenant, account: AccountNumber, before: i64, limit: u32) -> Result<Vec<AuditRow>> {
        self.read(Reach::Tenant(tenant), (tenant, account, before, limit), |conn, args| of_account(conn, args).boxed())
            .await
    }

    async fn verify_audit(&self, tenant: Tenant) -> Result<Option<i64>> {
        self.read(Reach::Tenant(tenant), tenant, |conn, tenant| first_misfit(conn, *tenant).boxed()).await
    }
}

/// Appends an entry about an account.
pub(super) async fn append_about(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    audit: &NewAudit,
) -> Outcome<()> {
    let subject = subject_of(conn, tenant, account).await?;
    append(conn, tenant, Some(&subject), audit).await
}

/// Appends an entry. The head's row is locked from here to the end of the transaction, so this comes last.
pub(super) async fn append(conn: &mut Conn, tenant: Tenant, subject: Option<&[u8]>, audit: &NewAudit) -> Outcome<()> {
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
    let device = audit.device.as_ref().map(|device| device.as_bytes());
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

/// What an account is called in the audit log.
pub(super) async fn subject_of(conn: &mut Conn, tenant: Tenant, account: AccountNumber) -> Outcome<Vec<u8>> {
    accounts::table
        .find((tenant.0, account.0))
        .select(accounts::audit_subject)
        .first(conn)
        .await
        .optional()?
        .ok_or(Failure::not_found("account"))
}

async fn of_account(
    conn: &mut Conn,
    (tenant, account, before, limit): &(Tenant, AccountNumber, i64, u32),
) -> Outcome<Vec<AuditRow>> {
    type Row = (i64, i64, String, Option<Vec<u8>>, Option<String>);
    let subject = subject_of(conn, *tenant, *account).await?;
    let rows: Vec<Row> = audit_log::table
        .filter(audit_log::tenant.eq(tenant.0))
        .filter(audit_log::subject.eq(subject))
        .filter(audit_log::number.lt(before))
        .order(audit_log::number.desc())
        .limit(i64::from(*limit))
        .select((audit_log::number, audit_log::at, audit_log::action, audit_log::device, audit_log::detail))
        .load(conn)
        .await?;
    rows.into_iter()
        .map(|(number, at, action, device, detail)| {
            Ok(AuditRow { number, at, action, device: device.map(columns::device).transpose()?, detail })
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
