//! What a verified request says: the event, and how well it is proven.

use sha2::{Digest as _, Sha256};

use crate::{event::Event, hex};

/// What begins every id that the sender makes up for a test.
const TEST_PREFIX: &str = "test-";

/// A request whose signatures are right.
///
/// `Debug` shows the event's type and name, never whom it is about.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Received {
    /// What happened.
    pub event: Event,
    /// What the signatures cover.
    pub proof: Proof,
    body_sha256: String,
    test_header: bool,
}

impl Received {
    pub(crate) fn new(event: Event, proof: Proof, body: &[u8], test_header: bool) -> Self {
        Self { event, proof, body_sha256: hex::encode(&Sha256::digest(body)), test_header }
    }

    /// The id to drop duplicates by; absent when the request was proven by its body alone.
    pub fn webhook_id(&self) -> Option<&str> {
        match &self.proof {
            Proof::Timestamped { webhook_id, .. } => Some(webhook_id),
            Proof::BodyOnly => None,
        }
    }

    /// Lower-case hex SHA-256 of the body: stands in for the webhook id where that is absent.
    pub fn body_sha256(&self) -> &str {
        &self.body_sha256
    }

    /// Whether the sender only tried out the receiver: nothing happened, no money moved.
    ///
    /// The header that marks a test is not signed, so by itself it decides nothing. A test is an event whose signed
    /// transaction id begins with `test-`, or one marked by the header whose signed user id does; the header is needed
    /// there because user ids are the partner's own and may well begin like that.
    pub fn is_test(&self) -> bool {
        let begins_so = |id: Option<&str>| id.is_some_and(|id| id.starts_with(TEST_PREFIX));
        begins_so(self.event.transaction_id()) || self.test_header && begins_so(self.event.external_user_id())
    }
}

/// What the signatures of a request cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Id, time and body: a replay is refused once the tolerance has passed, and before that its id gives it away.
    Timestamped {
        /// The notification's id, the same on every attempt.
        webhook_id: String,
        /// When the attempt was made, in Unix seconds.
        timestamp: i64,
    },
    /// Only the body: nothing tells a replay from the first delivery but the memory of having seen the body.
    BodyOnly,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_told_by_what_is_signed() {
        let table = [
            // (body, header says test, is a test)
            (r#"{"type":"TRANSACTION","event":"E","externalUserId":"u","transactionId":"test-1"}"#, false, true),
            (r#"{"type":"TRANSACTION","event":"E","externalUserId":"u","transactionId":"t"}"#, true, false),
            (r#"{"type":"TRANSACTION","event":"E","externalUserId":"test-u","transactionId":"t"}"#, false, false),
            (r#"{"type":"KYC","event":"E","externalUserId":"test-u"}"#, true, true),
            (r#"{"type":"KYC","event":"E","externalUserId":"test-u"}"#, false, false),
            (r#"{"type":"KYC","event":"E","externalUserId":"u"}"#, true, false),
            (r#"{"type":"NEW","event":"E","transactionId":"test-1"}"#, false, true),
            (r#"{"type":"NEW","event":"E"}"#, true, false),
        ];
        for (body, header, expected) in table {
            let event = Event::from_slice(body.as_bytes()).unwrap();
            let received = Received::new(event, Proof::BodyOnly, body.as_bytes(), header);
            assert_eq!(received.is_test(), expected, "{body} {header}");
        }
    }

    #[test]
    fn the_digest_is_that_of_the_body() {
        let event = Event::from_slice(br#"{"type":"T","event":"E"}"#).unwrap();
        let received = Received::new(event, Proof::BodyOnly, b"abc", false);
        // The well-known example of FIPS 180-2.
        assert_eq!(received.body_sha256(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
