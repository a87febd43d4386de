//! The names of the known events.
//!
//! Each is an enum with a variant for every name that is known today and `Other` for one that comes later: an operator
//! can add events at any time, and a receiver must not break when one arrives.

use std::fmt;

use serde::{Serialize, Serializer};

/// Writes the enum and both directions of its table of names, so that the names stand in one place only.
macro_rules! event_names {
    ($(#[$enum_doc:meta])* $Name:ident { $($(#[$doc:meta])* $Variant:ident = $text:literal,)* }) => {
        $(#[$enum_doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $Name {
            $($(#[$doc])* $Variant,)*
            /// A name that this version does not know.
            Other(String),
        }

        impl $Name {
            /// The name as it is sent.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$Variant => $text,)*
                    Self::Other(name) => name,
                }
            }
        }

        impl From<String> for $Name {
            fn from(name: String) -> Self {
                match name.as_str() {
                    $($text => Self::$Variant,)*
                    _ => Self::Other(name),
                }
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $Name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

event_names! {
    /// What happened in the identification of a user.
    KycEventName {
        /// The user has begun.
        CreatedKyc = "CREATED_KYC",
        /// The user is verified.
        VerifiedUser = "VERIFIED_USER",
        /// The user was turned down.
        RejectedKyc = "REJECTED_KYC",
        /// A person has to look at the case.
        ReviewNeededKyc = "REVIEW_NEEDED_KYC",
    }
}

event_names! {
    /// What happened to a transaction.
    TransactionEventName {
        /// A purchase of crypto was created.
        CreatedOnRamp = "CREATED_ON_RAMP",
        /// The fiat money of a purchase has arrived.
        FiatReceivedOnRamp = "FIAT_RECEIVED_ON_RAMP",
        /// A purchase is complete.
        CompletedOnRamp = "COMPLETED_ON_RAMP",
        /// A purchase was cancelled.
        CancelledOnRamp = "CANCELLED_ON_RAMP",
        /// A sale of crypto was created.
        CreatedOffRamp = "CREATED_OFF_RAMP",
        /// The crypto of a sale has arrived: the older name of [`CryptoReceivedOffRamp`](Self::CryptoReceivedOffRamp).
        ReceivedUserCrypto = "RECEIVED_USER_CRYPTO",
        /// The crypto of a sale has arrived: the newer name of [`ReceivedUserCrypto`](Self::ReceivedUserCrypto).
        CryptoReceivedOffRamp = "CRYPTO_RECEIVED_OFF_RAMP",
        /// A sale is complete.
        CompletedOffRamp = "COMPLETED_OFF_RAMP",
        /// A transfer between two currencies was created.
        CreatedCrossRamp = "CREATED_CROSS_RAMP",
    }
}
