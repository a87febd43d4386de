//! Deciding whether a request is genuine.
//!
//! A request proves itself in one or both of two forms: `capa-signature`, which covers the body, and the Standard
//! Webhooks trio `webhook-id`, `webhook-timestamp` and `webhook-signature`, which covers id and time as well.
//! [`Verifier::verify`] checks **every form that is present**, and refuses the request if one of them is wrong or if the
//! trio is incomplete. The rest of this module is the two single checks, for receivers that need only one.
//!
//! # What is not guaranteed
//! Nothing signs the *presence* of a header. Whoever captured a request can send it again without the trio, and what is
//! left is a right `capa-signature` with no time and no id. Protection from such a replay rests on the
//! [`DuplicateGuard`](crate::DuplicateGuard), or on a memory of [`Received::body_sha256`] of your own, for ever and not
//! just for the tolerance. The sender of this project always sends the trio: once nothing else sends to you, close the
//! gap with [`Verifier::require_timestamp`].
//!
//! The body must be the bytes as they arrived. Parsing and writing them again is the most common reason why a genuine
//! request looks forged.

mod error;

use std::{fmt, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::Mac as _;

pub use self::error::VerifyError;
use crate::{
    event::Event,
    headers::{CAPA_SIGNATURE, CAPA_WEBHOOKS_TEST, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP},
    hex,
    received::{Proof, Received},
    secret::Secret,
    sign::{Signer, V1_PREFIX},
};

/// How far the time of an attempt and the receiver's clock may be apart, unless set otherwise.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Checks requests against one or several secrets. Made once, shared between threads by reference.
#[derive(Clone)]
pub struct Verifier {
    /// Never empty.
    signers: Vec<Signer>,
    tolerance: Duration,
    timestamp_required: bool,
}

impl Verifier {
    /// A verifier for `secret`, with a tolerance of five minutes.
    pub fn new(secret: &Secret) -> Self {
        Self { signers: vec![Signer::new(secret)], tolerance: DEFAULT_TOLERANCE, timestamp_required: false }
    }

    /// Accepts what `secret` signed too: the next one or the last one, during a rotation.
    #[must_use]
    pub fn also(mut self, secret: &Secret) -> Self {
        self.signers.push(Signer::new(secret));
        self
    }

    /// Lets the time of an attempt and the receiver's clock be this far apart, in either direction. Whole seconds count.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Makes [`verify`](Self::verify) refuse a request that only has `capa-signature`, which a replay could be.
    #[must_use]
    pub fn require_timestamp(mut self) -> Self {
        self.timestamp_required = true;
        self
    }

    /// Checks a whole request and reads its event: the one call that a receiver needs.
    ///
    /// `header` finds the value of a header by its lower-case name, whatever the case in which it arrived; `body` is
    /// the body exactly as it arrived; `now_unix_seconds` is the receiver's clock.
    ///
    /// # Errors
    /// Any signature that is wrong, incomplete or missing, a time outside the tolerance, and a body that is signed
    /// but is no event. Answer with a status other than 200: the sender takes anything else as not delivered.
    pub fn verify<'h>(
        &self,
        header: impl Fn(&str) -> Option<&'h str>,
        body: &[u8],
        now_unix_seconds: i64,
    ) -> Result<Received, VerifyError> {
        let capa_signature = header(CAPA_SIGNATURE);
        let standard = StandardHeaders::find(&header)?;
        if let Some(value) = capa_signature {
            self.verify_capa(value, body)?;
        }
        let proof = match standard {
            Some(StandardHeaders { id, timestamp, signature }) => {
                let timestamp = self.check_standard(id, timestamp, signature, body, now_unix_seconds)?;
                Proof::Timestamped { webhook_id: id.to_owned(), timestamp }
            }
            None if self.timestamp_required => return Err(VerifyError::MissingHeader { header: WEBHOOK_SIGNATURE }),
            None if capa_signature.is_none() => return Err(VerifyError::Unsigned),
            None => Proof::BodyOnly,
        };
        let test_header = header(CAPA_WEBHOOKS_TEST) == Some("true");
        Ok(Received::new(Event::from_slice(body)?, proof, body, test_header))
    }

    /// Checks `capa-signature` by itself. It covers the body only, so a replay passes.
    ///
    /// # Errors
    /// A value that is not 64 lower-case hex digits, or that no secret of this verifier gives for the body.
    pub fn verify_capa(&self, signature_header: &str, body: &[u8]) -> Result<(), VerifyError> {
        let Some(signature) = hex::decode_32(signature_header) else {
            return Err(VerifyError::MalformedHeader {
                header: CAPA_SIGNATURE,
                expected: "64 lower-case hex digits and nothing else",
            });
        };
        if self.signers.iter().any(|signer| signer.over_body(body).verify_slice(&signature).is_ok()) {
            Ok(())
        } else {
            Err(VerifyError::WrongSignature { header: CAPA_SIGNATURE })
        }
    }

    /// Checks the Standard Webhooks trio by itself.
    ///
    /// One right value among several is enough; values of a version other than `v1` are passed over. The time is
    /// judged after the signature, so that "too old" is only ever said of a request that was once genuine.
    ///
    /// # Errors
    /// A header of the wrong form, no right signature, or a time outside the tolerance.
    pub fn verify_standard(
        &self,
        id: &str,
        timestamp_header: &str,
        signature_header: &str,
        body: &[u8],
        now_unix_seconds: i64,
    ) -> Result<(), VerifyError> {
        self.check_standard(id, timestamp_header, signature_header, body, now_unix_seconds).map(|_| ())
    }

    /// The time of the attempt, once everything is found right.
    fn check_standard(
        &self,
        id: &str,
        timestamp_header: &str,
        signature_header: &str,
        body: &[u8],
        now_unix_seconds: i64,
    ) -> Result<i64, VerifyError> {
        // The dot ends the id in the signed text. Were it allowed within, parts of the text could change their roles.
        if id.is_empty() || id.contains('.') {
            return Err(VerifyError::MalformedHeader { header: WEBHOOK_ID, expected: "an id without a dot" });
        }
        let timestamp = read_timestamp(timestamp_header)?;
        let signatures = read_signatures(signature_header)?;
        let matches = self.signers.iter().any(|signer| {
            let mac = signer.over_attempt(id, timestamp_header, body);
            signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
        });
        if !matches {
            return Err(VerifyError::WrongSignature { header: WEBHOOK_SIGNATURE });
        }
        self.check_time(timestamp, now_unix_seconds)?;
        Ok(timestamp)
    }

    fn check_time(&self, timestamp: i64, now: i64) -> Result<(), VerifyError> {
        let apart_seconds = now.abs_diff(timestamp);
        let tolerance_seconds = self.tolerance.as_secs();
        if apart_seconds <= tolerance_seconds {
            Ok(())
        } else if timestamp < now {
            Err(VerifyError::TooOld { age_seconds: apart_seconds, tolerance_seconds })
        } else {
            Err(VerifyError::TooNew { ahead_seconds: apart_seconds, tolerance_seconds })
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("secrets", &self.signers.len())
            .field("tolerance", &self.tolerance)
            .field("timestamp_required", &self.timestamp_required)
            .finish()
    }
}

/// The Standard Webhooks trio as it arrived.
struct StandardHeaders<'h> {
    id: &'h str,
    timestamp: &'h str,
    signature: &'h str,
}

