//! Why a request is refused, in words that tell a receiver's author where to look.

use thiserror::Error;

use crate::event::EventError;

/// Why a request is refused. Safe to log: holds no secret, no signature and nothing of the body.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// No signature at all.
    #[error(
        "the request is not signed: it has neither `capa-signature` nor `webhook-signature`; \
         if the sender did sign it, look for a proxy that removes headers"
    )]
    Unsigned,
    /// A header is missing that must be there beside the others.
    #[error("the request has no header `{header}`; look for a proxy that removes it")]
    MissingHeader {
        /// Name of the header.
        header: &'static str,
    },
    /// A header does not have the form that it must have.
    #[error("the header `{header}` is malformed; expected {expected}")]
    MalformedHeader {
        /// Name of the header.
        header: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
    /// The signature belongs to another body or another secret.
    #[error(
        "the signature in `{header}` does not match; either the body is not byte for byte what arrived \
         (was it parsed and written again?), or the secret is not the one that signed it, or the request is forged"
    )]
    WrongSignature {
        /// Name of the header.
        header: &'static str,
    },
    /// The signature is right, but the attempt was made too long ago.
    #[error(
        "the request is {age_seconds} s old, and {tolerance_seconds} s are allowed; \
         either it is a replay, or the receiver's clock is fast"
    )]
    TooOld {
        /// How long ago the attempt was made.
        age_seconds: u64,
        /// How long ago it may be made.
        tolerance_seconds: u64,
    },
    /// The signature is right, but the attempt claims to be made in the future.
    #[error(
        "the request is dated {ahead_seconds} s in the future, and {tolerance_seconds} s are allowed; \
         the receiver's clock is slow, or the sender's is fast"
    )]
    TooNew {
        /// How far in the future.
        ahead_seconds: u64,
        /// How far it may be.
        tolerance_seconds: u64,
    },
    /// The signatures are right, but the body is not an event.
    #[error("the request is genuine, but {0}")]
    Event(EventError),
}

impl From<EventError> for VerifyError {
    fn from(error: EventError) -> Self {
        Self::Event(error)
    }
}
