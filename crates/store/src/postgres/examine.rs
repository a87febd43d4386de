//! Proving what the store promises, on a live store, within one transaction that reads.
//!
//! Every notification, queue row and fact is checked. Of the sealed values, every data key, secret, URL and the payload
//! of every pending notification is opened; of the other notifications (payload and attempts) and of what was refused of
//! the inbox every one up to [`MOST_OPENED`], and a sample of about that many beyond.

use super::PostgresStore;
use super::connect::READ_WHOLE;
use super::fault::Fault;
use super::rows::{AttemptDetail, key, sql_count, unsigned};
use super::session::{Session, run};
use crate::seal::{Keyring, PartnerKeys, Place};
use crate::{Error, Examination, Violation};
use capa_webhooks_core::id::{LifeId, NotificationKey, PartnerId};
use capa_webhooks_core::schedule::MOST_RETRIES;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use tokio_postgres::Row;

/// Settled notifications whose sealed values are opened, and refusals.
const MOST_OPENED: i64 = 250_000;
/// Violations of a kind that are reported.
const MOST_REPORTED: usize = 100;

impl PostgresStore {
    pub(super) async fn examine_all(&self) -> Result<Examination, Error> {
        Ok(run!(self.readers, session => examine(session, &self.ring).await))
    }
}

async fn examine(session: &mut Session, ring: &Keyring) -> Result<Examination, Fault> {
    session.set_deadline(None);
    session.begin_reading().await?;
    session.simple(READ_WHOLE).await?;
    let (notifications, pending, owned) = {
        let sql = "SELECT (SELECT count(*) FROM notifications), count(*), count(owner) FROM queue";
        let row = session.query_one(sql, &[]).await?;
        let count = |column| Ok::<_, Fault>(u64::try_from(row.try_get::<_, i64>(column)?).unwrap_or(0));
        (count(0)?, count(1)?, count(2)?)
    };
    let mut violations = Vec::new();
    for (sql, name) in KINDS {
        let found = session.query(sql, &[&sql_count(MOST_REPORTED)]).await?;
        violations.extend(found.iter().map(|row| Ok(name(key(row)?))).collect::<Result<Vec<_>, Fault>>()?);
    }
    violations.extend(dead_owners(session).await?);
    violations.extend(miscounted(session).await?);
    violations.extend(unreadable(session, ring, notifications).await?);
    session.end_reading().await?;
    Ok(Examination { notifications, pending, owned, violations })
}

/// What a notification that a question finds is reported as.
type Name = fn(NotificationKey) -> Violation;

/// What one question each finds: partner and id of the notification.
const KINDS: [(&str, Name); 5] = [
    // Neither a queue row nor a fact that settled its last cycle.
    (
        "SELECT n.partner, n.id FROM notifications n
         WHERE NOT EXISTS (SELECT FROM queue q WHERE q.partner = n.partner AND q.id = n.id)
         AND NOT EXISTS (SELECT FROM attempts a WHERE a.partner = n.partner AND a.id = n.id AND a.result IS NOT NULL
                         AND a.cycle = (SELECT coalesce(max(c.cycle), 1) FROM cycles c
                                        WHERE c.partner = n.partner AND c.id = n.id))
         LIMIT $1",
        Violation::Stranded,
    ),
    // A queue row and a fact that settled its cycle.
    (
        "SELECT q.partner, q.id FROM queue q
         WHERE EXISTS (SELECT FROM attempts a WHERE a.partner = q.partner AND a.id = q.id AND a.cycle = q.cycle
                       AND a.result IS NOT NULL) LIMIT $1",
        Violation::SettledTwice,
    ),
    // Two facts that settled one cycle.
    (
        "SELECT partner, id FROM attempts WHERE result IS NOT NULL GROUP BY partner, id, cycle HAVING count(*) > 1
         LIMIT $1",
        Violation::SettledTwice,
    ),
    // A queue row of no notification, or of another cycle than the last that began.
    (
        "SELECT q.partner, q.id FROM queue q
         WHERE NOT EXISTS (SELECT FROM notifications n WHERE n.partner = q.partner AND n.id = q.id)
         OR q.cycle <> (SELECT coalesce(max(c.cycle), 1) FROM cycles c WHERE c.partner = q.partner AND c.id = q.id)
         LIMIT $1",
        Violation::Orphaned,
    ),
    // More than the first attempt and its retries. Two lives may have made the same one, so numbers are counted, not facts.
    (
        "SELECT partner, id FROM attempts WHERE class <> 'not_sent' GROUP BY partner, id, cycle
         HAVING count(DISTINCT number) > 6 OR max(number) > 6 LIMIT $1",
        Violation::TooManyAttempts,
    ),
];
const _: () = assert!(1 + MOST_RETRIES == 6, "the last question names this number");

