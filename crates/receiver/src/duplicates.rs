//! Recognising a request that was already handled.
//!
//! Delivery is at least once: when the sender does not see the receiver's 200 it sends the notification again, under the
//! same `webhook-id`. [`DuplicateGuard`] remembers what this process has lately seen, in bounded memory. It is a
//! convenience. It forgets on a restart, knows nothing of other processes, and lets a very late repeat through once the
//! capacity has pushed the first one out. **In production put a unique key on the webhook id into your own database**,
//! written in the same transaction as what the event causes.

use std::collections::{HashSet, VecDeque};

use crate::received::{Proof, Received};

/// Remembers the latest deliveries of this process; the oldest make room for new ones.
///
/// A request is remembered when it is first asked about, so a handler that fails afterwards has to call
/// [`forget`](Self::forget) before it answers: otherwise the retry, which it needs, would look like a duplicate.
///
/// ```
/// use capa_webhooks_receiver::DuplicateGuard;
///
/// let mut guard = DuplicateGuard::new(10_000);
/// assert!(guard.first_time("0199f7a0-0000-7000-8000-000000000000"));
/// assert!(!guard.first_time("0199f7a0-0000-7000-8000-000000000000"));
/// ```
#[derive(Debug, Clone)]
pub struct DuplicateGuard {
    ids: Recent,
    bodies: Recent,
}

impl DuplicateGuard {
    /// A guard that remembers the latest `capacity` webhook ids, and as many bodies. At least one of each.
    pub fn new(capacity: usize) -> Self {
        Self { ids: Recent::new(capacity), bodies: Recent::new(capacity) }
    }

    /// Whether `webhook_id` is new. It is remembered from now on.
    pub fn first_time(&mut self, webhook_id: &str) -> bool {
        self.ids.insert(webhook_id)
    }

    /// Whether this request is new. It is remembered from now on.
    ///
    /// One with a webhook id is judged by the id, so that two notifications with equal bodies both count. One that is
    /// proven by its body alone is judged by the body, and against the bodies of *all* requests, so that a captured
    /// request is still recognised after somebody removed its id.
    pub fn first_delivery(&mut self, received: &Received) -> bool {
        let new_body = self.bodies.insert(received.body_sha256());
        match &received.proof {
            Proof::Timestamped { webhook_id, .. } => self.ids.insert(webhook_id),
            Proof::BodyOnly => new_body,
        }
    }

    /// Takes back that this request was seen: for a handler that failed and wants the retry.
    pub fn forget(&mut self, received: &Received) {
        match &received.proof {
            // The body stays: a retry comes with its id again, and a replay without one must not slip in.
            Proof::Timestamped { webhook_id, .. } => self.ids.remove(webhook_id),
            Proof::BodyOnly => self.bodies.remove(received.body_sha256()),
        }
    }
}

/// A set that drops its oldest entry when it is full.
#[derive(Debug, Clone)]
struct Recent {
    capacity: usize,
    seen: HashSet<String>,
    /// The entries of `seen`, oldest first.
    order: VecDeque<String>,
}

impl Recent {
    fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), seen: HashSet::new(), order: VecDeque::new() }
    }

    fn insert(&mut self, key: &str) -> bool {
        if self.seen.contains(key) {
            return false;
        }
        if self.order.len() == self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.seen.insert(key.to_owned());
        self.order.push_back(key.to_owned());
        true
    }

    fn remove(&mut self, key: &str) {
        if !self.seen.remove(key) {
            return;
        }
        // From the back, because what is taken back has only just been added.
        if let Some(index) = self.order.iter().rposition(|entry| entry == key) {
            self.order.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    fn received(webhook_id: Option<&str>, user: &str) -> Received {
        let body = format!(r#"{{"type":"KYC","event":"CREATED_KYC","externalUserId":"{user}"}}"#);
        let proof = match webhook_id {
            Some(id) => Proof::Timestamped { webhook_id: id.to_owned(), timestamp: 1 },
            None => Proof::BodyOnly,
        };
        Received::new(Event::from_slice(body.as_bytes()).unwrap(), proof, body.as_bytes(), false)
    }

    #[test]
    fn the_oldest_make_room() {
        let mut guard = DuplicateGuard::new(2);
        let steps = [
            ("a", true),
            ("b", true),
            ("a", false), // asking again does not make it younger
            ("c", true),  // pushes a out
            ("b", false),
            ("a", true), // pushes b out
            ("c", false),
            ("b", true),
        ];
        for (step, (id, expected)) in steps.into_iter().enumerate() {
            assert_eq!(guard.first_time(id), expected, "step {step}: {id}");
            assert!(guard.ids.seen.len() <= 2 && guard.ids.seen.len() == guard.ids.order.len());
        }
    }

    #[test]
    fn a_capacity_of_zero_still_sees_an_immediate_repeat() {
        let mut guard = DuplicateGuard::new(0);
        assert!(guard.first_time("a"));
        assert!(!guard.first_time("a"));
    }

    #[test]
    fn equal_bodies_under_two_ids_both_count() {
        let mut guard = DuplicateGuard::new(9);
        assert!(guard.first_delivery(&received(Some("a"), "u")));
        assert!(guard.first_delivery(&received(Some("b"), "u")));
        assert!(!guard.first_delivery(&received(Some("a"), "u")));
        assert!(!guard.first_time("b"));
    }

    #[test]
    fn a_body_without_its_id_is_still_recognised() {
        let mut guard = DuplicateGuard::new(9);
        assert!(guard.first_delivery(&received(Some("a"), "u")));
        assert!(!guard.first_delivery(&received(None, "u")));
        assert!(guard.first_delivery(&received(None, "another")));
        assert!(!guard.first_delivery(&received(None, "another")));
    }

    #[test]
    fn what_was_forgotten_is_new_again() {
        let mut guard = DuplicateGuard::new(2);
        for request in [received(Some("a"), "u"), received(None, "v")] {
            assert!(guard.first_delivery(&request));
            guard.forget(&request);
            assert!(guard.first_delivery(&request));
            assert!(!guard.first_delivery(&request));
        }
        guard.forget(&received(Some("never seen"), "w"));
        guard.forget(&received(Some("a"), "u"));
        assert!(!guard.first_delivery(&received(None, "u")), "a replay without its id is still refused");
        assert!(guard.ids.order.is_empty() && guard.ids.seen.is_empty());
    }
}
