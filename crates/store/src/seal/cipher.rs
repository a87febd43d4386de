//! One key's cipher, and the places that sealed values are bound to.

use capa_webhooks_core::id::{LifeId, NotificationKey, PartnerId};
use chacha20::{R20, hchacha};
use hmac::{Hmac, KeyInit as _, Mac};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Bytes of a nonce.
pub(crate) const NONCE: usize = 24;
const VERSION: u8 = 1;
const ID: usize = 8;
const HEAD: usize = 1 + ID + NONCE;
const TAG: usize = 16;

/// Where a sealed value lies: it opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    DataKey(PartnerId),
    Secret(PartnerId),
    Url(PartnerId),
    Payload(NotificationKey),
    Attempt {
        key: NotificationKey,
        cycle: u32,
        number: u32,
        life: LifeId,
    },
    /// What was published under this id and refused.
    Refused(PartnerId, i64),
}

impl Place {
    /// Table and column, then every part of the row's key; each part has one length, so no two places look alike.
    fn associated_data(&self) -> Vec<u8> {
        let mut data = Vec::with_capacity(80);
        match self {
            Self::DataKey(partner) => {
                data.extend_from_slice(b"partners.data_key\0");
                data.extend_from_slice(partner.as_bytes());
            }
            Self::Secret(partner) => {
                data.extend_from_slice(b"secrets.secret\0");
                data.extend_from_slice(partner.as_bytes());
            }
            Self::Url(partner) => {
                data.extend_from_slice(b"settings.url\0");
                data.extend_from_slice(partner.as_bytes());
            }
            Self::Payload(key) => {
                data.extend_from_slice(b"notifications.sealed\0");
                data.extend_from_slice(key.partner.as_bytes());
                data.extend_from_slice(key.id.as_bytes());
            }
            Self::Attempt { key, cycle, number, life } => {
                data.extend_from_slice(b"attempts.detail\0");
                data.extend_from_slice(key.partner.as_bytes());
                data.extend_from_slice(key.id.as_bytes());
                data.extend_from_slice(&cycle.to_be_bytes());
                data.extend_from_slice(&number.to_be_bytes());
                data.extend_from_slice(life.as_bytes());
            }
            Self::Refused(partner, id) => {
                data.extend_from_slice(b"inbox_refused.sealed\0");
                data.extend_from_slice(partner.as_bytes());
                data.extend_from_slice(&id.to_be_bytes());
            }
        }
        data
    }
}

/// Why a sealed value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// It was sealed under another key.
    OtherKey,
    /// It is cut, changed, or belongs to another place.
    Damaged,
}

/// Seals and opens under one key.
///
/// XChaCha20-Poly1305 from its two halves: HChaCha20 makes a key of its own from the key and the first 16 bytes of the
/// nonce, and under that ring's ChaCha20-Poly1305 seals with the other 8. On values of a few hundred bytes this takes a
/// quarter of the time of the whole cipher from one crate; a test holds it against that one.
pub(crate) struct Cipher {
    id: [u8; ID],
    key: Zeroizing<[u8; 32]>,
}

impl Cipher {
    /// The cipher of a key; the key itself is used for nothing but deriving.
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let mut id = [0; ID];
        id.copy_from_slice(&derive(key, b"capa-webhooks/key-id")[..ID]);
        let sealing = derive(key, b"capa-webhooks/seal");
        Self { id, key: sealing }
    }

    pub(crate) fn id(&self) -> [u8; ID] {
        self.id
    }

    /// Seals `parts`, taken as one text. The nonce must be fresh random bytes.
    pub(crate) fn seal(&self, place: &Place, nonce: [u8; NONCE], parts: &[&[u8]]) -> Vec<u8> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut sealed = Vec::with_capacity(HEAD + length + TAG);
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.id);
        sealed.extend_from_slice(&nonce);
        for part in parts {
            sealed.extend_from_slice(part);
        }
        let (key, nonce) = self.for_one(&nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(place.associated_data()), &mut sealed[HEAD..])
            .expect("a value is shorter than 256 GiB, the only limit of the cipher");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens what [`Self::seal`] made for the same place.
    pub(crate) fn open(&self, place: &Place, sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
        if sealed.len() < HEAD + TAG || sealed[0] != VERSION {
            return Err(Unopened::Damaged);
        }
        let (head, rest) = sealed.split_at(HEAD);
        if head[1..=ID] != self.id {
            return Err(Unopened::OtherKey);
        }
        let (text, tag) = rest.split_at(rest.len() - TAG);
        let nonce = <[u8; NONCE]>::try_from(&head[1 + ID..]).map_err(|_| Unopened::Damaged)?;
        let tag = Tag::try_from(tag).map_err(|_| Unopened::Damaged)?;
        let mut plain = text.to_vec();
        let (key, nonce) = self.for_one(&nonce);
        key.open_in_place_separate_tag(nonce, Aad::from(place.associated_data()), tag, &mut plain, 0..)
            .map_err(|_| Unopened::Damaged)?;
        Ok(plain)
    }

    /// The key and the nonce for one value.
    fn for_one(&self, nonce: &[u8; NONCE]) -> (LessSafeKey, Nonce) {
        let (first, rest) = nonce.split_first_chunk::<16>().expect("a nonce has 24 bytes");
        let key = Zeroizing::new(<[u8; 32]>::from(hchacha::<R20>((&*self.key).into(), first.into())));
        let key = UnboundKey::new(&CHACHA20_POLY1305, &*key).expect("HChaCha20 makes keys of 32 bytes");
        let mut short = [0; 12];
        short[4..].copy_from_slice(rest);
        (LessSafeKey::new(key), Nonce::assume_unique_for_key(short))
    }
}