impl<'h> StandardHeaders<'h> {
    /// All three, or `None` when there is none. A part of the trio is an error, because an id or a time that nothing
    /// signs must not be taken for a signed one.
    fn find(header: impl Fn(&str) -> Option<&'h str>) -> Result<Option<Self>, VerifyError> {
        let [id, timestamp, signature] = [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE].map(header);
        if id.is_none() && timestamp.is_none() && signature.is_none() {
            return Ok(None);
        }
        let missing = |header| VerifyError::MissingHeader { header };
        Ok(Some(Self {
            id: id.ok_or_else(|| missing(WEBHOOK_ID))?,
            timestamp: timestamp.ok_or_else(|| missing(WEBHOOK_TIMESTAMP))?,
            signature: signature.ok_or_else(|| missing(WEBHOOK_SIGNATURE))?,
        }))
    }
}

fn read_timestamp(header: &str) -> Result<i64, VerifyError> {
    let malformed = VerifyError::MalformedHeader { header: WEBHOOK_TIMESTAMP, expected: "Unix seconds in digits" };
    // The parser by itself would let a sign through.
    if !header.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed);
    }
    header.parse().map_err(|_| malformed)
}

/// The `v1` values. One that is not base64 can match nothing and is passed over, as long as another one can.
fn read_signatures(header: &str) -> Result<Vec<Vec<u8>>, VerifyError> {
    let signatures: Vec<_> = header
        .split(' ')
        .filter_map(|value| value.strip_prefix(V1_PREFIX))
        .filter_map(|encoded| BASE64_STANDARD.decode(encoded).ok())
        .collect();
    if signatures.is_empty() {
        let expected = "at least one value of the form `v1,` and base64";
        return Err(VerifyError::MalformedHeader { header: WEBHOOK_SIGNATURE, expected });
    }
    Ok(signatures)
}

#[cfg(test)]
mod tests;
