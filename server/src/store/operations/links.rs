//! Keeps the meetings of two devices: offer, request, answer, used up.

use super::{Backend, Conn, Reach, accounts as account_rows};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::links;
use crate::store::{AccountNumber, LinkRow, Links, Millis, NewLink, Refused, Result, Tenant};
use async_trait::async_trait;
use diesel::{ExpressionMethods as _, OptionalExtension as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;
use futures_util::FutureExt as _;
use selkie_protocol::id::{DeviceId, LinkChannel};

#[async_trait]
impl Links for Backend {
    async fn open_link(&self, tenant: Tenant, link: NewLink) -> Result<()> {
        self.write(Reach::Tenant(tenant), (tenant, link), |conn, args| open(conn, args).boxed()).await
    }

    async fn link(&self, tenant: Tenant, channel: LinkChannel, now: Millis) -> Result<Option<LinkRow>> {
        self.read(Reach::Tenant(tenant), (tenant, channel, now), |conn, args| one(conn, args).boxed()).await
    }

    async fn request_link(&self, tenant: Tenant, channel: LinkChannel, request: Vec<u8>, now: Millis) -> Result<()> {
        self.write(Reach::Tenant(tenant), (tenant, channel, request, now), |conn, args| {
            request_once(conn, args).boxed()
        })
        .await
    }

    async fn use_link(
        &self,
        tenant: Tenant,
        channel: LinkChannel,
        now: Millis,
    ) -> Result<Option<(AccountNumber, DeviceId)>> {
        self.write(Reach::Tenant(tenant), (tenant, channel, now), |conn, args| use_up(conn, args).boxed()).await
    }
}

/// Answers a link of an account that has a request and no answer.
pub(super) async fn answer(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    channel: LinkChannel,
    answer: &[u8],
    device: DeviceId,
    now: Millis,
) -> Outcome<()> {
    account_rows::require_device(conn, tenant, account, device).await?;
    let answered = diesel::update(links::table.find((tenant.0, channel.0)))
        .filter(links::account.eq(account.0))
        .filter(links::request.is_not_null())
        .filter(links::answer.is_null())
        .filter(links::expires_at.gt(now))
        .set((links::answer.eq(answer), links::device.eq(device.0)))
        .execute(conn)
        .await?;
    if answered == 0 { Err(Refused::LinkState.into()) } else { Ok(()) }
}

async fn open(conn: &mut Conn, (tenant, link): &(Tenant, NewLink)) -> Outcome<()> {
    account_rows::lock(conn, *tenant, link.account).await?;
    let added = diesel::insert_into(links::table)
        .values((
            links::tenant.eq(tenant.0),
            links::channel.eq(link.channel.0),
            links::account.eq(link.account.0),
            links::offer.eq(&link.offer),
            links::expires_at.eq(link.expires_at),
        ))
        .on_conflict((links::tenant, links::channel))
        .do_nothing()
        .execute(conn)
        .await?;
    if added == 0 { Err(Refused::LinkState.into()) } else { Ok(()) }
}

async fn one(conn: &mut Conn, (tenant, channel, now): &(Tenant, LinkChannel, Millis)) -> Outcome<Option<LinkRow>> {
    type Row = (i64, Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>);
    let row: Option<Row> = links::table
        .find((tenant.0, channel.0))
        .filter(links::expires_at.gt(now))
        .select((links::account, links::offer, links::request, links::answer, links::device))
        .first(conn)
        .await
        .optional()?;
    row.map(|(account, offer, request, answer, device)| {
        let device = device.map(columns::device).transpose()?;
        Ok(LinkRow { account: AccountNumber(account), offer, request, answer, device })
    })
    .transpose()
}

async fn request_once(
    conn: &mut Conn,
    (tenant, channel, request, now): &(Tenant, LinkChannel, Vec<u8>, Millis),
) -> Outcome<()> {
    let requested = diesel::update(links::table.find((tenant.0, channel.0)))
        .filter(links::request.is_null())
        .filter(links::expires_at.gt(now))
        .set(links::request.eq(request))
        .execute(conn)
        .await?;
    if requested == 1 {
        return Ok(());
    }
    match one(conn, &(*tenant, *channel, *now)).await? {
        Some(_) => Err(Refused::LinkState.into()),
        None => Err(Failure::not_found("link")),
    }
}

async fn use_up(
    conn: &mut Conn,
    (tenant, channel, now): &(Tenant, LinkChannel, Millis),
) -> Outcome<Option<(AccountNumber, DeviceId)>> {
    let used: Option<(i64, Option<Vec<u8>>)> = diesel::delete(links::table.find((tenant.0, channel.0)))
        .filter(links::answer.is_not_null())
        .filter(links::expires_at.gt(now))
        .returning((links::account, links::device))
        .get_result(conn)
        .await
        .optional()?;
    match used {
        Some((account, Some(device))) => Ok(Some((AccountNumber(account), columns::device(device)?))),
        Some((_, None)) => Err(Failure::corrupt("link")),
        None => Ok(None),
    }
}
