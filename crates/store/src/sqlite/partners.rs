//! Partners and their settings.

use super::SqliteStore;
use super::fault::Fault;
use super::rows::{corrupt, moment, partner_keys, sql_count};
use crate::seal::{Keyring, PartnerKeys, Place};
use crate::{Created, Error, NewPartner, Partner, PartnerChange, SecretText};
use capa_webhooks_core::id::{KeyId, PartnerId, SettingsId};
use capa_webhooks_core::settings::{AckRule, Choices, RateLimit, Settings, SettingsChange};
use capa_webhooks_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

impl SqliteStore {
    pub(super) async fn make_partner(&self, new: NewPartner, now: Timestamp) -> Result<Created, Error> {
        let (data_key, keys) = self.ring.make(new.id);
        let secret = keys.seal(&Place::Secret(new.id), self.ring.nonce(), &[new.secret.0.as_bytes()]);
        let url = new.url.as_ref().map(|url| keys.seal(&Place::Url(new.id), self.ring.nonce(), &[url.as_bytes()]));
        self.write(1, move |session| {
            session.forget();
            let conn = &session.conn;
            if conn.prepare_cached("SELECT 1 FROM partners WHERE id = ?1")?.exists([new.id.as_bytes()])? {
                return Ok(Created::IdTaken);
            }
            if conn.prepare_cached("SELECT 1 FROM api_keys WHERE id = ?1")?.exists([new.key.id.as_bytes()])? {
                return Ok(Created::KeyTaken);
            }
            let (id, at) = (new.id.as_bytes(), now.as_millis());
            conn.execute(
                "INSERT INTO partners (id, name, disabled, state, data_key, created_at, updated_at)
                 VALUES (?1, ?2, 0, 'active', ?3, ?4, ?4)",
                (id, &new.name, &data_key, at),
            )?;
            conn.execute(
                "INSERT INTO settings (partner, id, url, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4)",
                (id, new.settings.as_bytes(), &url, at),
            )?;
            conn.execute("INSERT INTO secrets (partner, secret, created_at) VALUES (?1, ?2, ?3)", (id, &secret, at))?;
            conn.execute(
                "INSERT INTO api_keys (id, partner, secret_hash, created_at) VALUES (?1, ?2, ?3, ?4)",
                (new.key.id.as_bytes(), id, &new.key.secret_hash, at),
            )?;
            Ok(Created::New)
        })
        .await
    }

    pub(super) async fn one_partner(&self, id: PartnerId) -> Result<Option<Partner>, Error> {
        let ring = Arc::clone(&self.ring);
        self.readers.read(move |tx| partner(tx, &ring, id)).await
    }

    pub(super) async fn many_partners(&self, after: Option<PartnerId>, limit: usize) -> Result<Vec<Partner>, Error> {
        let ring = Arc::clone(&self.ring);
        self.readers
            .read(move |tx| {
                let after: &[u8] = after.as_ref().map_or(&[], |after| after.as_bytes());
                let mut statement = tx.prepare_cached(
                    "SELECT id FROM partners WHERE state = 'active' AND id > ?1 ORDER BY id LIMIT ?2",
                )?;
                let ids: Vec<[u8; 16]> =
                    statement.query_map((after, sql_count(limit)), |row| row.get(0))?.collect::<Result<_, _>>()?;
                let open = |id| partner(tx, &ring, PartnerId::from_bytes(id)).transpose();
                ids.into_iter().filter_map(open).collect()
            })
            .await
    }

    pub(super) async fn change_partner(
        &self,
        id: PartnerId,
        change: PartnerChange,
        now: Timestamp,
    ) -> Result<Option<Partner>, Error> {
        let ring = Arc::clone(&self.ring);
        self.write(1, move |session| {
            session.forget();
            let changed = session.conn.execute(
                "UPDATE partners SET name = coalesce(?2, name), disabled = coalesce(?3, disabled), updated_at = ?4
                 WHERE id = ?1 AND state = 'active'",
                (id.as_bytes(), &change.name, change.disabled, now.as_millis()),
            )?;
            if changed == 0 { Ok(None) } else { partner(&session.conn, &ring, id) }
        })
        .await
    }

    pub(super) async fn change_settings_of(
        &self,
        id: PartnerId,
        change: SettingsChange,
        now: Timestamp,
    ) -> Result<Option<Settings>, Error> {
        let ring = Arc::clone(&self.ring);
        self.write(1, move |session| {
            let conn = &session.conn;
            if !conn
                .prepare_cached("SELECT 1 FROM partners WHERE id = ?1 AND state = 'active'")?
                .exists([id.as_bytes()])?
            {
                return Ok(None);
            }
            let keys = partner_keys(conn, &ring, id)?.ok_or_else(|| corrupt("partners", "data_key", id))?;
            let settings = change.clone().apply(settings(conn, &keys, id)?, now);
            let Settings { url, choices, .. } = &settings;
            let url = url.as_ref().map(|url| keys.seal(&Place::Url(id), ring.nonce(), &[url.as_bytes()]));
            conn.execute(
                "UPDATE settings SET url = ?2, ack_rule = ?3, retry_delays = ?4, attempt_timeout = ?5,
                 max_in_flight = ?6, rate_limit = ?7, events = ?8, updated_at = ?9 WHERE partner = ?1",
                (
                    id.as_bytes(),
                    url,
                    choices.ack_rule.map(AckRule::as_str),
                    choices.retry_delays.as_deref().map(delays_text),
                    choices.attempt_timeout.map(millis),
                    choices.max_in_flight.map(NonZeroU16::get),
                    choices.rate_limit.map(|rate| rate.thousandths().get()),
                    choices.events.as_ref().map(|events| events.join("\n")),
                    now.as_millis(),
                ),
            )?;
            Ok(Some(settings))
        })
        .await
    }
}

