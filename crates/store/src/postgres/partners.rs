//! Partners and their settings.

use super::PostgresStore;
use super::changes::{key_changed, partner_changed};
use super::fault::Fault;
use super::rows::{corrupt, moment, partner_keys, sql_count};
use super::session::{Session, run};
use crate::seal::{Keyring, PartnerKeys, Place};
use crate::{Created, Error, NewPartner, Partner, PartnerChange, SecretText};
use capa_webhooks_core::id::{KeyId, PartnerId, SettingsId};
use capa_webhooks_core::settings::{AckRule, Choices, RateLimit, Settings, SettingsChange};
use capa_webhooks_core::time::Timestamp;
use std::num::NonZeroU16;
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;
use zeroize::Zeroizing;

impl PostgresStore {
    pub(super) async fn make_partner(&self, new: NewPartner, now: Timestamp) -> Result<Created, Error> {
        let (data_key, keys) = self.ring.make(new.id);
        let secret = keys.seal(&Place::Secret(new.id), self.ring.nonce(), &[new.secret.0.as_bytes()]);
        let url = new.url.as_ref().map(|url| keys.seal(&Place::Url(new.id), self.ring.nonce(), &[url.as_bytes()]));
        let sealed = Sealed { data_key, secret, url };
        Ok(run!(self.claims, session => create(session, &new, &sealed, now).await))
    }

    pub(super) async fn one_partner(&self, id: PartnerId) -> Result<Option<Partner>, Error> {
        Ok(run!(self.readers, session => partners(session, &self.ring, &[id.uuid()]).await).pop())
    }

    pub(super) async fn many_partners(&self, after: Option<PartnerId>, limit: usize) -> Result<Vec<Partner>, Error> {
        Ok(run!(self.readers, session => page(session, &self.ring, after, limit).await))
    }

    pub(super) async fn change_partner(
        &self,
        id: PartnerId,
        change: PartnerChange,
        now: Timestamp,
    ) -> Result<Option<Partner>, Error> {
        Ok(run!(self.claims, session => update(session, &self.ring, id, &change, now).await))
    }

    pub(super) async fn change_settings_of(
        &self,
        id: PartnerId,
        change: SettingsChange,
        now: Timestamp,
    ) -> Result<Option<Settings>, Error> {
        Ok(run!(self.claims, session => update_settings(session, &self.ring, id, &change, now).await))
    }

    pub(super) async fn mark_failing(&self, id: PartnerId, since: Option<Timestamp>) -> Result<bool, Error> {
        Ok(run!(self.claims, session => mark(session, id, since).await))
    }

    pub(super) async fn marked_failing(&self) -> Result<Vec<(PartnerId, Timestamp)>, Error> {
        Ok(run!(self.readers, session => marked(session).await))
    }
}

/// What is sealed of a new partner.
struct Sealed {
    data_key: Vec<u8>,
    secret: Vec<u8>,
    url: Option<Vec<u8>>,
}

async fn create(session: &mut Session, new: &NewPartner, sealed: &Sealed, now: Timestamp) -> Result<Created, Fault> {
    let (id, key, at) = (new.id.uuid(), new.key.id.uuid(), now.as_millis());
    session.begin().await?;
    let inserted = session
        .execute(
            "INSERT INTO partners (id, name, state, data_key, created_at, updated_at)
             VALUES ($1, $2, 'active', $3, $4, $4) ON CONFLICT (id) DO NOTHING",
            &[&id, &new.name, &sealed.data_key, &at],
        )
        .await?;
    if inserted == 0 {
        session.simple("ROLLBACK").await?;
        return Ok(Created::IdTaken);
    }
    let inserted = session
        .execute(
            "INSERT INTO api_keys (id, partner, secret_hash, created_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (id) DO NOTHING",
            &[&key, &id, &new.key.secret_hash.as_slice(), &at],
        )
        .await?;
    if inserted == 0 {
        session.simple("ROLLBACK").await?;
        return Ok(Created::KeyTaken);
    }
    session
        .execute(
            "INSERT INTO settings (partner, id, url, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)",
            &[&id, &new.settings.uuid(), &sealed.url, &at],
        )
        .await?;
    session
        .execute("INSERT INTO secrets (partner, secret, created_at) VALUES ($1, $2, $3)", &[&id, &sealed.secret, &at])
        .await?;
    partner_changed(session, new.id).await?;
    key_changed(session, new.key.id).await?;
    session.commit().await?;
    Ok(Created::New)
}

