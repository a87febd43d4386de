//! Small steps between rows and words, the same in every engine.

use crate::Error;
use capa_webhooks_core::id::NotificationKey;
use capa_webhooks_core::notification::Status;
use capa_webhooks_core::outcome::{Answer, Failure, FailureKind};
use capa_webhooks_core::time::Timestamp;
use std::fmt::Display;

/// A count as SQL takes it.
pub(crate) fn sql_count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A broken row.
pub(crate) fn corrupt(table: &'static str, column: &'static str, id: impl Display) -> Error {
    Error::Corrupt { table, column, id: id.to_string() }
}

/// The status with a stored name.
pub(crate) fn status(key: NotificationKey, name: Option<&str>) -> Result<Status, Error> {
    // Neither a queue row nor a terminal fact: `examine` calls it stranded.
    name.and_then(Status::from_name).ok_or_else(|| corrupt("attempts", "result", key.id))
}

/// What is sealed of an attempt: the URL that was called, and the body or the message that came of it.
pub(crate) struct AttemptDetail {
    pub(crate) url: String,
    pub(crate) said: Vec<u8>,
}

impl AttemptDetail {
    /// The text to seal, in parts: the length of the URL, the URL, the rest.
    pub(crate) fn parts<'a>(length: &'a [u8; 4], url: &'a str, answer: &'a Answer) -> [&'a [u8]; 3] {
        let said = match answer {
            Answer::Response { body, .. } => body.as_ref(),
            Answer::None(failure) => failure.message.as_bytes(),
        };
        [length, url.as_bytes(), said]
    }

    /// The length that [`Self::parts`] begins with.
    pub(crate) fn length(url: &str) -> [u8; 4] {
        u32::try_from(url.len()).unwrap_or(u32::MAX).to_be_bytes()
    }

    /// Reads what [`Self::parts`] wrote; `None` if it is anything else.
    pub(crate) fn read(plain: &[u8]) -> Option<Self> {
        let (length, rest) = plain.split_first_chunk::<4>()?;
        let (url, said) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        Some(Self { url: std::str::from_utf8(url).ok()?.to_owned(), said: said.to_vec() })
    }
}

/// The answer that a fact tells of; `None` if the class is none of an attempt's.
pub(crate) fn answer(class: &str, http_status: Option<u16>, said: Vec<u8>) -> Option<Answer> {
    if matches!(class, "acked" | "rejected") {
        return Some(Answer::Response { status: http_status?, body: said.into(), retry_after: None });
    }
    let message = String::from_utf8(said).ok()?;
    Some(Answer::None(Failure { kind: FailureKind::from_name(class)?, status: http_status, message }))
}

/// A stored moment.
pub(crate) fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}
