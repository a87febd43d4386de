//! Takes every request in, before and beside the router.
//!
//! What has nothing to do with the route stands here: the head must be readable in one way only (`head`), and a large
//! body is read to its end whatever becomes of the request (`leftover`). Publishing one event, which is what most
//! requests are, goes straight to its handler.

use super::platform::events;
use super::{App, head, leftover};
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use tower_service::Service as _;

/// The service of one address. Clones share one.
#[derive(Debug, Clone)]
pub struct Front {
    app: App,
    router: Router,
}

impl Front {
    /// What answers on an address with these routes.
    pub fn new(app: App, router: Router) -> Self {
        Self { app, router }
    }

    async fn answer(self, request: Request<Incoming>) -> Response {
        if let Some(refusal) = head::doubt(&request) {
            return refusal;
        }
        if leftover::may_be_large(request.headers()) {
            let app = self.app.clone();
            return leftover::read(&app, request.map(Body::new), |request| self.route(request)).await;
        }
        match events::partner_of(&request) {
            Some(partner) => events::publish(&self.app, partner, request).await,
            None => self.route(request.map(Body::new)).await,
        }
    }

    async fn route(mut self, request: Request<Body>) -> Response {
        match self.router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let front = self.clone();
        Box::pin(async move { Ok(front.answer(request).await) })
    }
}
