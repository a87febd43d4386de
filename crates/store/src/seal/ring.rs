//! The partners' keys that are open in memory.

use super::cipher::{Cipher, NONCE, Place};
use super::{Entropy, MasterKey, PartnerKeys};
use crate::Error;
use capa_webhooks_core::id::PartnerId;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use zeroize::Zeroizing;

/// Opens data keys once and keeps them, so that the way of an event needs no query for them (about 1 KiB a partner).
///
/// A partner's data key never changes, and an id is never used again, so what is kept is never wrong; whether the
/// partner still exists is for the caller to check in the store.
pub(crate) struct Keyring {
    master: Cipher,
    entropy: Entropy,
    opened: RwLock<HashMap<PartnerId, Arc<PartnerKeys>>>,
}

impl Keyring {
    pub(crate) fn new(master: &MasterKey, entropy: Entropy) -> Self {
        Self { master: master.cipher(), entropy, opened: RwLock::default() }
    }

    /// The partner's keys, if they were opened before.
    pub(crate) fn cached(&self, partner: PartnerId) -> Option<Arc<PartnerKeys>> {
        self.opened.read().unwrap_or_else(PoisonError::into_inner).get(&partner).cloned()
    }

    /// Opens a sealed data key and keeps it.
    ///
    /// # Errors
    /// The value is not this partner's data key under this master key.
    pub(crate) fn open(&self, partner: PartnerId, sealed: &[u8]) -> Result<Arc<PartnerKeys>, Error> {
        if let Some(keys) = self.cached(partner) {
            return Ok(keys);
        }
        let keys = Arc::new(self.open_afresh(partner, sealed)?);
        self.opened.write().unwrap_or_else(PoisonError::into_inner).insert(partner, Arc::clone(&keys));
        Ok(keys)
    }

    /// Opens a sealed data key whether or not it was opened before, to prove that it can be.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_afresh(&self, partner: PartnerId, sealed: &[u8]) -> Result<PartnerKeys, Error> {
        let corrupt = || Error::Corrupt { table: "partners", column: "data_key", id: partner.to_string() };
        let plain = Zeroizing::new(self.master.open(&Place::DataKey(partner), sealed).map_err(|_| corrupt())?);
        Ok(PartnerKeys::new(plain.as_slice().try_into().map_err(|_| corrupt())?))
    }

    /// A new data key, sealed, and the keys that come of it. Kept only once it was read back from the store.
    pub(crate) fn make(&self, partner: PartnerId) -> (Vec<u8>, PartnerKeys) {
        let mut data_key = Zeroizing::new([0; 32]);
        (self.entropy)(&mut *data_key);
        (self.master.seal(&Place::DataKey(partner), self.nonce(), &[&*data_key]), PartnerKeys::new(&data_key))
    }

    /// Forgets a partner that was erased.
    pub(crate) fn forget(&self, partner: PartnerId) {
        self.opened.write().unwrap_or_else(PoisonError::into_inner).remove(&partner);
    }

    /// A fresh nonce.
    pub(crate) fn nonce(&self) -> [u8; NONCE] {
        let mut nonce = [0; NONCE];
        (self.entropy)(&mut nonce);
        nonce
    }

    /// Fresh nonces for a batch, drawn at once: the operating system is asked once, not for every row.
    pub(crate) fn nonces(&self, count: usize) -> impl Iterator<Item = [u8; NONCE]> + use<> {
        let mut bytes = vec![0; NONCE * count];
        (self.entropy)(&mut bytes);
        (0..count).map(move |at| {
            let mut nonce = [0; NONCE];
            nonce.copy_from_slice(&bytes[at * NONCE..][..NONCE]);
            nonce
        })
    }
}
