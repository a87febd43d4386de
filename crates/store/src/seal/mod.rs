//! Sealing: how secrets, URLs, payloads and answers are kept at rest.
//!
//! Three layers. The operator's **master key** ([`MasterKey`], a file that no backup of the store carries) seals one
//! random **data key** for each partner; from the data key come the partner's cipher and its hash key
//! (`partner.rs`). So a copy of the store alone opens nothing, and destroying one data key destroys everything that
//! was ever sealed for that partner, in every copy that is younger than the erasure.
//!
//! A sealed value is XChaCha20-Poly1305 under a random 24-byte nonce, written as
//!
//! ```text
//! version (1 byte, = 1) | key id (8) | nonce (24) | ciphertext | tag (16)
//! ```
//!
//! with its place (table, column, partner, row) as associated data: a value that is moved to another row or another
//! column does not open. Key ids are derived from the keys, so the wrong key is told from a damaged value.
//!
//! What must be *found* without being shown (an idempotency key, a transaction, a user) is kept as a keyed hash, which
//! is of no use without the data key, and differs from partner to partner.
//!
//! Random bytes come from the caller ([`Entropy`]).

mod cipher;
mod partner;
mod ring;

pub(crate) use cipher::Place;
pub(crate) use partner::PartnerKeys;
pub(crate) use ring::Keyring;

use cipher::Cipher;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Fills a buffer with random bytes fit for keys.
pub type Entropy = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// The key under which every partner's data key is sealed.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// The key with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new key.
    pub fn generate(entropy: &Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy(&mut *bytes);
        Self(bytes)
    }

    /// Reads the 64 hex digits of [`Self::to_hex`]; `None` if it is anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = Zeroizing::new([0; 32]);
        for (place, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *place = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())?;
        }
        Some(Self(bytes))
    }

    /// The key as 64 lower-case hex digits, as it stands in the key file.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex(&*self.0))
    }

    /// The name of the key, which gives nothing of it away.
    pub fn id(&self) -> MasterKeyId {
        MasterKeyId(self.cipher().id())
    }

    /// The cipher that seals data keys.
    fn cipher(&self) -> Cipher {
        Cipher::new(&self.0)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id())
    }
}

/// Names a master key. A store keeps the id of the key that it was made with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MasterKeyId([u8; 8]);

impl MasterKeyId {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKeyId({self})")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_key_survives_its_text() {
        let key = MasterKey::new(std::array::from_fn(|i| u8::try_from(i * 7 % 256).unwrap()));
        let again = MasterKey::from_hex(&key.to_hex()).unwrap();
        assert_eq!(again.id(), key.id());
        assert_ne!(MasterKey::new([1; 32]).id(), key.id());
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(63), &format!("{}\n", "0".repeat(64)), &"é".repeat(32)] {
            assert!(MasterKey::from_hex(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_master_key_shows_only_its_id() {
        let key = MasterKey::new([0xab; 32]);
        assert!(!format!("{key:?}").contains("abab"));
    }
}