impl SqliteStore {
    pub(super) async fn mark_failing(&self, id: PartnerId, since: Option<Timestamp>) -> Result<bool, Error> {
        self.write(1, move |session| {
            let marked = session.conn.execute(
                "UPDATE partners SET failing_since = ?2 WHERE id = ?1 AND state = 'active'",
                (id.as_bytes(), since.map(Timestamp::as_millis)),
            )?;
            Ok(marked == 1)
        })
        .await
    }

    /// Reads every partner's row: it is asked for once, at the start.
    pub(super) async fn marked_failing(&self) -> Result<Vec<(PartnerId, Timestamp)>, Error> {
        self.readers
            .read(|tx| {
                let mut statement = tx.prepare_cached(
                    "SELECT id, failing_since FROM partners
                     WHERE state = 'active' AND failing_since IS NOT NULL ORDER BY id",
                )?;
                let rows =
                    statement.query_map([], |row| Ok((PartnerId::from_bytes(row.get(0)?), moment(row.get(1)?))))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }
}

/// A partner, whole; `None` if there is none, or it is being erased.
fn partner(conn: &Connection, ring: &Keyring, id: PartnerId) -> Result<Option<Partner>, Fault> {
    let found = conn
        .prepare_cached(
            "SELECT name, disabled, created_at, updated_at FROM partners WHERE id = ?1 AND state = 'active'",
        )?
        .query_row([id.as_bytes()], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
        })
        .optional()?;
    let Some((name, disabled, created_at, updated_at)) = found else { return Ok(None) };
    let keys = partner_keys(conn, ring, id)?.ok_or_else(|| corrupt("partners", "data_key", id))?;
    let settings = settings(conn, &keys, id)?;
    let sealed: Vec<u8> = conn
        .prepare_cached("SELECT secret FROM secrets WHERE partner = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0))?;
    let damaged = || corrupt("secrets", "secret", id);
    let secret = keys.open(&Place::Secret(id), &sealed).map_err(|_| damaged())?;
    let secret = String::from_utf8(secret).map_err(|_| damaged())?;
    let api_keys = conn
        .prepare_cached("SELECT id FROM api_keys WHERE partner = ?1 AND revoked_at IS NULL ORDER BY id")?
        .query_map([id.as_bytes()], |row| Ok(KeyId::from_bytes(row.get(0)?)))?
        .collect::<Result<_, _>>()?;
    Ok(Some(Partner {
        id,
        name,
        disabled,
        created_at: moment(created_at),
        updated_at: moment(updated_at).max(settings.updated_at),
        settings,
        secret: SecretText(Zeroizing::new(secret)),
        keys: api_keys,
    }))
}

fn settings(conn: &Connection, keys: &PartnerKeys, partner: PartnerId) -> Result<Settings, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT id, url, ack_rule, retry_delays, attempt_timeout, max_in_flight, rate_limit, events, created_at,
                updated_at
         FROM settings WHERE partner = ?1",
    )?;
    let mut rows = statement.query([partner.as_bytes()])?;
    let row = rows.next()?.ok_or_else(|| corrupt("settings", "partner", partner))?;
    let damaged = |column| corrupt("settings", column, partner);
    let url = match row.get::<_, Option<Vec<u8>>>(1)? {
        Some(sealed) => {
            let plain = keys.open(&Place::Url(partner), &sealed).map_err(|_| damaged("url"))?;
            Some(String::from_utf8(plain).map_err(|_| damaged("url"))?)
        }
        None => None,
    };
    let ack_rule: Option<String> = row.get(2)?;
    let retry_delays: Option<String> = row.get(3)?;
    let max_in_flight: Option<u16> = row.get(5)?;
    let rate_limit: Option<u32> = row.get(6)?;
    let events: Option<String> = row.get(7)?;
    Ok(Settings {
        id: SettingsId::from_bytes(row.get(0)?),
        url,
        choices: Choices {
            ack_rule: ack_rule.map(|name| AckRule::from_name(&name).ok_or_else(|| damaged("ack_rule"))).transpose()?,
            retry_delays: retry_delays.map(|text| delays(&text).ok_or_else(|| damaged("retry_delays"))).transpose()?,
            attempt_timeout: row.get::<_, Option<u64>>(4)?.map(Duration::from_millis),
            max_in_flight: max_in_flight
                .map(|most| NonZeroU16::new(most).ok_or_else(|| damaged("max_in_flight")))
                .transpose()?,
            rate_limit: rate_limit
                .map(|rate| RateLimit::from_thousandths(rate).ok_or_else(|| damaged("rate_limit")))
                .transpose()?,
            events: events.map(|text| text.lines().map(str::to_owned).collect()),
        },
        created_at: moment(row.get(8)?),
        updated_at: moment(row.get(9)?),
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn delays_text(delays: &[Duration]) -> String {
    delays.iter().map(|delay| millis(*delay).to_string()).collect::<Vec<_>>().join(",")
}

fn delays(text: &str) -> Option<Vec<Duration>> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(|part| part.parse().ok().map(Duration::from_millis)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_survive_their_text() {
        for list in [vec![], vec![0], vec![0, 60_000, 15 * 60_000]] {
            let list: Vec<_> = list.into_iter().map(Duration::from_millis).collect();
            assert_eq!(delays(&delays_text(&list)), Some(list));
        }
        assert_eq!(delays("1,x"), None);
    }
}
