//! Tells the engine partners' own limits: when a lane begins, and after every change.
//!
//! One task asks for them one after the other, so that an answer from before a change never comes after one from
//! after it. Where several nodes share the store, each takes its share of them; when a node comes or goes, those who have
//! limits are told anew.

use super::{Context, STORE_PAUSE};
use capa_webhooks_core::engine::Input;
use capa_webhooks_core::engine::words::LaneLimits;
use capa_webhooks_core::id::PartnerId;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Starts the task. It ends when the set that it comes in is dropped.
pub(super) fn start(
    context: Arc<Context>,
    reports: mpsc::UnboundedSender<Input>,
) -> (mpsc::UnboundedSender<PartnerId>, JoinSet<()>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    context.directory.tell_changes(sender.clone());
    let mut task = JoinSet::new();
    task.spawn(run(context, receiver, sender.clone(), reports));
    (sender, task)
}

async fn run(
    context: Arc<Context>,
    mut wanted: mpsc::UnboundedReceiver<PartnerId>,
    again: mpsc::UnboundedSender<PartnerId>,
    reports: mpsc::UnboundedSender<Input>,
) {
    let mut nodes = context.nodes.clone();
    let mut limited = HashSet::new();
    loop {
        let partner = tokio::select! {
            partner = wanted.recv() => partner,
            () = changed(&mut nodes) => {
                limited.iter().for_each(|partner| _ = again.send(*partner));
                continue;
            }
        };
        let Some(partner) = partner else { return };
        match context.directory.partner(partner).await {
            Ok(profile) => {
                // Of a partner that is gone nothing is sent; its lane must find that out.
                let limits = profile.map_or_else(LaneLimits::default, |profile| profile.limits);
                if limits == LaneLimits::default() {
                    limited.remove(&partner);
                } else {
                    limited.insert(partner);
                }
                let limits = limits.shared_by(*nodes.borrow());
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

/// Waits until there are more or fewer nodes; for ever where there is only one.
async fn changed(nodes: &mut watch::Receiver<usize>) {
    if nodes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
