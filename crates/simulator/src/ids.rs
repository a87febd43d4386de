//! Ids that say who they are: the bytes of each are a number, which traces show.

use capa_webhooks_core::id::{LifeId, NotificationId, NotificationKey, PartnerId};
use capa_webhooks_core::time::Timestamp;

/// When every simulation begins.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

pub(crate) fn life(number: usize) -> LifeId {
    LifeId::from_bytes((number as u128).to_be_bytes())
}

pub(crate) fn partner(number: usize) -> PartnerId {
    PartnerId::from_bytes((number as u128).to_be_bytes())
}

pub(crate) fn notification(partner: usize, number: usize) -> NotificationKey {
    NotificationKey { partner: self::partner(partner), id: NotificationId::from_bytes((number as u128).to_be_bytes()) }
}

/// The number that an id was made of.
pub(crate) fn number(bytes: &[u8; 16]) -> usize {
    usize::try_from(u128::from_be_bytes(*bytes)).unwrap_or(usize::MAX)
}

pub(crate) fn partner_number(partner: PartnerId) -> usize {
    number(partner.as_bytes())
}

/// How a life is called in traces and findings.
pub(crate) fn life_name(life: LifeId) -> String {
    format!("life {}", number(life.as_bytes()))
}

/// How a notification is called in traces and findings.
pub(crate) fn name(key: NotificationKey) -> String {
    format!("notification {} of partner {}", number(key.id.as_bytes()), partner_number(key.partner))
}

/// A moment as the time since the start of the simulation.
pub(crate) fn clock(at: Timestamp) -> String {
    let millis = at.since(START).as_millis();
    let seconds = millis / 1000;
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, millis % 1000)
}
