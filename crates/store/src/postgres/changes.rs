//! Who changed: what tells every node to read a partner or a key anew.

use super::PostgresStore;
use super::fault::Fault;
use super::lives::count;
use super::rows::sql_count;
use super::session::{Session, run};
use crate::{Changes, Error};
use capa_webhooks_core::id::{KeyId, PartnerId};
use uuid::Uuid;

/// Changes that are told at a time.
const MOST: i64 = 10_000;

impl PostgresStore {
    /// Of what is older than a day nothing is told: whoever has not asked for so long reads everything anew.
    pub(super) async fn changes_after(&self, after: u64) -> Result<Changes, Error> {
        Ok(run!(self.readers, session => changes(session, after, MOST).await))
    }
}

async fn changes(session: &mut Session, after: u64, most: i64) -> Result<Changes, Fault> {
    let from = i64::try_from(after).unwrap_or(i64::MAX);
    // One statement, so that the newest number and the changes up to it are of one moment. There is a row without a change
    // if nothing is new: then the number tells whether the database was set back.
    let sql = "SELECT newest.number, told.number, told.partner, told.key FROM change_number AS newest
               LEFT JOIN LATERAL (SELECT number, partner, key FROM changes WHERE number > $1 ORDER BY number LIMIT $2)
                   AS told ON true
               ORDER BY told.number";
    let rows = session.query(sql, &[&from, &most]).await?;
    let mut changes = Changes::default();
    for row in &rows {
        // Where there are more than are told at a time, the last that is told.
        let cut = sql_count(rows.len()) == most;
        let upto = if cut { row.try_get::<_, Option<i64>>(1)? } else { None };
        changes.upto = count(upto.map_or_else(|| row.try_get(0), Ok)?);
        changes.partners.extend(row.try_get::<_, Option<Uuid>>(2)?.map(PartnerId::new));
        changes.keys.extend(row.try_get::<_, Option<Uuid>>(3)?.map(KeyId::new));
    }
    changes.partners.sort_unstable();
    changes.partners.dedup();
    changes.keys.sort_unstable();
    changes.keys.dedup();
    Ok(changes)
}

/// Tells that a partner changed, within the transaction that changes it: the last statement of it, because from now to the
/// commit nobody else can change a partner or a key.
pub(super) async fn partner_changed(session: &mut Session, partner: PartnerId) -> Result<(), Fault> {
    session.query("SELECT tell_change_1($1, NULL)", &[&partner.uuid()]).await?;
    Ok(())
}

/// Tells that a key changed; see [`partner_changed`].
pub(super) async fn key_changed(session: &mut Session, key: KeyId) -> Result<(), Fault> {
    session.query("SELECT tell_change_1(NULL, $1)", &[&key.uuid()]).await?;
    Ok(())
}