/// A key for one purpose, from a key for many.
pub(super) fn derive(key: &[u8; 32], label: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(keyed(key).chain_update(label).finalize().into_bytes().into())
}

/// The prepared HMAC of a key.
pub(super) fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of every length")
}

#[cfg(test)]
mod tests {
    use super::*;
    use capa_webhooks_core::id::NotificationId;

    fn key(partner: u8, id: u8) -> NotificationKey {
        NotificationKey { partner: PartnerId::from_bytes([partner; 16]), id: NotificationId::from_bytes([id; 16]) }
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let cipher = Cipher::new(&[7; 32]);
        let life = LifeId::from_bytes([9; 16]);
        let places = [
            Place::DataKey(PartnerId::from_bytes([1; 16])),
            Place::Secret(PartnerId::from_bytes([1; 16])),
            Place::Secret(PartnerId::from_bytes([2; 16])),
            Place::Url(PartnerId::from_bytes([1; 16])),
            Place::Payload(key(1, 1)),
            Place::Payload(key(1, 2)),
            Place::Payload(key(2, 1)),
            Place::Attempt { key: key(1, 1), cycle: 1, number: 1, life },
            Place::Attempt { key: key(1, 1), cycle: 1, number: 2, life },
            Place::Attempt { key: key(1, 1), cycle: 2, number: 1, life },
            Place::Attempt { key: key(1, 1), cycle: 1, number: 1, life: LifeId::from_bytes([8; 16]) },
            Place::Refused(PartnerId::from_bytes([1; 16]), 1),
            Place::Refused(PartnerId::from_bytes([1; 16]), 2),
            Place::Refused(PartnerId::from_bytes([2; 16]), 1),
        ];
        for (sealed_at, place) in places.iter().enumerate() {
            let sealed = cipher.seal(place, [3; NONCE], &[b"some ", b"text"]);
            for (opened_at, other) in places.iter().enumerate() {
                let expected = if sealed_at == opened_at { Ok(b"some text".to_vec()) } else { Err(Unopened::Damaged) };
                assert_eq!(cipher.open(other, &sealed), expected, "{place:?} {other:?}");
            }
        }
    }

    #[test]
    fn it_is_the_cipher_that_others_know() {
        use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305, XNonce};
        let cipher = Cipher::new(&[7; 32]);
        let other = XChaCha20Poly1305::new((&*derive(&[7; 32], b"capa-webhooks/seal")).into());
        let place = Place::Payload(key(1, 1));
        for length in [0, 1, 15, 16, 63, 64, 65, 300, 5_000] {
            let text: Vec<u8> = (0..length).map(|at: usize| at.to_le_bytes()[0]).collect();
            let nonce: [u8; NONCE] = std::array::from_fn(|at| at.to_le_bytes()[0].wrapping_mul(37));
            let mut expected = text.clone();
            let tag = other
                .encrypt_inout_detached(&XNonce::from(nonce), &place.associated_data(), expected.as_mut_slice().into())
                .unwrap();
            expected.extend_from_slice(&tag);
            assert_eq!(cipher.seal(&place, nonce, &[&text])[HEAD..], expected, "{length}");
        }
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let cipher = Cipher::new(&[7; 32]);
        let place = Place::Payload(key(1, 1));
        let sealed = cipher.seal(&place, [3; NONCE], &[b"{}"]);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(cipher.open(&place, &changed).is_err(), "byte {at}");
            assert!(cipher.open(&place, &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_key_is_told_from_damage() {
        let place = Place::Payload(key(1, 1));
        let sealed = Cipher::new(&[7; 32]).seal(&place, [3; NONCE], &[b"{}"]);
        assert_eq!(Cipher::new(&[8; 32]).open(&place, &sealed), Err(Unopened::OtherKey));
    }

    #[test]
    fn nothing_of_the_text_shows() {
        let text = b"firstName lastName firstName lastName";
        let sealed = Cipher::new(&[7; 32]).seal(&Place::Payload(key(1, 1)), [3; NONCE], &[text]);
        assert_eq!(sealed.len(), text.len() + HEAD + TAG);
        assert!(!sealed.windows(4).any(|window| text.windows(4).any(|part| part == window)));
    }
}
