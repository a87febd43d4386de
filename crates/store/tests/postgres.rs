//! The conformance suite over PostgreSQL. One cluster for all tests, one fresh database for each case.

#[path = "postgres/doubt.rs"]
mod doubt;
#[path = "postgres/examined.rs"]
mod examined;
#[path = "postgres/fixture.rs"]
mod fixture;
#[path = "postgres/lives.rs"]
mod lives;
#[path = "postgres/nodes.rs"]
mod nodes;
#[path = "postgres/opening.rs"]
mod opening;
#[path = "postgres/plans.rs"]
mod plans;
#[path = "postgres/retention.rs"]
mod retention;

capa_webhooks_store::conformance_suite!(fixture::Postgres::new());
