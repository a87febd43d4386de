//! Typed events.
//!
//! A body is one flat JSON object: `type`, `event`, then the event's own fields. Reading one is tolerant wherever the
//! sender may grow. A type or event that this version does not know is kept as such, and every field without a place of
//! its own stays in `further`. Refused is only what could not be acted on: a body that is no such object, or one without
//! the ids that say whom it is about.
//!
//! Amounts and rates are strings and stay strings: no sum of money passes through a binary fraction. Should one ever
//! arrive as anything but a string, it is left in `further` as it is.
//!
//! `Debug` shows type and name of an event and nothing else, because the rest is about a person.

mod name;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, error::Category};
use thiserror::Error;

pub use self::name::{KycEventName, TransactionEventName};

const KYC: &str = "KYC";
const TRANSACTION: &str = "TRANSACTION";

/// Something that happened, as told by the body of a webhook.
///
/// Serialises to the same fields and values, though not to the same bytes: never sign or verify what it gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", try_from = "Map<String, Value>")]
#[non_exhaustive]
#[expect(
    clippy::large_enum_variant,
    reason = "events are handled one at a time; a box would only stand in the way of matching"
)]
pub enum Event {
    /// The identification of a user has moved on.
    #[serde(rename = "KYC")]
    Kyc(KycEvent),
    /// A transaction has moved on.
    #[serde(rename = "TRANSACTION")]
    Transaction(TransactionEvent),
    /// An event of a type that this version does not know.
    #[serde(untagged)]
    Other(OtherEvent),
}

/// An event about the identification of a user.
#[derive(Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KycEvent {
    /// What happened.
    pub event: KycEventName,
    /// The partner's own id of the user.
    pub external_user_id: String,
    /// The fields that have no place of their own, in the order sent.
    #[serde(flatten)]
    pub further: Map<String, Value>,
}

/// An event about a transaction. Which optional fields are present depends on the event.
#[derive(Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransactionEvent {
    /// What happened.
    pub event: TransactionEventName,
    /// The partner's own id of the user.
    pub external_user_id: String,
    /// The transaction.
    pub transaction_id: String,
    /// The user's first name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// The user's last name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    /// Name of the blockchain, such as `Polygon PoS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blockchain: Option<String>,
    /// Code of the crypto currency, such as `USDC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crypto_currency: Option<String>,
    /// Code of the fiat currency, such as `MXN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fiat_currency: Option<String>,
    /// Decimal amount in the fiat currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fiat_amount: Option<String>,
    /// Decimal amount in the crypto currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crypto_amount: Option<String>,
    /// Decimal exchange rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange_rate: Option<String>,
    /// The fields that have no place of their own, in the order sent.
    #[serde(flatten)]
    pub further: Map<String, Value>,
}

/// An event of a type that this version does not know.
#[derive(Clone, PartialEq, Serialize)]
pub struct OtherEvent {
    /// The type as sent.
    #[serde(rename = "type")]
    pub type_name: String,
    /// The name of the event as sent.
    #[serde(rename = "event")]
    pub event_name: String,
    /// All other fields, in the order sent.
    #[serde(flatten)]
    pub further: Map<String, Value>,
}

impl Event {
    /// Reads the body of a webhook.
    ///
    /// This proves nothing about where the body is from: [`Verifier::verify`](crate::Verifier::verify) does, and then
    /// hands out the event.
    ///
    /// # Errors
    /// A body that is no JSON object, or whose `type`, `event` or required ids are missing or no strings.
    pub fn from_slice(body: &[u8]) -> Result<Self, EventError> {
        let fields: Map<String, Value> = serde_json::from_slice(body).map_err(|error| EventError::of_json(&error))?;
        Self::try_from(fields)
    }

    /// The type as sent, such as `KYC`.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Kyc(_) => KYC,
            Self::Transaction(_) => TRANSACTION,
            Self::Other(event) => &event.type_name,
        }
    }

    /// The name of the event as sent, such as `VERIFIED_USER`.
    pub fn event_name(&self) -> &str {
        match self {
            Self::Kyc(event) => event.event.as_str(),
            Self::Transaction(event) => event.event.as_str(),
            Self::Other(event) => &event.event_name,
        }
    }

    /// The partner's own id of the user; absent only where an unknown type has none.
    pub fn external_user_id(&self) -> Option<&str> {
        match self {
            Self::Kyc(event) => Some(&event.external_user_id),
            Self::Transaction(event) => Some(&event.external_user_id),
            Self::Other(event) => event.further.get("externalUserId")?.as_str(),
        }
    }

    /// The transaction that the event is about, if it is about one.
    pub fn transaction_id(&self) -> Option<&str> {
        match self {
            Self::Transaction(event) => Some(&event.transaction_id),
            Self::Kyc(KycEvent { further, .. }) | Self::Other(OtherEvent { further, .. }) => {
                further.get("transactionId")?.as_str()
            }
        }
    }
}

