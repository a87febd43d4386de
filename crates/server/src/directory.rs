//! Knows partners and keys without asking the store each time.
//!
//! Only positive answers are kept: that there is no such key, or that a partner has no URL, is looked up in the store
//! before it is acted on. Whoever changes a partner or a key through this process calls [`Directory::forget`] after the
//! change was committed and before it is confirmed, so a confirmed change is in force at once. An answer that was read
//! before such a change is not kept (`generation`). Whoever has to act on changes is told of them
//! ([`Directory::tell_changes`]).
//!
//! Where several nodes share the store, what others changed is heard of ([`Directory::hear`]) about once a second. As long
//! as nothing has been heard for too long, nothing is used from memory ([`Permit`]).

use crate::outgoing::{Client, Target};
use crate::permit::Permit;
use capa_webhooks_core::engine::words::LaneLimits;
use capa_webhooks_core::id::{KeyId, PartnerId};
use capa_webhooks_core::notification::NotSent;
use capa_webhooks_core::schedule::Schedule;
use capa_webhooks_core::settings::AckRule;
use capa_webhooks_receiver::{Secret, Signer};
use capa_webhooks_store::{Changes, Error, Partner, PartnerKey, PlatformKey, Store};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::mpsc;

/// The operator's defaults for what partners may choose.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// The delays between attempts.
    pub schedule: Schedule,
    /// The deadline of a whole attempt.
    pub attempt_timeout: Duration,
}

/// A partner, ready to be served.
#[derive(Debug)]
pub struct Profile {
    /// The partner as it is stored.
    pub partner: Partner,
    /// Signs with the partner's secret.
    pub signer: Signer,
    /// Where to send; `None` if no URL is set.
    pub target: Option<Target>,
    /// The delays in force.
    pub schedule: Arc<Schedule>,
    /// Which statuses acknowledge.
    pub ack_rule: AckRule,
    /// The deadline in force.
    pub attempt_timeout: Duration,
    /// How many attempts at a time and in a second; the engine holds the defaults.
    pub limits: LaneLimits,
}

impl Profile {
    /// Why nothing can be sent to this partner, if so.
    pub fn unsendable(&self) -> Option<NotSent> {
        if self.partner.disabled {
            Some(NotSent::PartnerDisabled)
        } else if self.target.is_none() {
            Some(NotSent::NoUrl)
        } else {
            None
        }
    }

    /// Why this event is not to be sent to this partner, if so.
    pub fn leaves_out(&self, event: &str) -> Option<NotSent> {
        let filter = self.partner.settings.choices.events.as_ref()?;
        (!filter.iter().any(|name| name == event)).then_some(NotSent::EventFiltered)
    }
}

/// The directory. Clones share one.
#[derive(Clone)]
pub struct Directory {
    store: Arc<dyn Store>,
    client: Arc<Client>,
    defaults: Arc<Defaults>,
    /// Whether what is known may be used.
    fresh: Permit,
    known: Arc<RwLock<Known>>,
}

#[derive(Default)]
struct Known {
    generation: u64,
    partners: HashMap<PartnerId, Arc<Profile>>,
    partner_keys: HashMap<KeyId, Arc<PartnerKey>>,
    platform_keys: HashMap<KeyId, Arc<PlatformKey>>,
    /// Where changes of partners are told.
    listeners: Vec<mpsc::UnboundedSender<PartnerId>>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

impl Directory {
    /// A directory of what `store` holds, for sending with `client`. While `fresh` does not hold, it asks the store.
    pub fn new(store: Arc<dyn Store>, client: Arc<Client>, defaults: Defaults, fresh: Permit) -> Self {
        Self { store, client, defaults: Arc::new(defaults), fresh, known: Arc::default() }
    }

    /// The partner, for publishing and administration.
    ///
    /// # Errors
    /// The store failed.
    pub async fn partner(&self, id: PartnerId) -> Result<Option<Arc<Profile>>, Error> {
        let cached = self.known(|known| known.partners.get(&id).cloned());
        match cached {
            // "Nowhere to send" is never acted on from memory.
            Some(profile) if profile.unsendable().is_none() => Ok(Some(profile)),
            _ => self.load_partner(id).await,
        }
    }

