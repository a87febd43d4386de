//! Writing what is copied, and what follows from it.

use super::read::{Reader, quoted};
use crate::Error;
use crate::copy::{COPIED, COPYING, Kind, LIVES, Row, TABLES, Table, Value};
use crate::postgres::connect::READ_WHOLE;
use crate::postgres::fault::Fault;
use crate::postgres::partitions::day_of;
use capa_webhooks_core::id::NotificationId;
use std::collections::BTreeSet;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

pub(super) async fn begin(reader: &mut Reader, fingerprint: &[u8]) -> Result<bool, Fault> {
    reader.end().await?;
    let session = &mut reader.session;
    session.begin().await?;
    // The lock under which stores are opened: nobody opens this one in between.
    session.query("SELECT pg_advisory_xact_lock(4854322862930100221)", &[]).await?;
    for name in TABLES.iter().chain([&LIVES]).map(|table| table.name) {
        let row = session.query_one(&format!("SELECT EXISTS (SELECT FROM {name})"), &[]).await?;
        if row.try_get(0)? {
            session.simple("ROLLBACK").await?;
            return Ok(false);
        }
    }
    session.execute("INSERT INTO meta (name, value) VALUES ($1, $2)", &[&COPYING, &fingerprint]).await?;
    session.commit().await?;
    Ok(true)
}

pub(super) async fn write(
    reader: &mut Reader,
    table: &Table,
    rows: &[Row],
    (name, mark): (&str, &[u8]),
) -> Result<(), Fault> {
    reader.end().await?;
    let session = &mut reader.session;
    session.begin().await?;
    if table.by_day
        && let Some(place) = table.place("id")
    {
        let days = rows.iter().map(|row| match &row.values[place] {
            Value::Bytes(bytes) => Ok(day_of(NotificationId::new(id(bytes, table)?))),
            _ => Err(strange(table)),
        });
        let days: Vec<i64> = days.collect::<Result<BTreeSet<_>, Fault>>()?.into_iter().collect();
        session.query("SELECT make_partitions_1($1)", &[&days]).await?;
    }
    let names: Vec<String> = table.columns.iter().map(|column| quoted(column.name)).collect();
    let taken: Vec<&str> = table
        .columns
        .iter()
        .map(|column| match column.kind {
            Kind::Id => "uuid[]",
            Kind::Bytes => "bytea[]",
            Kind::Text | Kind::Numbers | Kind::Names => "text[]",
            Kind::Integer | Kind::Small | Kind::Flag => "bigint[]",
        })
        .collect();
    let taken: Vec<String> = (1..).zip(taken).map(|(at, kind): (usize, _)| format!("${at}::{kind}")).collect();
    let given = table.columns.iter().map(|column| {
        let column_name = quoted(column.name);
        match column.kind {
            Kind::Id | Kind::Bytes | Kind::Text | Kind::Integer => column_name,
            Kind::Small => format!("{column_name}::integer"),
            Kind::Flag => format!("{column_name} <> 0"),
            Kind::Numbers => format!("string_to_array({column_name}, ',')::bigint[]"),
            Kind::Names => format!("string_to_array({column_name}, E'\\n')"),
        }
    });
    let given: Vec<String> = given.collect();
    let (names, taken, given) = (names.join(", "), taken.join(", "), given.join(", "));
    let sql = format!("INSERT INTO {} ({names}) SELECT {given} FROM unnest({taken}) AS i ({names})", table.name);
    let columns = (0..table.columns.len()).map(|at| gather(table, at, rows)).collect::<Result<Vec<_>, Fault>>()?;
    let params: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|column| &**column as &(dyn ToSql + Sync)).collect();
    let written = session.execute(&sql, &params).await?;
    if usize::try_from(written).ok() != Some(rows.len()) {
        let text = format!("{written} of {} rows were written to {}", rows.len(), table.name);
        return Err(Error::Failed(text).into());
    }
    session
        .execute(
            "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            &[&name, &mark],
        )
        .await?;
    session.commit().await
}