async fn dead_owners(session: &mut Session) -> Result<Vec<Violation>, Fault> {
    let sql = "SELECT partner, id, owner FROM queue WHERE owner IS NOT NULL
               AND owner NOT IN (SELECT life FROM nodes WHERE ended_at IS NULL) LIMIT $1";
    let rows = session.query(sql, &[&sql_count(MOST_REPORTED)]).await?;
    rows.iter().map(|row| Ok(Violation::DeadOwner(key(row)?, LifeId::new(row.try_get(2)?)))).collect()
}

/// Partners whose counters, with what is still to be added to them, are not what counting gives, or whose totals are not the
/// sums of their counters.
async fn miscounted(session: &mut Session) -> Result<Vec<Violation>, Fault> {
    let rows = session
        .query(
            "WITH recount AS (
                 SELECT partner, (accepted_at / 3600000)::integer AS hour, event, count(*) FILTER (WHERE status = 'PENDING')
                        AS pending, count(*) FILTER (WHERE status = 'SENT') AS sent,
                        count(*) FILTER (WHERE status = 'FAILED') AS failed,
                        count(*) FILTER (WHERE status = 'NOT_SENT') AS not_sent
                 FROM (SELECT n.partner, n.accepted_at, n.event,
                              CASE WHEN q.id IS NOT NULL THEN 'PENDING' ELSE a.result END AS status
                       FROM notifications n
                       LEFT JOIN queue q ON q.partner = n.partner AND q.id = n.id
                       LEFT JOIN (SELECT DISTINCT ON (partner, id) partner, id, result FROM attempts
                                  WHERE result IS NOT NULL ORDER BY partner, id, cycle DESC) AS a
                           ON a.partner = n.partner AND a.id = n.id) AS each
                 GROUP BY 1, 2, 3),
             counted AS (
                 SELECT partner, hour, event, sum(pending) AS pending, sum(sent) AS sent, sum(failed) AS failed,
                        sum(not_sent) AS not_sent
                 FROM (SELECT partner, hour, event, pending, sent, failed, not_sent FROM counters
                       UNION ALL
                       SELECT partner, hour, event, pending, sent, failed, not_sent FROM each_delta) AS both_of_them
                 GROUP BY 1, 2, 3)
             SELECT partner FROM recount FULL JOIN counted USING (partner, hour, event)
             WHERE (coalesce(recount.pending, 0), coalesce(recount.sent, 0), coalesce(recount.failed, 0),
                    coalesce(recount.not_sent, 0))
             IS DISTINCT FROM (coalesce(counted.pending, 0), coalesce(counted.sent, 0), coalesce(counted.failed, 0),
                               coalesce(counted.not_sent, 0))
             UNION
             SELECT partner FROM totals FULL JOIN (
                 SELECT partner, event, sum(pending) AS pending, sum(sent) AS sent, sum(failed) AS failed,
                        sum(not_sent) AS not_sent
                 FROM counters GROUP BY 1, 2) AS hourly USING (partner, event)
             WHERE (coalesce(totals.pending, 0), coalesce(totals.sent, 0), coalesce(totals.failed, 0),
                    coalesce(totals.not_sent, 0))
             IS DISTINCT FROM (coalesce(hourly.pending, 0), coalesce(hourly.sent, 0), coalesce(hourly.failed, 0),
                               coalesce(hourly.not_sent, 0))
             LIMIT $1",
            &[&sql_count(MOST_REPORTED)],
        )
        .await?;
    rows.iter().map(|row| Ok(Violation::Miscounted(PartnerId::new(row.try_get(0)?)))).collect()
}