    /// The partner's key.
    ///
    /// # Errors
    /// The store failed.
    pub async fn partner_key(&self, id: KeyId) -> Result<Option<Arc<PartnerKey>>, Error> {
        if let Some(key) = self.known(|known| known.partner_keys.get(&id).cloned()) {
            return Ok(Some(key));
        }
        let generation = self.read(|known| known.generation);
        let Some(key) = self.store.partner_key(id).await?.map(Arc::new) else { return Ok(None) };
        self.keep(generation, |known| _ = known.partner_keys.insert(id, key.clone()));
        Ok(Some(key))
    }

    /// The platform key.
    ///
    /// # Errors
    /// The store failed.
    pub async fn platform_key(&self, id: KeyId) -> Result<Option<Arc<PlatformKey>>, Error> {
        if let Some(key) = self.known(|known| known.platform_keys.get(&id).cloned()) {
            return Ok(Some(key));
        }
        let generation = self.read(|known| known.generation);
        let Some(key) = self.store.platform_key(id).await?.map(Arc::new) else { return Ok(None) };
        self.keep(generation, |known| _ = known.platform_keys.insert(id, key.clone()));
        Ok(Some(key))
    }

    /// From now on, tells `listener` of every partner that changed, after the change is in force here.
    pub fn tell_changes(&self, listener: mpsc::UnboundedSender<PartnerId>) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).listeners.push(listener);
    }

    /// A partner, one of its keys, or its settings changed.
    pub fn forget(&self, partner: PartnerId) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.generation += 1;
        known.partners.remove(&partner);
        known.partner_keys.retain(|_, key| key.partner != partner);
        known.listeners.retain(|listener| listener.send(partner).is_ok());
    }

    /// A platform key changed.
    pub fn forget_platform_key(&self, id: KeyId) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.generation += 1;
        known.platform_keys.remove(&id);
    }

    /// Other nodes changed these.
    pub fn hear(&self, changes: &Changes) {
        if changes.partners.is_empty() && changes.keys.is_empty() {
            return;
        }
        changes.partners.iter().for_each(|partner| self.forget(*partner));
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.generation += 1;
        for key in &changes.keys {
            known.partner_keys.remove(key);
            known.platform_keys.remove(key);
        }
    }

    /// Anything may have changed.
    pub fn forget_all(&self) {
        let partners: Vec<_> = {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            known.generation += 1;
            known.partner_keys.clear();
            known.platform_keys.clear();
            known.partners.keys().copied().collect()
        };
        partners.into_iter().for_each(|partner| self.forget(partner));
    }

    async fn load_partner(&self, id: PartnerId) -> Result<Option<Arc<Profile>>, Error> {
        let generation = self.read(|known| known.generation);
        let Some(partner) = self.store.partner(id).await? else { return Ok(None) };
        let profile = Arc::new(self.profile(partner)?);
        self.keep(generation, |known| _ = known.partners.insert(id, profile.clone()));
        Ok(Some(profile))
    }

    fn profile(&self, partner: Partner) -> Result<Profile, Error> {
        let corrupt = |table, column| Error::Corrupt { table, column, id: partner.id.to_string() };
        let secret = Secret::from_hex_digits(&partner.secret.0).map_err(|_| corrupt("secrets", "secret"))?;
        let target = partner.settings.url.as_deref().map(|url| self.client.target(url));
        let choices = &partner.settings.choices;
        let schedule = choices.retry_delays.clone().map_or_else(|| self.defaults.schedule.clone(), Schedule::List);
        Ok(Profile {
            signer: Signer::new(&secret),
            target,
            schedule: Arc::new(schedule),
            ack_rule: choices.ack_rule.unwrap_or_default(),
            attempt_timeout: choices.attempt_timeout.unwrap_or(self.defaults.attempt_timeout),
            limits: LaneLimits {
                max_in_flight: choices.max_in_flight.map(|most| usize::from(most.get())),
                rate: choices.rate_limit,
            },
            partner,
        })
    }

    /// What is remembered, if it may be used.
    fn known<T>(&self, look: impl FnOnce(&Known) -> Option<T>) -> Option<T> {
        self.read(look).filter(|_| self.fresh.holds())
    }

    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep(&self, generation: u64, insert: impl FnOnce(&mut Known)) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.generation == generation {
            insert(&mut known);
        }
    }
}
