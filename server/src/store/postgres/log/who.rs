//! What every request is held against first, asked for many at once: sessions, and the vaults of accounts.

use super::super::operations::sessions::session_row;
use super::{Arguments, Work, arrays, fixed, get, position};
use crate::store::failure::{Failure, Outcome};
use crate::store::{AccountNumber, SessionRow, Tenant, VaultNumber, VaultRow};
use selkie_protocol::id::{SessionId, VaultId};
use selkie_protocol::log::Head;
use tokio_postgres::Row;

arrays!(Named {
    i: i32,
    tenant: i64,
    session: &'a [u8],
});

arrays!(Accounts { i: i32, tenant: i64, account: i64 });

pub(super) fn ask_for_sessions(named: &[(Tenant, SessionId)]) -> Work<'_> {
    let mut asked = Named::default();
    for (i, (tenant, session)) in (0i32..).zip(named) {
        asked.push(i, tenant.0, &session.0);
    }
    vec![(|statements| &statements.sessions, asked.into_arguments())]
}

pub(super) fn read_sessions(asked: usize, rows: Vec<Vec<Row>>) -> Outcome<Vec<Option<SessionRow>>> {
    let mut found: Vec<Option<SessionRow>> = (0..asked).map(|_| None).collect();
    for row in rows.iter().flatten() {
        let of_account =
            (get(row, 1)?, get(row, 2)?, get(row, 3)?, get(row, 4)?, get(row, 5)?, get(row, 6)?, get(row, 7)?);
        let of_session =
            (get(row, 8)?, get(row, 9)?, get(row, 10)?, get(row, 11)?, get(row, 12)?, get(row, 13)?, get(row, 14)?);
        let of_tokens = (get(row, 15)?, get(row, 16)?, get(row, 17)?);
        let of_life = (get(row, 18)?, get(row, 19)?, get(row, 20)?, get(row, 21)?, get(row, 22)?);
        *whose(&mut found, row)? = Some(session_row((of_account, of_session, of_tokens, of_life))?);
    }
    Ok(found)
}

pub(super) fn ask_for_vaults(accounts: &[(Tenant, AccountNumber)]) -> Work<'_> {
    let mut asked = Accounts::default();
    for (i, (tenant, account)) in (0i32..).zip(accounts) {
        asked.push(i, tenant.0, account.0);
    }
    vec![(|statements| &statements.vaults_of, asked.into_arguments())]
}

pub(super) fn read_vaults(asked: usize, rows: Vec<Vec<Row>>) -> Outcome<Vec<Vec<VaultRow>>> {
    let mut found: Vec<Vec<VaultRow>> = (0..asked).map(|_| Vec::new()).collect();
    for row in rows.iter().flatten() {
        let vault = VaultRow {
            vault: VaultNumber(get::<i32>(row, 1)?.into()),
            vid: VaultId(fixed(row, 2, "vault id")?),
            app: get(row, 3)?,
            head: Head { n: position(row, 4)?, h: fixed(row, 5, "chain value")? },
        };
        whose(&mut found, row)?.push(vault);
    }
    Ok(found)
}

fn whose<'f, T>(found: &'f mut [T], row: &Row) -> Outcome<&'f mut T> {
    let i = usize::try_from(get::<i32>(row, 0)?).unwrap_or(usize::MAX);
    found.get_mut(i).ok_or(Failure::bug("nobody asked"))
}
