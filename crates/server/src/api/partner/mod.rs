//! The partner API, under `/api/partner/v1` and `/api/partner/v2`.

mod notifications;
mod settings;
mod view;

use super::answer::Version;
use super::{App, auth};
use axum::Router;
use axum::routing::{get, post, put};

pub(super) fn routes() -> Router<App> {
    let mut router = Router::new();
    for (_, version) in Version::ALL {
        let path = |rest: &str| format!("/api/partner/{version}/{rest}");
        router = router
            .route(&path("webhook-settings"), put(settings::put).get(settings::get))
            .route(&path("webhook-notifications"), get(notifications::list))
            .route(&path("webhook-notifications/{id}"), get(notifications::one))
            .route(&path("webhook-notifications/{id}/retry"), post(notifications::retry))
            .route(&path("webhook-notifications/{id}/attempts"), get(notifications::attempts));
    }
    router
}
