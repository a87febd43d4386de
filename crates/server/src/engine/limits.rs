//! Tells the engine partners' own limits: when a lane begins, and after every change.
//!
//! One task asks for them one after the other, so that an answer from before a change never comes after one from
//! after it.

use super::{Context, STORE_PAUSE};
use capa_webhooks_core::engine::Input;
use capa_webhooks_core::engine::words::LaneLimits;
use capa_webhooks_core::id::PartnerId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Starts the task. It ends when the set that it comes in is dropped.
pub(super) fn start(
    context: Context,
    reports: mpsc::UnboundedSender<Input>,
) -> (mpsc::UnboundedSender<PartnerId>, JoinSet<()>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    context.directory.tell_changes(sender.clone());
    let mut task = JoinSet::new();
    task.spawn(run(context, receiver, sender.clone(), reports));
    (sender, task)
}

async fn run(
    context: Context,
    mut wanted: mpsc::UnboundedReceiver<PartnerId>,
    again: mpsc::UnboundedSender<PartnerId>,
    reports: mpsc::UnboundedSender<Input>,
) {
    while let Some(partner) = wanted.recv().await {
        match context.directory.partner(partner).await {
            Ok(profile) => {
                // Of a partner that is gone nothing is sent; its lane must find that out.
                let limits = profile.map_or_else(LaneLimits::default, |profile| profile.limits);
                _ = reports.send(Input::LaneLimits { partner, limits });
            }
            Err(error) => {
                tracing::error!(%error, %partner, "the partner's limits could not be looked up; trying again");
                let (clock, again) = (context.clock.clone(), again.clone());
                // The others do not wait for one whose row is broken.
                tokio::spawn(async move {
                    clock.sleep(STORE_PAUSE).await;
                    _ = again.send(partner);
                });
            }
        }
    }
}