impl TryFrom<Map<String, Value>> for Event {
    type Error = EventError;

    fn try_from(mut fields: Map<String, Value>) -> Result<Self, EventError> {
        let type_name = required(&mut fields, "type")?;
        let event_name = required(&mut fields, "event")?;
        Ok(match type_name.as_str() {
            KYC => Self::Kyc(KycEvent {
                event: event_name.into(),
                external_user_id: required(&mut fields, "externalUserId")?,
                further: fields,
            }),
            TRANSACTION => Self::Transaction(TransactionEvent {
                event: event_name.into(),
                external_user_id: required(&mut fields, "externalUserId")?,
                transaction_id: required(&mut fields, "transactionId")?,
                first_name: optional(&mut fields, "firstName"),
                last_name: optional(&mut fields, "lastName"),
                blockchain: optional(&mut fields, "blockchain"),
                crypto_currency: optional(&mut fields, "cryptoCurrency"),
                fiat_currency: optional(&mut fields, "fiatCurrency"),
                fiat_amount: optional(&mut fields, "fiatAmount"),
                crypto_amount: optional(&mut fields, "cryptoAmount"),
                exchange_rate: optional(&mut fields, "exchangeRate"),
                further: fields,
            }),
            _ => Self::Other(OtherEvent { type_name, event_name, further: fields }),
        })
    }
}

fn required(fields: &mut Map<String, Value>, field: &'static str) -> Result<String, EventError> {
    if !fields.contains_key(field) {
        return Err(EventError::MissingField { field });
    }
    optional(fields, field).ok_or(EventError::NotAString { field })
}

/// Takes the field out if it is a string, and otherwise leaves it to stay among the further ones.
fn optional(fields: &mut Map<String, Value>, field: &str) -> Option<String> {
    if !fields.get(field)?.is_string() {
        return None;
    }
    // `shift_remove` rather than `remove`, which would move the last field into the gap and so lose the order.
    match fields.shift_remove(field) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// Why a body is not an event. Holds positions and names of fields, never what is in them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EventError {
    /// The body is no JSON, or ends early.
    #[error("the body is not valid JSON (line {line}, column {column})")]
    NotJson {
        /// Line at which reading failed, counted from 1.
        line: usize,
        /// Column at which reading failed.
        column: usize,
    },
    /// The body is JSON, but not an object.
    #[error("the body is JSON but not an object")]
    NotAnObject,
    /// A field that every event of this type has is missing.
    #[error("the event has no field `{field}`")]
    MissingField {
        /// Name of the field.
        field: &'static str,
    },
    /// A field that must be a string is something else.
    #[error("the event's field `{field}` is not a string")]
    NotAString {
        /// Name of the field.
        field: &'static str,
    },
}

impl EventError {
    /// The parser's own message is dropped, because it can quote the value that it stumbled over.
    fn of_json(error: &serde_json::Error) -> Self {
        match error.classify() {
            Category::Data => Self::NotAnObject,
            Category::Io | Category::Syntax | Category::Eof => {
                Self::NotJson { line: error.line(), column: error.column() }
            }
        }
    }
}

impl fmt::Debug for KycEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_of(f, "KycEvent", KYC, self.event.as_str())
    }
}

impl fmt::Debug for TransactionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_of(f, "TransactionEvent", TRANSACTION, self.event.as_str())
    }
}

impl fmt::Debug for OtherEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_of(f, "OtherEvent", &self.type_name, &self.event_name)
    }
}

fn debug_of(f: &mut fmt::Formatter<'_>, of: &str, type_name: &str, event_name: &str) -> fmt::Result {
    f.debug_struct(of).field("type", &type_name).field("event", &event_name).finish_non_exhaustive()
}

#[cfg(test)]
mod tests;
