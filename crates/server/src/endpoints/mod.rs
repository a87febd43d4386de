//! How partners' endpoints do: what the engine saw of them, for the API, the metrics, the log and the operator.
//!
//! What is known is in memory, learnt from the outcomes of this process; `core::health` decides what it means. What the
//! operator was *told* is kept in the store, so that a partner who has been failing for days is not announced again by
//! every start, and its recovery is told even if it comes after one. A run of failures that was not told yet is learnt
//! anew after a start, and so told later, by at most the time that it had lasted.
//!
//! | what happens | where it is told |
//! |---|---|
//! | an endpoint fails three times in a row | the API, `capa_webhooks_partners_failing` |
//! | it has been failing for `failing_after` | the log (`warn`), `capa_webhooks_partner_failing_since_…`, the operator's URL ([`hook`]) |
//! | it acknowledges again | the log (`info`), the operator's URL |
//!
//! A partner to whom nothing is sent any more (disabled, without a URL, erased) is forgotten without a word.

pub mod hook;

use crate::clock::Clock;
use crate::directory::Directory;
use crate::telemetry::metrics::Metrics;
use capa_webhooks_core::health::{Health, News, Reason, Seen, Standing};
use capa_webhooks_core::id::PartnerId;
use capa_webhooks_core::outcome::{Answer, Verdict};
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::Store;
use hook::Hook;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often it is looked whether a run of failures has lasted long enough to be told.
const LOOK: Duration = Duration::from_secs(1);
/// So many announcements may wait for the operator's URL; what comes on top stands in the log only.
const MOST_WAITING: usize = 256;
/// So many partners have a figure of their own.
const MOST_FIGURES: usize = 50;

/// What is known of all endpoints. Clones share one.
#[derive(Debug, Clone)]
pub struct Endpoints(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    failing_after: Duration,
    metrics: Arc<Metrics>,
    known: Mutex<Known>,
    announcements: mpsc::Sender<Announcement>,
}

#[derive(Debug, Default)]
struct Known {
    endpoints: HashMap<PartnerId, Health>,
    /// Those with a run of failures that was not told yet.
    untold: HashSet<PartnerId>,
    /// Partners with a figure of their own.
    figures: usize,
    failing: usize,
}

/// What is to be told of an endpoint, and kept.
#[derive(Debug)]
struct Announcement {
    partner: PartnerId,
    at: Timestamp,
    /// `None` if it was forgotten: then there is nothing to tell.
    news: Option<News>,
    /// Before the news; of a recovery, how it was.
    before: Health,
    health: Health,
}

/// Reads announcements; see [`Endpoints::new`].
#[derive(Debug)]
pub struct Announcements(mpsc::Receiver<Announcement>);

impl Endpoints {
    /// Nothing is known yet. What comes back with it is to be given to [`Self::announce`].
    pub fn new(failing_after: Duration, metrics: Arc<Metrics>) -> (Self, Announcements) {
        let (announcements, receiver) = mpsc::channel(MOST_WAITING);
        let shared = Shared { failing_after, metrics, known: Mutex::default(), announcements };
        (Self(Arc::new(shared)), Announcements(receiver))
    }

    /// These were told to the operator before this process began.
    pub fn told_before(&self, failing: Vec<(PartnerId, Timestamp)>) {
        let mut known = self.known();
        for (partner, since) in failing {
            self.change(&mut known, partner, Health::told_before(since));
        }
    }

    /// How a partner's endpoint does.
    pub fn of(&self, partner: PartnerId) -> Health {
        self.known().endpoints.get(&partner).copied().unwrap_or_default()
    }

    /// An attempt came to an end at `now`.
    pub fn attempted(&self, partner: PartnerId, answer: &Answer, verdict: Verdict, now: Timestamp) {
        let seen = match verdict {
            Verdict::Acknowledged => Seen::Acknowledged,
            Verdict::Failed { .. } => Seen::Failed(Reason::of(answer)),
        };
        self.see(&mut self.known(), partner, seen, now);
    }

