//! Reads as much of an answer's body as is kept.

use bytes::Bytes;
use capa_webhooks_core::outcome::KEPT_BODY;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};

/// What was read.
pub(super) struct Read {
    /// The beginning of the body, at most [`KEPT_BODY`] bytes. A copy, so that keeping it does not keep the
    /// connection's read buffer.
    pub(super) kept: Bytes,
    /// Whether the body did not end there, or not as far as is known yet.
    pub(super) more: bool,
}

/// Reads until the body ends or [`KEPT_BODY`] bytes of it came. Trailers are dropped.
///
/// # Errors
/// The connection was lost, or what came is not a body.
pub(super) async fn read(body: &mut Incoming) -> Result<Read, hyper::Error> {
    let mut kept = Vec::new();
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        let Ok(data) = frame?.into_data() else { continue };
        let room = KEPT_BODY - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room || (kept.len() == KEPT_BODY && !body.is_end_stream()) {
            return Ok(Read { kept: kept.into(), more: true });
        }
    }
    Ok(Read { kept: kept.into(), more: false })
}