async fn page(
    session: &mut Session,
    ring: &Keyring,
    after: Option<PartnerId>,
    limit: usize,
) -> Result<Vec<Partner>, Fault> {
    let rows = session
        .query(
            "SELECT id FROM partners WHERE state = 'active' AND ($1::uuid IS NULL OR id > $1) ORDER BY id LIMIT $2",
            &[&after.map(PartnerId::uuid), &sql_count(limit)],
        )
        .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    partners(session, ring, &ids).await
}

async fn update(
    session: &mut Session,
    ring: &Keyring,
    id: PartnerId,
    change: &PartnerChange,
    now: Timestamp,
) -> Result<Option<Partner>, Fault> {
    session.begin().await?;
    let changed = session
        .execute(
            "UPDATE partners SET name = coalesce($2, name), disabled = coalesce($3, disabled), updated_at = $4
             WHERE id = $1 AND state = 'active'",
            &[&id.uuid(), &change.name, &change.disabled, &now.as_millis()],
        )
        .await?;
    if changed == 0 {
        session.simple("ROLLBACK").await?;
        return Ok(None);
    }
    let partner = partners(session, ring, &[id.uuid()]).await?.pop();
    partner_changed(session, id).await?;
    session.commit().await?;
    Ok(partner)
}

async fn update_settings(
    session: &mut Session,
    ring: &Keyring,
    id: PartnerId,
    change: &SettingsChange,
    now: Timestamp,
) -> Result<Option<Settings>, Fault> {
    session.begin().await?;
    // Locked, so that of two changes at once the second builds on the first.
    let locked = "SELECT id FROM partners WHERE id = $1 AND state = 'active' FOR UPDATE";
    if session.query_opt(locked, &[&id.uuid()]).await?.is_none() {
        session.simple("ROLLBACK").await?;
        return Ok(None);
    }
    let keys = partner_keys(session, ring, id).await?.ok_or_else(|| corrupt("partners", "data_key", id))?;
    let sql = "SELECT id, url, ack_rule, retry_delays, attempt_timeout, max_in_flight, rate_limit, events, created_at,
                      updated_at FROM settings WHERE partner = $1";
    let row = session.query_one(sql, &[&id.uuid()]).await?;
    let settings = change.clone().apply(read_settings(&row, 0, &keys, id)?, now);
    let Settings { url, choices, .. } = &settings;
    let url = url.as_ref().map(|url| keys.seal(&Place::Url(id), ring.nonce(), &[url.as_bytes()]));
    let delays: Option<Vec<i64>> =
        choices.retry_delays.as_ref().map(|delays| delays.iter().copied().map(millis).collect());
    session
        .execute(
            "UPDATE settings SET url = $2, ack_rule = $3, retry_delays = $4, attempt_timeout = $5, max_in_flight = $6,
             rate_limit = $7, events = $8, updated_at = $9 WHERE partner = $1",
            &[
                &id.uuid(),
                &url,
                &choices.ack_rule.map(AckRule::as_str),
                &delays,
                &choices.attempt_timeout.map(millis),
                &choices.max_in_flight.map(|most| i32::from(most.get())),
                &choices.rate_limit.map(|rate| i64::from(rate.thousandths().get())),
                &choices.events,
                &now.as_millis(),
            ],
        )
        .await?;
    partner_changed(session, id).await?;
    session.commit().await?;
    Ok(Some(settings))
}

async fn mark(session: &mut Session, id: PartnerId, since: Option<Timestamp>) -> Result<bool, Fault> {
    let sql = "UPDATE partners SET failing_since = $2 WHERE id = $1 AND state = 'active' RETURNING id";
    Ok(!session.commit_one(sql, &[&id.uuid(), &since.map(Timestamp::as_millis)]).await?.is_empty())
}

/// Reads every partner's row: it is asked for once, at the start.
async fn marked(session: &mut Session) -> Result<Vec<(PartnerId, Timestamp)>, Fault> {
    let sql = "SELECT id, failing_since FROM partners WHERE state = 'active' AND failing_since IS NOT NULL ORDER BY id";
    let rows = session.query(sql, &[]).await?;
    rows.iter().map(|row| Ok((PartnerId::new(row.try_get(0)?), moment(row.try_get(1)?)))).collect()
}

