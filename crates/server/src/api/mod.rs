//! The HTTP API: what partners and the platform call.
//!
//! Requests come in over [`listener`], are routed by [`router`], and see the system only through [`App`]: the store,
//! the directory, the ingest, and a hint that wakes the engine. Every answer and error has the form of [`answer`].

pub mod answer;
mod auth;
mod body;
pub mod front;
mod head;
mod health;
mod leftover;
pub mod listener;
mod partner;
mod path;
mod platform;
pub(crate) mod publishing;
mod query;
mod settings;
mod unreadable;

use crate::clock::Clock;
use crate::directory::Directory;
use crate::endpoints::Endpoints;
use crate::ingest::Ingest;
use crate::telemetry::metrics::Metrics;
use crate::wake::Wake;
use answer::{ApiError, Version};
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use capa_webhooks_core::destination::Destinations;
use capa_webhooks_core::event::catalogue::Catalogue;
use capa_webhooks_store::{PlatformKey, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What the API works with. Clones share one.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of [`App`].
pub struct Parts {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// Partners and keys.
    pub directory: Directory,
    /// How partners' endpoints do.
    pub endpoints: Endpoints,
    /// Where events are handed in.
    pub ingest: Ingest,
    /// Wakes the engine.
    pub wake: Wake,
    /// Tells the time.
    pub clock: Clock,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The known events.
    pub catalogue: Catalogue,
    /// Which URLs may be registered.
    pub destinations: Destinations,
    /// The largest event, in bytes.
    pub max_body: usize,
    /// How long an idempotency key counts.
    pub idempotency_retention: Duration,
    /// Whether the service is stopping.
    pub stopping: AtomicBool,
    /// A platform key that is not stored: that of a command that works on a store without a service.
    pub local_key: Option<PlatformKey>,
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// From now on new events and changes are refused, and `/readyz` says so.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether new events and changes are refused.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// The routes of the main address.
pub fn router(app: App) -> Router {
    Router::new()
        .merge(partner::routes())
        .merge(platform::routes())
        .merge(health::routes())
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

/// The routes of the metrics address.
pub fn metrics_router(app: App) -> Router {
    health::routes()
        .merge(health::metrics_routes())
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

async fn unknown_route(request: Request) -> Response {
    ApiError::unknown_route().respond(Version::of(request.uri()))
}

async fn wrong_method(State(_): State<App>, request: Request) -> Response {
    ApiError::wrong_method(request.method()).respond(Version::of(request.uri()))
}