/// Everything sealed that does not open.
async fn unreadable(session: &mut Session, ring: &Keyring, notifications: u64) -> Result<Vec<Violation>, Fault> {
    let mut found = Unreadable::default();
    let mut keys = HashMap::new();
    for row in session.query("SELECT id, data_key FROM partners WHERE data_key IS NOT NULL", &[]).await? {
        let partner = PartnerId::new(row.try_get(0)?);
        // Not from memory: what lies in the database is to be proved.
        match ring.open_afresh(partner, row.try_get(1)?) {
            Ok(opened) => drop(keys.insert(partner, opened)),
            Err(_) => found.add("partners", &partner),
        }
    }
    for (table, sql) in [
        ("secrets", "SELECT partner, secret FROM secrets"),
        ("settings", "SELECT partner, url FROM settings WHERE url IS NOT NULL"),
    ] {
        for row in session.query(sql, &[]).await? {
            let partner = PartnerId::new(row.try_get(0)?);
            let place = if table == "secrets" { Place::Secret(partner) } else { Place::Url(partner) };
            let sealed: &[u8] = row.try_get(1)?;
            if keys.get(&partner).is_some_and(|keys| keys.open(&place, sealed).is_err()) {
                found.add(table, &partner);
            }
        }
    }
    let step = one_in(i64::try_from(notifications).unwrap_or(i64::MAX));
    let sample = format!("(hashtextextended(n.id::text, 0) % {step} = 0)");
    let pending = "EXISTS (SELECT FROM queue q WHERE q.partner = n.partner AND q.id = n.id)";
    let sql = format!("SELECT n.partner, n.id, n.sealed FROM notifications n WHERE {sample} OR {pending}");
    each(session, "payloads", &sql, |row| {
        let key = key(row)?;
        // An erased partner's values are meant not to open.
        let Some(keys) = keys.get(&key.partner) else { return Ok(()) };
        if keys.open(&Place::Payload(key), row.try_get(2)?).is_err() {
            found.add("notifications", &key.id);
        }
        Ok(())
    })
    .await?;
    let sql = format!(
        "SELECT n.partner, n.id, n.cycle, n.number, n.life, n.detail FROM attempts n
         WHERE n.class <> 'not_sent' AND ({sample} OR {pending})"
    );
    each(session, "details", &sql, |row| {
        let key = key(row)?;
        let Some(keys) = keys.get(&key.partner) else { return Ok(()) };
        if !attempt_opens(key, keys, row)? {
            found.add("attempts", &key.id);
        }
        Ok(())
    })
    .await?;
    unreadable_refusals(session, &keys, &mut found).await?;
    Ok(found.violations())
}

/// Events that were refused of the inbox and do not open.
async fn unreadable_refusals(
    session: &mut Session,
    keys: &HashMap<PartnerId, PartnerKeys>,
    found: &mut Unreadable,
) -> Result<(), Fault> {
    let row = session.query_one("SELECT count(*) FROM inbox_refused WHERE sealed IS NOT NULL", &[]).await?;
    let step = one_in(row.try_get(0)?);
    let sql = format!("SELECT partner, id, sealed FROM inbox_refused WHERE sealed IS NOT NULL AND id % {step} = 0");
    each(session, "refusals", &sql, |row| {
        let (partner, id) = (PartnerId::new(row.try_get(0)?), row.try_get(1)?);
        let Some(keys) = keys.get(&partner) else { return Ok(()) };
        if keys.open(&Place::Refused(partner, id), row.try_get(2)?).is_err() {
            found.add("inbox_refused", &id);
        }
        Ok(())
    })
    .await
}

/// One in so many is opened of so many.
fn one_in(count: i64) -> i64 {
    count / MOST_OPENED + 1
}

/// Whether an attempt's row opens that goes on with cycle, number, life and detail.
fn attempt_opens(key: NotificationKey, keys: &PartnerKeys, row: &Row) -> Result<bool, Fault> {
    let (cycle, number) = (unsigned(row.try_get(2)?), unsigned(row.try_get(3)?));
    let place = Place::Attempt { key, cycle, number, life: LifeId::new(row.try_get(4)?) };
    let sealed: Option<&[u8]> = row.try_get(5)?;
    let plain = sealed.and_then(|sealed| keys.open(&place, sealed).ok());
    Ok(plain.as_deref().and_then(AttemptDetail::read).is_some())
}

/// Looks at every row of a question, a thousand at a time.
async fn each(
    session: &mut Session,
    cursor: &str,
    sql: &str,
    mut look: impl FnMut(&Row) -> Result<(), Fault>,
) -> Result<(), Fault> {
    session.simple(&format!("DECLARE {cursor} NO SCROLL CURSOR FOR {sql}")).await?;
    loop {
        let rows = session.query(&format!("FETCH 1000 FROM {cursor}"), &[]).await?;
        if rows.is_empty() {
            return session.simple(&format!("CLOSE {cursor}")).await;
        }
        rows.iter().try_for_each(&mut look)?;
    }
}

/// What does not open, by table.
#[derive(Default)]
struct Unreadable(BTreeMap<&'static str, Vec<String>>);

impl Unreadable {
    fn add(&mut self, table: &'static str, id: &dyn Display) {
        let ids = self.0.entry(table).or_default();
        if ids.len() < MOST_REPORTED {
            ids.push(id.to_string());
        }
    }

    fn violations(self) -> Vec<Violation> {
        let each = |(table, ids): (_, Vec<_>)| ids.into_iter().map(move |id| Violation::Unreadable { table, id });
        self.0.into_iter().flat_map(each).collect()
    }
}
