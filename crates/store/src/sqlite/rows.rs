//! Small steps between rows and words, shared by the methods.

use super::fault::Fault;
use crate::Error;
use crate::seal::{Keyring, PartnerKeys, Place};
use bytes::Bytes;
use capa_webhooks_core::id::{NotificationKey, PartnerId};
use capa_webhooks_core::notification::Status;
use capa_webhooks_core::outcome::{Answer, Failure, FailureKind};
use capa_webhooks_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use std::fmt::Display;
use std::sync::Arc;

/// A count as SQL takes it.
pub(super) fn sql_count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A broken row.
pub(super) fn corrupt(table: &'static str, column: &'static str, id: impl Display) -> Error {
    Error::Corrupt { table, column, id: id.to_string() }
}

/// The status with a stored name.
pub(super) fn status(key: NotificationKey, name: Option<&str>) -> Result<Status, Error> {
    // Neither a queue row nor a terminal fact: `examine` calls it stranded.
    name.and_then(Status::from_name).ok_or_else(|| corrupt("attempts", "result", key.id))
}

/// The partner's keys; `None` if there is no such partner, or its data key was destroyed, whatever is remembered.
pub(super) fn partner_keys(
    conn: &Connection,
    ring: &Keyring,
    partner: PartnerId,
) -> Result<Option<Arc<PartnerKeys>>, Fault> {
    let mut statement = conn.prepare_cached("SELECT data_key FROM partners WHERE id = ?1")?;
    let sealed: Option<Option<Vec<u8>>> = statement.query_row([partner.as_bytes()], |row| row.get(0)).optional()?;
    Ok(sealed.flatten().map(|sealed| ring.open(partner, &sealed)).transpose()?)
}

/// The payload of a notification, opened.
pub(super) fn payload(conn: &Connection, keys: &PartnerKeys, key: NotificationKey, seq: i64) -> Result<Bytes, Fault> {
    let mut statement = conn.prepare_cached("SELECT sealed FROM notifications WHERE seq = ?1")?;
    let corrupt = || corrupt("notifications", "sealed", key.id);
    let plain = statement
        .query_row([seq], |row| Ok(keys.open(&Place::Payload(key), row.get_ref(0)?.as_blob()?)))
        .optional()?
        .ok_or_else(corrupt)?;
    Ok(plain.map_err(|_| corrupt())?.into())
}

/// What is sealed of an attempt: the URL that was called, and the body or the message that came of it.
pub(super) struct AttemptDetail {
    pub(super) url: String,
    pub(super) said: Vec<u8>,
}

impl AttemptDetail {
    /// The text to seal, in parts: the length of the URL, the URL, the rest.
    pub(super) fn parts<'a>(length: &'a [u8; 4], url: &'a str, answer: &'a Answer) -> [&'a [u8]; 3] {
        let said = match answer {
            Answer::Response { body, .. } => body.as_ref(),
            Answer::None(failure) => failure.message.as_bytes(),
        };
        [length, url.as_bytes(), said]
    }

    /// The length that [`Self::parts`] begins with.
    pub(super) fn length(url: &str) -> [u8; 4] {
        u32::try_from(url.len()).unwrap_or(u32::MAX).to_be_bytes()
    }

    /// Reads what [`Self::parts`] wrote; `None` if it is anything else.
    pub(super) fn read(plain: &[u8]) -> Option<Self> {
        let (length, rest) = plain.split_first_chunk::<4>()?;
        let (url, said) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        Some(Self { url: std::str::from_utf8(url).ok()?.to_owned(), said: said.to_vec() })
    }
}

/// The answer that a fact tells of; `None` if the class is none of an attempt's.
pub(super) fn answer(class: &str, http_status: Option<u16>, said: Vec<u8>) -> Option<Answer> {
    if matches!(class, "acked" | "rejected") {
        return Some(Answer::Response { status: http_status?, body: said.into(), retry_after: None });
    }
    let message = String::from_utf8(said).ok()?;
    Some(Answer::None(Failure { kind: FailureKind::from_name(class)?, status: http_status, message }))
}

/// A stored moment.
pub(super) fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}
