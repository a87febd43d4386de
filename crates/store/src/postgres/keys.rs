//! API keys, of partners and of the platform. A revoked key keeps its row, so that its id is never used again.

use super::PostgresStore;
use super::changes::{key_changed, partner_changed};
use super::fault::Fault;
use super::rows::{corrupt, moment};
use super::session::{Params, Session, run};
use crate::{Error, KeyAdded, PartnerKey, PlatformKey, PlatformKeyEntry, Scopes};
use capa_webhooks_core::id::{KeyId, PartnerId};
use capa_webhooks_core::time::Timestamp;
use tokio_postgres::Row;

impl PostgresStore {
    pub(super) async fn insert_partner_key(&self, key: PartnerKey, now: Timestamp) -> Result<KeyAdded, Error> {
        Ok(run!(self.claims, session => add(session, &key, now).await))
    }

    pub(super) async fn valid_partner_key(&self, id: KeyId) -> Result<Option<PartnerKey>, Error> {
        Ok(run!(self.readers, session => partner_key(session, id).await))
    }

    pub(super) async fn revoke_key_of(&self, partner: PartnerId, id: KeyId, now: Timestamp) -> Result<bool, Error> {
        let sql = "UPDATE api_keys SET revoked_at = $3 WHERE id = $1 AND partner = $2 AND revoked_at IS NULL";
        let params: Params<'_> = &[&id.uuid(), &partner.uuid(), &now.as_millis()];
        Ok(run!(self.claims, session => change_key(session, sql, params, id, Some(partner)).await))
    }

    pub(super) async fn insert_platform_key(&self, key: PlatformKey, now: Timestamp) -> Result<KeyAdded, Error> {
        let PlatformKey { id, secret_hash, scopes, name } = &key;
        let sql = "INSERT INTO platform_keys (id, secret_hash, publish, admin, read, name, created_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING";
        let params: Params<'_> = &[
            &id.uuid(),
            &secret_hash.as_slice(),
            &scopes.publish,
            &scopes.admin,
            &scopes.read,
            name,
            &now.as_millis(),
        ];
        let added = run!(self.claims, session => change_key(session, sql, params, *id, None).await);
        Ok(if added { KeyAdded::New } else { KeyAdded::IdTaken })
    }

    pub(super) async fn valid_platform_key(&self, id: KeyId) -> Result<Option<PlatformKey>, Error> {
        let sql = "SELECT id, secret_hash, publish, admin, read, name, created_at, revoked_at FROM platform_keys
                   WHERE id = $1 AND revoked_at IS NULL";
        let params: Params<'_> = &[&id.uuid()];
        Ok(run!(self.readers, session => platform_keys(session, sql, params).await).pop().map(|entry| entry.key))
    }

    pub(super) async fn all_platform_keys(&self) -> Result<Vec<PlatformKeyEntry>, Error> {
        let sql = "SELECT id, secret_hash, publish, admin, read, name, created_at, revoked_at FROM platform_keys
                   ORDER BY created_at, id";
        Ok(run!(self.readers, session => platform_keys(session, sql, &[]).await))
    }

    pub(super) async fn revoke_key_of_platform(&self, id: KeyId, now: Timestamp) -> Result<bool, Error> {
        let sql = "UPDATE platform_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
        let params: Params<'_> = &[&id.uuid(), &now.as_millis()];
        Ok(run!(self.claims, session => change_key(session, sql, params, id, None).await))
    }
}

async fn add(session: &mut Session, key: &PartnerKey, now: Timestamp) -> Result<KeyAdded, Fault> {
    session.begin().await?;
    // Locked against being erased in between.
    let locked = "SELECT id FROM partners WHERE id = $1 AND state = 'active' FOR UPDATE";
    if session.query_opt(locked, &[&key.partner.uuid()]).await?.is_none() {
        session.simple("ROLLBACK").await?;
        return Ok(KeyAdded::UnknownPartner);
    }
    let added = session
        .execute(
            "INSERT INTO api_keys (id, partner, secret_hash, created_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (id) DO NOTHING",
            &[&key.id.uuid(), &key.partner.uuid(), &key.secret_hash.as_slice(), &now.as_millis()],
        )
        .await?;
    if added == 0 {
        session.simple("ROLLBACK").await?;
        return Ok(KeyAdded::IdTaken);
    }
    partner_changed(session, key.partner).await?;
    key_changed(session, key.id).await?;
    session.commit().await?;
    Ok(KeyAdded::New)
}

/// Makes or revokes a key with one statement, and tells the others; whether there was anything to do.
async fn change_key(
    session: &mut Session,
    sql: &str,
    params: Params<'_>,
    id: KeyId,
    partner: Option<PartnerId>,
) -> Result<bool, Fault> {
    session.begin().await?;
    let changed = session.execute(sql, params).await?;
    if changed == 0 {
        session.simple("ROLLBACK").await?;
        return Ok(false);
    }
    if let Some(partner) = partner {
        partner_changed(session, partner).await?;
    }
    key_changed(session, id).await?;
    session.commit().await?;
    Ok(true)
}

async fn partner_key(session: &mut Session, id: KeyId) -> Result<Option<PartnerKey>, Fault> {
    let sql = "SELECT partner, secret_hash FROM api_keys WHERE id = $1 AND revoked_at IS NULL";
    let Some(row) = session.query_opt(sql, &[&id.uuid()]).await? else { return Ok(None) };
    let secret_hash = hash(&row, 1).map_err(|()| corrupt("api_keys", "secret_hash", id))?;
    Ok(Some(PartnerKey { id, partner: PartnerId::new(row.try_get(0)?), secret_hash }))
}

async fn platform_keys(session: &mut Session, sql: &str, params: Params<'_>) -> Result<Vec<PlatformKeyEntry>, Fault> {
    let rows = session.query(sql, params).await?;
    let entry = |row: &Row| {
        let id = KeyId::new(row.try_get(0)?);
        let secret_hash = hash(row, 1).map_err(|()| corrupt("platform_keys", "secret_hash", id))?;
        let scopes = Scopes { publish: row.try_get(2)?, admin: row.try_get(3)?, read: row.try_get(4)? };
        let key = PlatformKey { id, secret_hash, scopes, name: row.try_get(5)? };
        let revoked_at: Option<i64> = row.try_get(7)?;
        Ok(PlatformKeyEntry { key, created_at: moment(row.try_get(6)?), revoked_at: revoked_at.map(moment) })
    };
    rows.iter().map(entry).collect()
}

fn hash(row: &Row, column: usize) -> Result<[u8; 32], ()> {
    row.try_get::<_, &[u8]>(column).ok().and_then(|hash| hash.try_into().ok()).ok_or(())
}