/// A column of many rows, as the driver takes it.
fn gather(table: &Table, at: usize, rows: &[Row]) -> Result<Box<dyn ToSql + Sync>, Fault> {
    let values = || rows.iter().map(|row| &row.values[at]);
    Ok(match table.columns[at].kind {
        Kind::Id => {
            let ids = values().map(|value| match value {
                Value::Null => Ok(None),
                Value::Bytes(bytes) => id(bytes, table).map(Some),
                _ => Err(strange(table)),
            });
            Box::new(ids.collect::<Result<Vec<Option<Uuid>>, Fault>>()?)
        }
        Kind::Bytes => {
            let bytes = values().map(|value| match value {
                Value::Null => Ok(None),
                Value::Bytes(bytes) => Ok(Some(bytes.clone())),
                _ => Err(strange(table)),
            });
            Box::new(bytes.collect::<Result<Vec<Option<Vec<u8>>>, Fault>>()?)
        }
        Kind::Text | Kind::Numbers | Kind::Names => {
            let texts = values().map(|value| match value {
                Value::Null => Ok(None),
                Value::Text(text) => Ok(Some(text.clone())),
                _ => Err(strange(table)),
            });
            Box::new(texts.collect::<Result<Vec<Option<String>>, Fault>>()?)
        }
        Kind::Integer | Kind::Small | Kind::Flag => {
            let numbers = values().map(|value| match value {
                Value::Null => Ok(None),
                Value::Integer(number) => Ok(Some(*number)),
                _ => Err(strange(table)),
            });
            Box::new(numbers.collect::<Result<Vec<Option<i64>>, Fault>>()?)
        }
    })
}

/// The counters, anew.
pub(super) async fn derive(reader: &mut Reader) -> Result<(), Fault> {
    reader.end().await?;
    let session = &mut reader.session;
    session.begin().await?;
    session.simple(READ_WHOLE).await?;
    session.simple("DELETE FROM counters; DELETE FROM totals").await?;
    session
        .execute(
            "INSERT INTO counters (partner, hour, event, pending, sent, failed, not_sent)
             SELECT n.partner, (n.accepted_at / 3600000)::integer, n.event, count(q.id),
                    count(*) FILTER (WHERE q.id IS NULL AND a.result = 'SENT'),
                    count(*) FILTER (WHERE q.id IS NULL AND a.result = 'FAILED'),
                    count(*) FILTER (WHERE q.id IS NULL AND a.result = 'NOT_SENT')
             FROM notifications n
             LEFT JOIN queue q ON q.partner = n.partner AND q.id = n.id
             LEFT JOIN (SELECT DISTINCT ON (partner, id) partner, id, result FROM attempts
                        WHERE result IS NOT NULL ORDER BY partner, id, cycle DESC) AS a
                 ON a.partner = n.partner AND a.id = n.id
             GROUP BY 1, 2, 3",
            &[],
        )
        .await?;
    session
        .execute(
            "INSERT INTO totals (partner, event, pending, sent, failed, not_sent)
             SELECT partner, event, sum(pending), sum(sent), sum(failed), sum(not_sent) FROM counters GROUP BY 1, 2",
            &[],
        )
        .await?;
    session.commit().await
}

pub(super) async fn finish(reader: &mut Reader, fingerprint: &[u8]) -> Result<(), Fault> {
    reader.end().await?;
    let session = &mut reader.session;
    session.begin().await?;
    // A node that opened the store before the copy began may have begun its life since.
    session.simple("LOCK TABLE nodes IN SHARE MODE").await?;
    let row = session.query_one("SELECT EXISTS (SELECT FROM nodes)", &[]).await?;
    if row.try_get(0)? {
        return Err(Error::InUse(
            "a node has begun to serve the target meanwhile; remove it and copy again".to_owned(),
        )
        .into());
    }
    session.execute("DELETE FROM meta WHERE name = $1 OR name LIKE $1 || ' %'", &[&COPYING]).await?;
    session.execute("INSERT INTO meta (name, value) VALUES ($1, $2)", &[&COPIED, &fingerprint]).await?;
    session.commit().await
}

pub(super) fn id(bytes: &[u8], table: &Table) -> Result<Uuid, Fault> {
    Uuid::from_slice(bytes).map_err(|_| strange(table))
}

pub(super) fn strange(table: &Table) -> Fault {
    Error::Failed(format!("a value in {} has a type that its column does not have", table.name)).into()
}
