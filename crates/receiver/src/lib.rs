//! Receiving webhooks: prove that a request is genuine, read its event, recognise a repeat.
//!
//! A partner links this crate into whatever web framework it uses; the server signs with the same code, so both ends
//! agree by construction. It does no input or output, has no clock and no random source: time and random bytes come in
//! as arguments, and every call returns at once.
//!
//! # The story
//! A notification arrives as a `POST` whose body *is* the event, a flat JSON object. With the [`Secret`] that both sides
//! know, the sender has made two signatures: `capa-signature` over the body, and `webhook-signature` over id, time and
//! body. A [`Verifier`] holds one secret, or several during a rotation, and checks whichever of the two are there;
//! both must be right if both are there. What it hands out is a [`Received`]: a typed [`Event`], and what
//! [`Proof`] there is for it. Delivery is at least once, so the same notification can come again, under the same id; a
//! [`DuplicateGuard`], or better a unique key in your own database, sorts that out.
//!
//! Answer **200, and only 200**, once the event is safe with you: the sender tries again after anything else.
//!
//! Not guaranteed: events can arrive in another order than they happened. And a request that carries only
//! `capa-signature` has no time in it, so that only the memory of earlier requests tells it from a replay;
//! [`Verifier::require_timestamp`] refuses such requests.
//!
//! # A receiver
//! ```
//! use std::time::{SystemTime, UNIX_EPOCH};
//!
//! use capa_webhooks_receiver::{DuplicateGuard, Event, Signer, Secret, Verifier, headers, webhook_signatures};
//!
//! struct Receiver {
//!     verifier: Verifier,
//!     duplicates: DuplicateGuard,
//! }
//!
//! impl Receiver {
//!     /// Gives the status to answer with. `body` is what arrived, untouched.
//!     fn handle(&mut self, request_headers: &[(String, String)], body: &[u8], now: i64) -> u16 {
//!         let header = |name: &str| {
//!             request_headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
//!         };
//!         let received = match self.verifier.verify(header, body, now) {
//!             Ok(received) => received,
//!             Err(refusal) => {
//!                 eprintln!("refused: {refusal}");
//!                 return 401;
//!             }
//!         };
//!         if received.is_test() || !self.duplicates.first_delivery(&received) {
//!             return 200; // nothing to do, and nothing to send again
//!         }
//!         match store(&received.event) {
//!             Ok(()) => 200,
//!             Err(_) => {
//!                 self.duplicates.forget(&received);
//!                 503 // the sender will try again
//!             }
//!         }
//!     }
//! }
//!
//! fn store(event: &Event) -> std::io::Result<()> {
//!     match event {
//!         Event::Kyc(kyc) => println!("user {} is now at {}", kyc.external_user_id, kyc.event),
//!         Event::Transaction(transaction) => println!("{:?}", transaction.fiat_amount),
//!         unknown => println!("not for us yet: {}", unknown.event_name()),
//!     }
//!     Ok(())
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let secret: Secret = "5b1c9f0a7d3e4826b0c5d9e1f2a34567890abcdef1234567890fedcba9876543".parse()?;
//! let mut receiver = Receiver { verifier: Verifier::new(&secret), duplicates: DuplicateGuard::new(10_000) };
//! let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
//!
//! // The sender's half, as a receiver's own tests would write it.
//! let body = br#"{"type":"KYC","event":"VERIFIED_USER","externalUserId":"61561e29"}"#;
//! let (id, signer) = ("0199f7a0-0000-7000-8000-000000000000", Signer::new(&secret));
//! let mut request_headers = [
//!     ("Capa-Signature", signer.capa_signature(body)),
//!     ("Webhook-Id", id.to_owned()),
//!     ("Webhook-Timestamp", now.to_string()),
//!     ("Webhook-Signature", webhook_signatures([&signer], id, now, body)),
//! ]
//! .map(|(name, value)| (name.to_owned(), value));
//!
//! assert_eq!(receiver.handle(&request_headers, body, now), 200);
//! assert_eq!(receiver.handle(&request_headers, b"{}", now), 401);
//! assert_eq!(receiver.handle(&request_headers, body, now + 301), 401);
//! request_headers[0].0 = format!("x-{}", headers::CAPA_SIGNATURE);
//! assert_eq!(receiver.handle(&request_headers, body, now), 200); // the trio alone is proof enough
//! # Ok(())
//! # }
//! ```

mod duplicates;
mod event;
pub mod headers;
mod hex;
mod received;
mod secret;
mod sign;
mod verify;

pub use self::{
    duplicates::DuplicateGuard,
    event::{Event, EventError, KycEvent, KycEventName, OtherEvent, TransactionEvent, TransactionEventName},
    received::{Proof, Received},
    secret::{Secret, SecretError},
    sign::{Signer, webhook_signatures},
    verify::{DEFAULT_TOLERANCE, Verifier, VerifyError},
};

/// The README's example, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