/// These partners, whole, by id; those that do not exist or are being erased are left out.
async fn partners(session: &mut Session, ring: &Keyring, ids: &[Uuid]) -> Result<Vec<Partner>, Fault> {
    let rows = session
        .query(
            "SELECT p.id, p.name, p.disabled, p.created_at, p.updated_at, p.data_key, k.secret,
                    ARRAY(SELECT a.id FROM api_keys a WHERE a.partner = p.id AND a.revoked_at IS NULL ORDER BY a.id),
                    s.id, s.url, s.ack_rule, s.retry_delays, s.attempt_timeout, s.max_in_flight, s.rate_limit, s.events,
                    s.created_at, s.updated_at
             FROM partners p LEFT JOIN secrets k ON k.partner = p.id LEFT JOIN settings s ON s.partner = p.id
             WHERE p.id = ANY ($1) AND p.state = 'active' ORDER BY p.id",
            &[&ids],
        )
        .await?;
    rows.iter().map(|row| partner(row, ring)).collect()
}

fn partner(row: &Row, ring: &Keyring) -> Result<Partner, Fault> {
    let id = PartnerId::new(row.try_get(0)?);
    let data_key: Option<&[u8]> = row.try_get(5)?;
    let keys = ring.open(id, data_key.ok_or_else(|| corrupt("partners", "data_key", id))?)?;
    let damaged = || corrupt("secrets", "secret", id);
    let sealed: Option<&[u8]> = row.try_get(6)?;
    let secret = keys.open(&Place::Secret(id), sealed.ok_or_else(damaged)?).map_err(|_| damaged())?;
    let secret = Zeroizing::new(String::from_utf8(secret).map_err(|_| damaged())?);
    let api_keys: Vec<Uuid> = row.try_get(7)?;
    let settings = read_settings(row, 8, &keys, id)?;
    Ok(Partner {
        id,
        name: row.try_get(1)?,
        disabled: row.try_get(2)?,
        created_at: moment(row.try_get(3)?),
        updated_at: moment(row.try_get(4)?).max(settings.updated_at),
        settings,
        secret: SecretText(secret),
        keys: api_keys.into_iter().map(KeyId::new).collect(),
    })
}

/// The settings in a row, from column `at` on.
fn read_settings(row: &Row, at: usize, keys: &PartnerKeys, partner: PartnerId) -> Result<Settings, Fault> {
    let damaged = |column| corrupt("settings", column, partner);
    let url = match row.try_get::<_, Option<&[u8]>>(at + 1)? {
        Some(sealed) => {
            let plain = keys.open(&Place::Url(partner), sealed).map_err(|_| damaged("url"))?;
            Some(String::from_utf8(plain).map_err(|_| damaged("url"))?)
        }
        None => None,
    };
    let ack_rule: Option<&str> = row.try_get(at + 2)?;
    let retry_delays: Option<Vec<i64>> = row.try_get(at + 3)?;
    let attempt_timeout: Option<i64> = row.try_get(at + 4)?;
    let max_in_flight: Option<i32> = row.try_get(at + 5)?;
    let rate_limit: Option<i64> = row.try_get(at + 6)?;
    Ok(Settings {
        id: SettingsId::new(row.try_get(at)?),
        url,
        choices: Choices {
            ack_rule: ack_rule.map(|name| AckRule::from_name(name).ok_or_else(|| damaged("ack_rule"))).transpose()?,
            retry_delays: retry_delays.map(|delays| delays.into_iter().map(duration).collect()),
            attempt_timeout: attempt_timeout.map(duration),
            max_in_flight: max_in_flight
                .map(|most| u16::try_from(most).ok().and_then(NonZeroU16::new).ok_or_else(|| damaged("max_in_flight")))
                .transpose()?,
            rate_limit: rate_limit
                .map(|rate| u32::try_from(rate).ok().and_then(RateLimit::from_thousandths))
                .map(|rate| rate.ok_or_else(|| damaged("rate_limit")))
                .transpose()?,
            events: row.try_get(at + 7)?,
        },
        created_at: moment(row.try_get(at + 8)?),
        updated_at: moment(row.try_get(at + 9)?),
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