    /// Forgets those to whom nothing is sent any more, and looks once a second whether something is to be told. Until it
    /// is dropped.
    pub async fn watch(self, directory: Directory, clock: Clock) {
        let (sender, mut changed) = mpsc::unbounded_channel();
        directory.tell_changes(sender);
        let mut look_at = clock.now();
        loop {
            tokio::select! {
                Some(partner) = changed.recv() => {
                    // A store that does not answer says nothing about the partner.
                    if let Ok(profile) = directory.partner(partner).await
                        && profile.is_none_or(|profile| profile.unsendable().is_some())
                    {
                        self.forget(partner, clock.now());
                    }
                }
                () = clock.sleep_until(look_at) => {
                    let now = clock.now();
                    look_at = now.plus(LOOK);
                    let mut known = self.known();
                    for partner in known.untold.iter().copied().collect::<Vec<_>>() {
                        self.see(&mut known, partner, Seen::TimePassed, now);
                    }
                }
            }
        }
    }

    /// Tells the operator's URL, if there is one, and keeps in the store what was told. Until every [`Endpoints`] is
    /// gone.
    pub async fn announce(mut announcements: Announcements, store: Arc<dyn Store>, hook: Option<Hook>) {
        while let Some(announcement) = announcements.0.recv().await {
            if let (Some(hook), Some(_)) = (&hook, announcement.news) {
                hook.tell(&announcement).await;
            }
            // Kept when it was told or given up: a process that dies before tells it again.
            let since = announcement.health.failing_since();
            if let Err(error) = store.set_failing(announcement.partner, since).await {
                tracing::warn!(%error, partner = %announcement.partner, "what was told could not be kept; the next start may repeat it");
            }
        }
    }

    fn see(&self, known: &mut Known, partner: PartnerId, seen: Seen, now: Timestamp) {
        let before = known.endpoints.get(&partner).copied().unwrap_or_default();
        let (health, news) = before.next(seen, now, self.0.failing_after);
        self.change(known, partner, health);
        let Some(news) = news else { return };
        log(partner, news, &before, &health, now);
        self.queue(Announcement { partner, at: now, news: Some(news), before, health });
    }

    fn forget(&self, partner: PartnerId, now: Timestamp) {
        let mut known = self.known();
        let Some(before) = known.endpoints.get(&partner).copied() else { return };
        self.change(&mut known, partner, Health::default());
        known.endpoints.remove(&partner);
        if before.run.is_some_and(|run| run.told) {
            self.queue(Announcement { partner, at: now, news: None, before, health: Health::default() });
        }
    }

    /// Puts `health` in the place of what was known, and keeps the figures in step.
    fn change(&self, known: &mut Known, partner: PartnerId, health: Health) {
        let before = known.endpoints.insert(partner, health).unwrap_or_default();
        if health.run.is_some_and(|run| !run.told) {
            known.untold.insert(partner);
        } else {
            known.untold.remove(&partner);
        }
        let (was, is) = (before.standing() == Standing::Failing, health.standing() == Standing::Failing);
        if was != is {
            known.failing = if is { known.failing + 1 } else { known.failing.saturating_sub(1) };
            self.0.metrics.partners_failing(known.failing);
        }
        let told = |health: &Health| health.run.filter(|run| run.told).map(|run| run.since);
        match (told(&before), told(&health)) {
            (None, Some(since)) if known.figures < MOST_FIGURES => {
                known.figures += 1;
                self.0.metrics.partner_failing(partner, since);
            }
            (Some(_), None) if self.0.metrics.partner_recovered(partner) => known.figures -= 1,
            _ => {}
        }
    }

    fn queue(&self, announcement: Announcement) {
        let partner = announcement.partner;
        // Whoever reads them may have ended, as the service does.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.0.announcements.try_send(announcement) {
            tracing::warn!(%partner, "too many announcements wait for the operator's URL; this one is only in the log");
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(partner: PartnerId, news: News, before: &Health, health: &Health, now: Timestamp) {
    let since = before.run.map_or(now, |run| run.since).to_iso();
    match (news, health.last_failure) {
        (News::Failing, Some((_, reason))) => {
            tracing::warn!(%partner, since, %reason, "a partner's endpoint has been failing for long");
        }
        (News::Failing, None) => tracing::warn!(%partner, since, "a partner's endpoint has been failing for long"),
        (News::Recovered, _) => tracing::info!(%partner, since, "a partner's endpoint acknowledges again"),
    }
}
