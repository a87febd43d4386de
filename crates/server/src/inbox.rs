//! Drains what was published from within other transactions of the database (`capa_webhooks.publish`).
//!
//! Every node does, at the same time: it looks, judges each event by the same code as the API (`api::publishing`), and has it
//! accepted through the [`ingest`](crate::ingest), or refused. The store sees to it that no event is accepted twice or
//! lost; here is only decided when to look.
//!
//! * A node looks when it is told that something was published, and once a second without being told: hints may be lost.
//! * After a look that found something it looks again.
//! * A node that comes too late for all that it saw leaves the hints to the others, until its next look of the second. So
//!   one node at a time drains what comes in a stream, and the others do not do its work a second time.
//! * What cannot be judged or accepted now (the store is away, the door is closed) stays in the inbox.

use crate::api::App;
use crate::api::answer::ApiError;
use crate::api::publishing;
use capa_webhooks_store::{Accept, Accepted, InboxId, InboxLook, Published, Refusal};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often to look without being told.
const LOOK: Duration = Duration::from_secs(1);
/// The most events of one look.
const ROWS: usize = 1000;
/// The most bytes of events of one look.
const BYTES: usize = 8 * 1024 * 1024;

/// The task that drains the inbox, where the store has one.
#[derive(Debug)]
pub struct Drain(Option<JoinHandle<()>>);

impl Drain {
    /// Starts it.
    pub fn start(app: App) -> Self {
        Self(app.store.has_inbox().then(|| tokio::spawn(run(app))))
    }

    /// Waits until it has ended, which is a fault.
    pub async fn ended(&mut self) {
        match &mut self.0 {
            Some(task) => _ = task.await,
            None => std::future::pending().await,
        }
    }

    /// Ends it. What it is in the middle of is in the inbox or accepted.
    pub fn stop(&self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// There was nothing.
    Empty,
    /// This node drained something.
    Drained,
    /// Other nodes drained all of it first.
    TooLate,
}

async fn run(app: App) {
    let mut failing = false;
    loop {
        let look = drain(&app).await;
        match &look {
            Err(error) if !failing => {
                tracing::warn!(error = %error.words().1, "the inbox cannot be drained; it is tried once a second");
            }
            Ok(_) if failing => tracing::info!("the inbox is drained again"),
            _ => {}
        }
        failing = look.is_err();
        match look {
            Ok(Look::Drained) => {}
            Ok(Look::Empty) => tokio::select! {
                () = app.store.inbox_hint() => {}
                () = app.clock.sleep(LOOK) => {}
            },
            Ok(Look::TooLate) | Err(_) => app.clock.sleep(LOOK).await,
        }
    }
}

async fn drain(app: &App) -> Result<Look, ApiError> {
    if app.is_stopping() {
        return Err(ApiError::unavailable());
    }
    let found = app.store.inbox(InboxLook { rows: ROWS, bytes: BYTES, payload: app.max_body }).await?;
    if found.is_empty() {
        return Ok(Look::Empty);
    }
    let mut refusals = Vec::new();
    let mut rows = Vec::with_capacity(found.len());
    let mut accepts: Vec<(InboxId, Accept)> = Vec::with_capacity(found.len());
    for mut row in found {
        match judge(app, &mut row).await {
            Ok(accept) => {
                accepts.push((row.id, accept));
                rows.push(row);
            }
            // The store's, not the event's.
            Err(error) if error.status().is_server_error() => return Err(error),
            Err(error) => refusals.push(refusal(app, row, &error)),
        }
    }
    let mut drained = 0;
    let order: Vec<_> = accepts.iter().map(|(_, accept)| (accept.key.id, accept.fate)).collect();
    let accepted = if accepts.is_empty() { Ok(Vec::new()) } else { app.ingest.accept_inbox(accepts).await };
    for ((row, (id, fate)), accepted) in rows.into_iter().zip(order).zip(accepted.map_err(publishing::not_accepted)?) {
        let Some(accepted) = accepted else { continue };
        match publishing::conclude(app, id, fate, accepted) {
            Ok(_) => {
                drained += 1;
                app.metrics.drained(if accepted == Accepted::New { "accepted" } else { "repeated" }, 1);
            }
            Err(error) => refusals.push(refusal(app, row, &error)),
        }
    }
    if !refusals.is_empty() {
        let refused = app.store.refuse_inbox(refusals, app.clock.now()).await?;
        app.metrics.drained("refused", refused);
        drained += refused;
    }
    Ok(if drained > 0 { Look::Drained } else { Look::TooLate })
}

async fn judge(app: &App, row: &mut Published) -> Result<Accept, ApiError> {
    let payload = row.payload.clone().ok_or_else(|| publishing::too_large(app))?;
    let key = row.idempotency_key.take();
    publishing::check_named(app, row.partner, &payload, key, "idempotency_key").await
}

fn refusal(app: &App, row: Published, error: &ApiError) -> Refusal {
    let (code, message, details) = error.words();
    app.metrics.refused(publishing::reason(error));
    tracing::warn!(id = row.id.0, partner = %row.partner, code, "an event that was published from SQL is refused");
    Refusal { row, code: code.to_owned(), message: message.to_owned(), details }
}
