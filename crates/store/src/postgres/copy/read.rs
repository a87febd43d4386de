//! Reading tables whole, through cursors.

use super::write::{id, strange};
use crate::copy::{Kind, Row, Table, Value};
use crate::postgres::connect::READ_WHOLE;
use crate::postgres::fault::Fault;
use crate::postgres::session::Session;
use uuid::Uuid;

/// Rows that are fetched at a time. Few, because a row may be long.
const FETCH: usize = 256;

/// A session that reads tables whole.
pub(super) struct Reader {
    pub(super) session: Session,
    /// Whether a transaction that reads has begun.
    pub(super) reading: bool,
    /// The table whose cursor is open.
    table: Option<&'static Table>,
}

impl Reader {
    pub(super) fn new(session: Session) -> Self {
        Self { session, reading: false, table: None }
    }

    /// Begins a transaction that reads what is there now.
    pub(super) async fn begin(&mut self) -> Result<(), Fault> {
        self.end().await?;
        self.session.begin_reading().await?;
        self.reading = true;
        self.session.simple(READ_WHOLE).await
    }

    /// Ends it.
    pub(super) async fn end(&mut self) -> Result<(), Fault> {
        self.table = None;
        if std::mem::take(&mut self.reading) {
            self.session.end_reading().await?;
        }
        Ok(())
    }

    pub(super) async fn count(&mut self, table: &Table) -> Result<u64, Fault> {
        let row = self.session.query_one(&format!("SELECT count(*) FROM {}", table.name), &[]).await?;
        Ok(u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0))
    }

    pub(super) async fn declare(&mut self, table: &'static Table, after: Option<&[Value]>) -> Result<(), Fault> {
        if let Some(before) = self.table.take() {
            self.session.simple(&format!("CLOSE copied_{}", before.name)).await?;
        }
        let order: Vec<String> = table.postgres_order.iter().map(|name| quoted(name)).collect();
        let wanted = table.postgres_order.iter().copied().chain(table.columns.iter().map(|column| column.name));
        let wanted: Vec<String> = wanted.map(|name| selected(table, name)).collect();
        let rest = match after {
            None => String::new(),
            Some(values) => {
                let values = values.iter().zip(table.postgres_order).map(|(value, name)| literal(table, name, value));
                let values = values.collect::<Result<Vec<_>, Fault>>()?;
                // Said twice, because the comparison of rows leaves out no partition.
                format!("WHERE ({}) > ({}) AND {} >= {}", order.join(", "), values.join(", "), order[0], values[0])
            }
        };
        let sql = format!(
            "DECLARE copied_{} NO SCROLL CURSOR FOR SELECT {} FROM {} {rest} ORDER BY {}",
            table.name,
            wanted.join(", "),
            table.name,
            order.join(", ")
        );
        self.session.simple(&sql).await?;
        self.table = Some(table);
        Ok(())
    }

    pub(super) async fn fetch(&mut self, most: usize, bytes: usize) -> Result<Vec<Row>, Fault> {
        let Some(table) = self.table else { return Ok(Vec::new()) };
        let (mut rows, mut weight) = (Vec::new(), 0);
        while rows.len() < most.max(1) && weight < bytes.max(1) {
            let fetch = (most.max(1) - rows.len()).min(FETCH);
            let fetched = self.session.query(&format!("FETCH {fetch} FROM copied_{}", table.name), &[]).await?;
            if fetched.is_empty() {
                break;
            }
            for row in &fetched {
                let row = read_row(table, row)?;
                weight += row.weight();
                rows.push(row);
            }
        }
        Ok(rows)
    }
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

fn kind(table: &Table, name: &str) -> Kind {
    table.place(name).map_or(Kind::Text, |at| table.columns[at].kind)
}

/// A column in the form that both engines share.
fn selected(table: &Table, name: &str) -> String {
    let column = quoted(name);
    match kind(table, name) {
        Kind::Id | Kind::Bytes | Kind::Text | Kind::Integer => column,
        Kind::Small => format!("{column}::bigint"),
        Kind::Flag => format!("{column}::integer::bigint"),
        Kind::Numbers => format!("array_to_string({column}, ',')"),
        Kind::Names => format!("array_to_string({column}, E'\\n')"),
    }
}

fn read_row(table: &Table, row: &tokio_postgres::Row) -> Result<Row, Fault> {
    let names = table.postgres_order.iter().copied().chain(table.columns.iter().map(|column| column.name));
    let value = |at: usize, name: &str| -> Result<Value, Fault> {
        Ok(match kind(table, name) {
            Kind::Id => row.try_get::<_, Option<Uuid>>(at)?.map(|id| Value::Bytes(id.as_bytes().to_vec())),
            Kind::Bytes => row.try_get::<_, Option<Vec<u8>>>(at)?.map(Value::Bytes),
            Kind::Integer | Kind::Small | Kind::Flag => row.try_get::<_, Option<i64>>(at)?.map(Value::Integer),
            Kind::Text | Kind::Numbers | Kind::Names => row.try_get::<_, Option<String>>(at)?.map(Value::Text),
        }
        .unwrap_or(Value::Null))
    };
    let mut key = names.enumerate().map(|(at, name)| value(at, name)).collect::<Result<Vec<_>, Fault>>()?;
    let values = key.split_off(table.postgres_order.len());
    Ok(Row { key, values })
}

/// A value of a key, as SQL: a cursor takes no parameters.
fn literal(table: &Table, name: &str, value: &Value) -> Result<String, Fault> {
    Ok(match (kind(table, name), value) {
        (Kind::Id, Value::Bytes(bytes)) => format!("'{}'::uuid", id(bytes, table)?),
        (Kind::Bytes, Value::Bytes(bytes)) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("'\\x{digits}'::bytea")
        }
        (Kind::Integer | Kind::Small, Value::Integer(number)) => format!("({number})"),
        _ => return Err(strange(table)),
    })
}
