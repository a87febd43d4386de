//! Identifiers. Each noun has a type of its own, so that one cannot be passed where another is meant.

use crate::time::Timestamp;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// The id with this UUID.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// A UUIDv7 of `now`, with ten random bytes from the caller.
            pub fn v7(now: Timestamp, random: [u8; 10]) -> Self {
                let millis = u64::try_from(now.as_millis()).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            /// A UUIDv4 made of 16 random bytes from the caller.
            pub fn v4(random: [u8; 16]) -> Self {
                Self(uuid::Builder::from_random_bytes(random).into_uuid())
            }

            /// The 16 bytes of the id, as they are stored.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id with these 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The UUID itself.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            /// Reads the hyphenated form only: the one that is shown is the one that is accepted.
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                if text.len() == 36 {
                    Uuid::try_parse(text).map(Self)
                } else {
                    Uuid::try_parse("not hyphenated").map(Self)
                }
            }
        }
    };
}

id!(/// A partner of Capa.
    PartnerId);
id!(/// An event on its way to a partner; the `webhook-id` of every attempt.
    NotificationId);
id!(/// A partner's webhook settings.
    SettingsId);
id!(/// An API key, of a partner or of the platform.
    KeyId);
id!(/// One start of one process: the owner of the queue rows that the process holds in memory.
    LifeId);

/// Names one notification: every stored key begins with the partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotificationKey {
    /// Whose notification it is.
    pub partner: PartnerId,
    /// Which one.
    pub id: NotificationId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_7_ids_sort_by_time() {
        let early = NotificationId::v7(Timestamp::from_millis(1_000), [255; 10]);
        let late = NotificationId::v7(Timestamp::from_millis(1_001), [0; 10]);
        assert!(early < late);
        assert_eq!(early.uuid().get_version_num(), 7);
    }

    #[test]
    fn only_the_hyphenated_form_is_read() {
        assert!("0199f7a0-0000-7000-8000-000000000000".parse::<PartnerId>().is_ok());
        assert!("0199f7a0000070008000000000000000".parse::<PartnerId>().is_err());
        assert!("{0199f7a0-0000-7000-8000-00000000000}".parse::<PartnerId>().is_err());
        assert!("nonsense".parse::<PartnerId>().is_err());
    }
}
