//! The keys of one partner, derived once from its data key.

use super::cipher::{Cipher, NONCE, Place, Unopened, derive, keyed};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// A partner's cipher and hash key. Dropping it wipes both.
pub(crate) struct PartnerKeys {
    cipher: Cipher,
    /// Cloned for each hash, which saves preparing the key each time.
    hash: Hmac<Sha256>,
}

impl PartnerKeys {
    pub(crate) fn new(data_key: &[u8; 32]) -> Self {
        Self { cipher: Cipher::new(data_key), hash: keyed(&derive(data_key, b"capa-webhooks/hash")) }
    }

    /// Seals `parts`, taken as one text. The nonce must be fresh random bytes.
    pub(crate) fn seal(&self, place: &Place, nonce: [u8; NONCE], parts: &[&[u8]]) -> Vec<u8> {
        self.cipher.seal(place, nonce, parts)
    }

    /// Opens what [`Self::seal`] made for the same place.
    pub(crate) fn open(&self, place: &Place, sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
        self.cipher.open(place, sealed)
    }

    /// Tells whether two payloads under one idempotency key are the same.
    pub(crate) fn payload_hash(&self, payload: &[u8]) -> [u8; 16] {
        self.hash(b'p', payload)
    }

    /// Finds an idempotency key.
    pub(crate) fn idempotency_hash(&self, key: &str) -> [u8; 16] {
        self.hash(b'i', key.as_bytes())
    }

    /// Finds a transaction's notifications.
    pub(crate) fn transaction_hash(&self, transaction: &str) -> i64 {
        self.hash(b't', transaction.as_bytes())
    }

    /// Finds a user's notifications.
    pub(crate) fn user_hash(&self, user: &str) -> i64 {
        self.hash(b'u', user.as_bytes())
    }

    /// The purpose comes first, so that the same text under two purposes has two hashes.
    fn hash<T: FromDigest>(&self, purpose: u8, text: &[u8]) -> T {
        T::from_digest(&self.hash.clone().chain_update([purpose]).chain_update(text).finalize().into_bytes().into())
    }
}

/// What is kept of a digest.
trait FromDigest {
    fn from_digest(digest: &[u8; 32]) -> Self;
}

impl FromDigest for [u8; 16] {
    fn from_digest(digest: &[u8; 32]) -> Self {
        let mut kept = [0; 16];
        kept.copy_from_slice(&digest[..16]);
        kept
    }
}

impl FromDigest for i64 {
    fn from_digest(digest: &[u8; 32]) -> Self {
        let mut kept = [0; 8];
        kept.copy_from_slice(&digest[..8]);
        Self::from_be_bytes(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_differ_by_text_purpose_and_partner() {
        let (one, two) = (PartnerKeys::new(&[1; 32]), PartnerKeys::new(&[2; 32]));
        assert_eq!(one.user_hash("a"), PartnerKeys::new(&[1; 32]).user_hash("a"));
        assert_ne!(one.user_hash("a"), one.user_hash("b"));
        assert_ne!(one.user_hash("a"), one.transaction_hash("a"));
        assert_ne!(one.user_hash("a"), two.user_hash("a"));
        assert_ne!(one.payload_hash(b"a"), one.idempotency_hash("a"));
        assert_ne!(one.payload_hash(b"a"), two.payload_hash(b"a"));
    }
}
