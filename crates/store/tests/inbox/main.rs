//! The inbox of PostgreSQL: what is committed is accepted once, whoever looks and whatever breaks.

#![expect(clippy::unwrap_used, reason = "what a test does not expect ends it")]

mod drainers;
mod fixture;
mod looks;
mod publishers;
mod refused;
