//! What the head of a request must be before anything else is looked at.
//!
//! A proxy in front of the service and the service itself must agree on where a request ends and whom it is for. Where
//! HTTP lets readers differ, the request is refused.

use super::answer::{ApiError, Version};
use axum::response::Response;
use http::{HeaderMap, Request, header};

/// The refusal of a request whose head can be read in more than one way.
pub(super) fn doubt<B>(request: &Request<B>) -> Option<Response> {
    error(request).map(|error| error.respond(Version::of(request.uri())))
}

fn error<B>(request: &Request<B>) -> Option<ApiError> {
    let headers = request.headers();
    let hosts = headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == http::Version::HTTP_11) {
        return Some(ApiError::invalid_field("host", "Give the header host, and give it once."));
    }
    (!is_framed_plainly(headers))
        .then(|| ApiError::invalid_field("transfer-encoding", "Only `chunked` is understood, given once."))
}

fn is_framed_plainly(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::TRANSFER_ENCODING).iter();
    let plain = values.next().is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
    plain && values.next().is_none()
}
