//! API keys, of partners and of the platform. A revoked key keeps its row, so that its id is never used again.

use super::SqliteStore;
use super::rows::moment;
use crate::{Error, KeyAdded, PartnerKey, PlatformKey, PlatformKeyEntry, Scopes};
use capa_webhooks_core::id::{KeyId, PartnerId};
use capa_webhooks_core::time::Timestamp;
use rusqlite::{OptionalExtension, Row};

impl SqliteStore {
    pub(super) async fn insert_partner_key(&self, key: PartnerKey, now: Timestamp) -> Result<KeyAdded, Error> {
        self.write(1, move |session| {
            if !session.is_active(key.partner)? {
                return Ok(KeyAdded::UnknownPartner);
            }
            let added = session.conn.execute(
                "INSERT INTO api_keys (id, partner, secret_hash, created_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (id) DO NOTHING",
                (key.id.as_bytes(), key.partner.as_bytes(), &key.secret_hash, now.as_millis()),
            )?;
            Ok(if added == 1 { KeyAdded::New } else { KeyAdded::IdTaken })
        })
        .await
    }

    pub(super) async fn valid_partner_key(&self, id: KeyId) -> Result<Option<PartnerKey>, Error> {
        self.readers
            .read(move |tx| {
                let read = |row: &Row<'_>| {
                    Ok(PartnerKey { id, partner: PartnerId::from_bytes(row.get(0)?), secret_hash: row.get(1)? })
                };
                let mut statement = tx
                    .prepare_cached("SELECT partner, secret_hash FROM api_keys WHERE id = ?1 AND revoked_at IS NULL")?;
                Ok(statement.query_row([id.as_bytes()], read).optional()?)
            })
            .await
    }

    pub(super) async fn revoke_key_of(&self, partner: PartnerId, id: KeyId, now: Timestamp) -> Result<bool, Error> {
        self.write(1, move |session| {
            let revoked = session.conn.execute(
                "UPDATE api_keys SET revoked_at = ?3 WHERE id = ?1 AND partner = ?2 AND revoked_at IS NULL",
                (id.as_bytes(), partner.as_bytes(), now.as_millis()),
            )?;
            Ok(revoked == 1)
        })
        .await
    }

    pub(super) async fn insert_platform_key(&self, key: PlatformKey, now: Timestamp) -> Result<KeyAdded, Error> {
        self.write(1, move |session| {
            let PlatformKey { id, secret_hash, scopes, name } = &key;
            let added = session.conn.execute(
                "INSERT INTO platform_keys (id, secret_hash, publish, admin, read, name, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING",
                (id.as_bytes(), secret_hash, scopes.publish, scopes.admin, scopes.read, name, now.as_millis()),
            )?;
            Ok(if added == 1 { KeyAdded::New } else { KeyAdded::IdTaken })
        })
        .await
    }

    pub(super) async fn valid_platform_key(&self, id: KeyId) -> Result<Option<PlatformKey>, Error> {
        self.readers
            .read(move |tx| {
                let mut statement = tx.prepare_cached(
                    "SELECT id, secret_hash, publish, admin, read, name, created_at, revoked_at FROM platform_keys
                     WHERE id = ?1 AND revoked_at IS NULL",
                )?;
                Ok(statement.query_row([id.as_bytes()], platform_key).optional()?.map(|entry| entry.key))
            })
            .await
    }

    pub(super) async fn all_platform_keys(&self) -> Result<Vec<PlatformKeyEntry>, Error> {
        self.readers
            .read(move |tx| {
                let mut statement = tx.prepare_cached(
                    "SELECT id, secret_hash, publish, admin, read, name, created_at, revoked_at FROM platform_keys
                     ORDER BY created_at, id",
                )?;
                Ok(statement.query_map([], platform_key)?.collect::<Result<_, _>>()?)
            })
            .await
    }

    pub(super) async fn revoke_key_of_platform(&self, id: KeyId, now: Timestamp) -> Result<bool, Error> {
        self.write(1, move |session| {
            let revoked = session.conn.execute(
                "UPDATE platform_keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
                (id.as_bytes(), now.as_millis()),
            )?;
            Ok(revoked == 1)
        })
        .await
    }
}

fn platform_key(row: &Row<'_>) -> rusqlite::Result<PlatformKeyEntry> {
    let scopes = Scopes { publish: row.get(2)?, admin: row.get(3)?, read: row.get(4)? };
    let key = PlatformKey { id: KeyId::from_bytes(row.get(0)?), secret_hash: row.get(1)?, scopes, name: row.get(5)? };
    let revoked_at: Option<i64> = row.get(7)?;
    Ok(PlatformKeyEntry { key, created_at: moment(row.get(6)?), revoked_at: revoked_at.map(moment) })
}
