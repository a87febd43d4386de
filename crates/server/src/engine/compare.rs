//! Compares now and then what this life owns in the store with what the engine holds, and takes up what was forgotten: a
//! commit went through, and its answer was lost. What is decided is decided in `core`
//! ([`capa_webhooks_core::lease::comparison`]); nothing of this is done where the store is not shared.

use super::Context;
use crate::clock::random_fraction;
use crate::moves::Comparisons;
use capa_webhooks_core::engine::words::Job;
use capa_webhooks_core::engine::{Engine, Wanted};
use capa_webhooks_core::id::NotificationKey;
use capa_webhooks_core::time::Uptime;
use capa_webhooks_store::Error;
use tokio::sync::mpsc;

/// What the store says.
pub(super) enum Told {
    /// What this life owns.
    Owned(Vec<NotificationKey>),
    /// The jobs of suspects that it still owns.
    Jobs(Vec<Job>),
    /// The store did not say.
    Nothing,
}

/// When the next comparison is due, and the claim that waits for the one under way.
pub(super) struct Comparing {
    due: Option<Uptime>,
    kept: Option<Wanted>,
    answers: mpsc::UnboundedSender<Told>,
    ended: bool,
}

impl Comparing {
    pub(super) fn new(context: &Context, answers: mpsc::UnboundedSender<Told>) -> Self {
        Self { due: next(context), kept: None, answers, ended: false }
    }

    /// Waits until a comparison is due.
    pub(super) async fn due(&self, comparisons: Option<&Comparisons>) {
        match (self.due, comparisons) {
            (Some(due), Some(comparisons)) => comparisons.clock.sleep_until_uptime(due).await,
            _ => std::future::pending().await,
        }
    }

    /// A comparison is due: the store is asked, at once or when the claims under way have ended.
    pub(super) fn begin(&mut self, context: &Context) {
        self.due = next(context);
        self.ask(context);
    }

    /// A claim has come back.
    pub(super) fn claim_ended(&self, context: &Context) {
        if context.moves.claim_ends() {
            self.ask(context);
        }
    }

    /// Gives the claim back if it may begin now, and keeps it if not.
    pub(super) fn lets_pass(&mut self, context: &Context, claim: Wanted) -> Option<Wanted> {
        if context.moves.claim_begins() {
            return Some(claim);
        }
        self.kept = Some(claim);
        None
    }

    /// The claim that waited, if one did and is still wanted.
    pub(super) fn kept_claim(&mut self) -> Option<Wanted> {
        self.kept.take().filter(|_| !self.ended)
    }

    /// The store has answered: what was forgotten, or `None` while the comparison goes on.
    pub(super) fn hears(&self, context: &Context, told: Told, engine: &Engine) -> Option<Vec<Job>> {
        let jobs = match told {
            _ if self.ended => None,
            Told::Owned(keys) => {
                let suspects = context.moves.suspects(keys, engine.keys());
                if suspects.is_empty() {
                    return Some(Vec::new());
                }
                let (store, life) = (context.store.clone(), context.life);
                self.send(async move { store.owned_jobs(life, suspects).await.map(Told::Jobs) });
                return None;
            }
            Told::Jobs(jobs) => Some(jobs),
            Told::Nothing => None,
        };
        let forgotten = context.moves.comparison_concludes(jobs, engine.keys());
        if !forgotten.is_empty() {
            tracing::warn!(count = forgotten.len(), "took up notifications whose commit had lost its answer");
            context.metrics.taken_up(forgotten.len());
        }
        Some(forgotten)
    }

    /// The node is stopping: nothing more is taken up.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.due = None;
    }

    fn ask(&self, context: &Context) {
        if self.ended || !context.moves.comparison_begins() {
            return;
        }
        let (store, life) = (context.store.clone(), context.life);
        self.send(async move { store.owned(life).await.map(Told::Owned) });
    }

    /// Sends what the store answers to the driver.
    fn send(&self, question: impl Future<Output = Result<Told, Error>> + Send + 'static) {
        let answers = self.answers.clone();
        tokio::spawn(async move {
            // In a task of its own: claims wait for an answer, also if this should panic.
            let told = match tokio::spawn(question).await {
                Ok(Ok(told)) => told,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "what this node owns could not be read");
                    Told::Nothing
                }
                Err(error) => {
                    tracing::error!(%error, "what this node owns could not be read");
                    Told::Nothing
                }
            };
            _ = answers.send(told);
        });
    }
}

/// Never in step with anything else that is done regularly.
fn next(context: &Context) -> Option<Uptime> {
    let Comparisons { every, jitter, clock } = context.compare.as_ref()?;
    Some(clock.uptime().plus(*every + jitter.mul_f64(random_fraction())))
}
