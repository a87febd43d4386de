//! Making signatures: what the server does on every delivery, and what a partner's own tests can do.
//!
//! Two headers prove the same body with the same key. `capa-signature` covers the body alone. `webhook-signature` covers
//! the notification's id and the time of the attempt as well, which is what makes an old request recognisable as old.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{hex, secret::Secret};

/// What stands before the base64 in one value of `webhook-signature`.
pub(crate) const V1_PREFIX: &str = "v1,";

/// A webhook secret made ready for signing.
///
/// The key is worked into the hash state once; each signature starts from a copy of that state. The state is as good as
/// the secret, so it is wiped on drop and `Debug` does not show it. Shared between threads by reference.
#[derive(Clone)]
pub struct Signer {
    keyed: Hmac<Sha256>,
}

impl Signer {
    /// A signer for `secret`. The key is the secret's 64 hex digits as text.
    pub fn new(secret: &Secret) -> Self {
        let keyed = Hmac::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes a key of any length");
        Self { keyed }
    }

    /// The value of `capa-signature`: lower-case hex of the HMAC over exactly these bytes.
    pub fn capa_signature(&self, body: &[u8]) -> String {
        hex::encode(&self.over_body(body).finalize().into_bytes())
    }

    /// One value of `webhook-signature`: `v1,` and the base64 of the HMAC over `id.timestamp.body`.
    ///
    /// `timestamp` is in Unix seconds. `id` should hold no `.`: it is what ends the id in the signed text, and
    /// [`Verifier`](crate::Verifier) refuses such an id.
    pub fn webhook_signature(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mac = self.over_attempt(id, &timestamp.to_string(), body).finalize().into_bytes();
        let mut value = V1_PREFIX.to_owned();
        BASE64_STANDARD.encode_string(mac, &mut value);
        value
    }

    pub(crate) fn over_body(&self, body: &[u8]) -> Hmac<Sha256> {
        self.keyed.clone().chain_update(body)
    }

    /// Takes the timestamp as text, so that a verifier hashes what was sent and not its own spelling of the number.
    pub(crate) fn over_attempt(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        self.keyed
            .clone()
            .chain_update(id)
            .chain_update(".")
            .chain_update(timestamp)
            .chain_update(".")
            .chain_update(body)
    }

    /// Whether both hold the same key, in constant time: the macs of the empty text are compared, never the keys.
    pub(crate) fn same_key(&self, other: &Self) -> bool {
        self.over_body(b"").finalize() == other.over_body(b"").finalize()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(***)")
    }
}

/// The whole of `webhook-signature` while several secrets are valid: one value for each signer, separated by a space.
pub fn webhook_signatures<'a>(
    signers: impl IntoIterator<Item = &'a Signer>,
    id: &str,
    timestamp: i64,
    body: &[u8],
) -> String {
    let mut values = String::new();
    for signer in signers {
        if !values.is_empty() {
            values.push(' ');
        }
        values.push_str(&signer.webhook_signature(id, timestamp, body));
    }
    values
}
