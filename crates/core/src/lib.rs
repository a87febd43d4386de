//! The domain of Capa Webhooks, pure: no sockets, no SQL, no clock, no random source.
//!
//! Everything that decides lives here. Time, randomness and addresses come in as arguments, so that every rule can be
//! tested by a table and the whole engine can be driven by the server and by a simulator alike.
//!
//! | module | what it decides |
//! |---|---|
//! | [`event`] | what a publishable event is, and its canonical body (the bytes that are signed) |
//! | [`notification`] | the state machine of a notification: what follows from an answer, a missing URL, a manual retry |
//! | [`schedule`] | when the next attempt is due |
//! | [`outcome`] | what an answer (or the lack of one) means |
//! | [`settings`] | how a partner is served, and what may be asked for |
//! | [`destination`] | which URLs and addresses may be called |
//! | [`health`] | whether an endpoint fails, and when somebody is to be told |
//! | [`lease`] | which lives are alive, whether this one may work, and what it forgot, where several share the store |
//! | [`engine`] | what to do next: a step machine, (now, what happened) → (what to do) |
//!
//! [`id`], [`time`], [`duration`] and [`problem`] are the words that they share.

pub mod destination;
pub mod duration;
pub mod engine;
pub mod event;
pub mod health;
pub mod id;
pub mod lease;
pub mod notification;
pub mod outcome;
pub mod problem;
pub mod schedule;
pub mod settings;
pub mod time;
