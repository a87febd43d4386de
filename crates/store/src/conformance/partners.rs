//! Cases of partners, their settings and keys, and platform keys.

use super::Engine;
use super::fixture::{Scene, attempted, event, everything, ok, status, ten_seconds};
use crate::{
    Accept, Created, Erased, KeyAdded, LatestError, ListQuery, NewPartner, PartnerChange, PartnerKey, PlatformKey,
    Recorded, Retried, Scopes, Store,
};
use capa_webhooks_core::id::{KeyId, PartnerId};
use capa_webhooks_core::notification::{NotSent, Status, Turn};
use capa_webhooks_core::outcome::Answer;
use capa_webhooks_core::settings::{AckRule, Choices, MOST_IN_FLIGHT, RateLimit, SettingsChange};
use std::num::NonZeroU16;
use std::time::Duration;

/// All that was given comes back.
pub async fn a_partner_is_kept_whole<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    for url in [None, Some("https://a.example/hook?token=abc".to_owned())] {
        let new = NewPartner { url, ..scene.new_partner() };
        assert_eq!(scene.store().create_partner(new.clone(), scene.now).await.expect("creates"), Created::New);
        let partner = scene.store().partner(new.id).await.expect("reads").expect("is there");
        assert_eq!((partner.id, partner.name, partner.disabled), (new.id, new.name, false));
        assert_eq!((partner.secret, partner.keys), (new.secret, vec![new.key.id]));
        assert_eq!((partner.created_at, partner.updated_at), (scene.now, scene.now));
        assert_eq!((partner.settings.id, partner.settings.url), (new.settings, new.url));
        assert_eq!(partner.settings.choices, Choices::default());
        assert_eq!((partner.settings.created_at, partner.settings.updated_at), (scene.now, scene.now));
        assert_eq!(scene.store().partner_key(new.key.id).await.expect("reads"), Some(new.key));
    }
    assert_eq!(scene.store().partner(PartnerId::v4([7; 16])).await.expect("reads"), None);
}

/// Neither a partner's id nor a key's is used twice; what is refused changes nothing.
pub async fn ids_are_taken_once<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let first = scene.new_partner();
    assert_eq!(scene.store().create_partner(first.clone(), scene.now).await.expect("creates"), Created::New);
    let same_id = NewPartner { id: first.id, name: "Other".to_owned(), ..scene.new_partner() };
    let other_key = same_id.key.id;
    assert_eq!(scene.store().create_partner(same_id, scene.now).await.expect("creates"), Created::IdTaken);
    assert_eq!(scene.store().partner_key(other_key).await.expect("reads"), None);
    let mut same_key = scene.new_partner();
    same_key.key.id = first.key.id;
    let id = same_key.id;
    assert_eq!(scene.store().create_partner(same_key.clone(), scene.now).await.expect("creates"), Created::KeyTaken);
    assert_eq!(scene.store().partner(id).await.expect("reads"), None);
    scene.store().revoke_partner_key(first.id, first.key.id, scene.now).await.expect("revokes");
    assert_eq!(scene.store().create_partner(same_key, scene.now).await.expect("creates"), Created::KeyTaken);
    assert_eq!(scene.store().erase_partner(first.id, 1, scene.now).await.expect("erases"), Erased::Done);
    let reborn = NewPartner { id: first.id, ..scene.new_partner() };
    assert_eq!(scene.store().create_partner(reborn, scene.now).await.expect("creates"), Created::IdTaken);
    assert_eq!(scene.store().partner(first.id).await.expect("reads"), None);
}

/// By id, a page at a time.
pub async fn partners_are_listed_in_order<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(scene.partner().await);
    }
    ids.sort_unstable();
    let erased = ids.remove(2);
    assert_eq!(scene.store().erase_partner(erased, 1, scene.now).await.expect("erases"), Erased::Done);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = scene.store().partners(after, 2).await.expect("lists");
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        after = Some(last.id);
        seen.extend(page.iter().map(|partner| partner.id));
    }
    assert_eq!(seen, ids);
}

/// Name and `disabled`, each by itself.
pub async fn a_partner_changes<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.partner().await;
    let before = scene.store().partner(id).await.expect("reads").expect("is there");
    scene.pass(Duration::from_secs(1));
    let change = PartnerChange { disabled: Some(true), ..PartnerChange::default() };
    let changed = scene.store().update_partner(id, change, scene.now).await.expect("changes").expect("is there");
    assert_eq!((changed.disabled, &changed.name, changed.updated_at), (true, &before.name, scene.now));
    let change = PartnerChange { name: Some("New".to_owned()), ..PartnerChange::default() };
    let changed =
        scene.store().update_partner(id, change.clone(), scene.now).await.expect("changes").expect("is there");
    assert_eq!((changed.disabled, changed.name.as_str()), (true, "New"));
    assert_eq!(scene.store().partner(id).await.expect("reads"), Some(changed));
    assert_eq!(scene.store().update_partner(PartnerId::v4([7; 16]), change, scene.now).await.expect("asks"), None);
}

/// Every setting is set, left alone, and reset.
pub async fn settings_change<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.partner().await;
    let before = scene.store().partner(id).await.expect("reads").expect("is there").settings;
    scene.pass(Duration::from_secs(1));
    let all = SettingsChange {
        url: Some(Some("https://b.example/".to_owned())),
        ack_rule: Some(Some(AckRule::Any2xx)),
        retry_delays: Some(Some(vec![Duration::ZERO, Duration::from_millis(90_500)])),
        attempt_timeout: Some(Some(Duration::from_millis(1_500))),
        max_in_flight: Some(NonZeroU16::new(MOST_IN_FLIGHT)),
        rate_limit: Some(RateLimit::from_per_second(10_000.0)),
        events: Some(Some(vec!["VERIFIED_USER".to_owned(), "REJECTED_KYC".to_owned()])),
    };
    let nothing_filtered = SettingsChange { events: Some(Some(Vec::new())), ..SettingsChange::default() };
    let slowest = SettingsChange {
        max_in_flight: Some(NonZeroU16::new(1)),
        rate_limit: Some(RateLimit::from_per_second(0.01)),
        ..SettingsChange::default()
    };
    let reset = SettingsChange {
        url: Some(None),
        ack_rule: Some(None),
        retry_delays: Some(None),
        attempt_timeout: Some(None),
        max_in_flight: Some(None),
        rate_limit: Some(None),
        events: Some(None),
    };
    let mut expected = before;
    for change in [all, SettingsChange::default(), nothing_filtered, slowest, reset] {
        expected = change.clone().apply(expected, scene.now);
        let changed = scene.store().change_settings(id, change.clone(), scene.now).await.expect("changes");
        assert_eq!(changed.as_ref(), Some(&expected), "{change:?}");
        let partner = scene.store().partner(id).await.expect("reads").expect("is there");
        assert_eq!((partner.settings, partner.updated_at), (expected.clone(), scene.now));
    }
    let stranger = PartnerId::v4([7; 16]);
    assert_eq!(
        scene.store().change_settings(stranger, SettingsChange::default(), scene.now).await.expect("asks"),
        None
    );
}

/// That the operator was told of a failing endpoint outlives the process, and changes nothing else.
pub async fn failing_endpoints_are_kept<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (one, two, three) = (scene.partner().await, scene.partner().await, scene.partner().await);
    let before = scene.store().partner(one).await.expect("reads");
    let (first, later) = (scene.now, scene.pass(Duration::from_secs(1)));
    for (partner, since) in [(one, later), (two, first), (three, first), (one, first)] {
        assert!(scene.store().set_failing(partner, Some(since)).await.expect("keeps"));
    }
    assert!(scene.store().set_failing(two, None).await.expect("keeps"));
    assert!(!scene.store().set_failing(PartnerId::v4([7; 16]), Some(first)).await.expect("asks"));
    scene.reopen().await;
    scene.next_life().await;
    let mut expected = [(one, first), (three, first)];
    expected.sort_unstable();
    assert_eq!(scene.store().failing().await.expect("reads"), expected);
    assert_eq!(scene.store().partner(one).await.expect("reads"), before);
    assert_eq!(scene.store().erase_partner(one, 1, scene.now).await.expect("erases"), Erased::Done);
    assert_eq!(scene.store().failing().await.expect("reads"), [(three, first)]);
    assert!(!scene.store().set_failing(one, Some(first)).await.expect("asks"));
}

/// A partner's further keys.
pub async fn keys_are_added_and_revoked<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (partner, other) = (scene.partner().await, scene.partner().await);
    let key = PartnerKey { id: KeyId::v4([1; 16]), partner, secret_hash: [2; 32] };
    assert_eq!(scene.store().add_partner_key(key.clone(), scene.now).await.expect("adds"), KeyAdded::New);
    assert_eq!(scene.store().partner_key(key.id).await.expect("reads"), Some(key.clone()));
    assert_eq!(scene.store().partner(partner).await.expect("reads").expect("is there").keys.len(), 2);
    let again = PartnerKey { partner: other, ..key.clone() };
    assert_eq!(scene.store().add_partner_key(again, scene.now).await.expect("adds"), KeyAdded::IdTaken);
    let stranger = PartnerKey { id: KeyId::v4([3; 16]), partner: PartnerId::v4([7; 16]), secret_hash: [2; 32] };
    assert_eq!(scene.store().add_partner_key(stranger, scene.now).await.expect("adds"), KeyAdded::UnknownPartner);
    assert!(!scene.store().revoke_partner_key(other, key.id, scene.now).await.expect("revokes"));
    assert!(scene.store().revoke_partner_key(partner, key.id, scene.now).await.expect("revokes"));
    assert!(!scene.store().revoke_partner_key(partner, key.id, scene.now).await.expect("revokes"));
    assert_eq!(scene.store().partner_key(key.id).await.expect("reads"), None);
    assert_eq!(scene.store().partner(partner).await.expect("reads").expect("is there").keys.len(), 1);
    assert_eq!(scene.store().add_partner_key(key, scene.now).await.expect("adds"), KeyAdded::IdTaken);
}

/// Keys of the platform, with their scopes.
pub async fn platform_keys_are_added_and_revoked<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let mut keys = Vec::new();
    for (number, names) in
        [vec![], vec!["publish"], vec!["admin", "read"], vec!["publish", "admin", "read"]].iter().enumerate()
    {
        let scopes = Scopes::from_names(names.iter().copied()).expect("known scopes");
        let key = PlatformKey {
            id: KeyId::v4(scene.random.bytes()),
            secret_hash: scene.random.bytes(),
            scopes,
            name: format!("key {number}"),
        };
        assert_eq!(scene.store().add_platform_key(key.clone(), scene.now).await.expect("adds"), KeyAdded::New);
        assert_eq!(scene.store().add_platform_key(key.clone(), scene.now).await.expect("adds"), KeyAdded::IdTaken);
        assert_eq!(scene.store().platform_key(key.id).await.expect("reads"), Some(key.clone()));
        keys.push(key);
        scene.pass(Duration::from_secs(1));
    }
    assert!(scene.store().revoke_platform_key(keys[1].id, scene.now).await.expect("revokes"));
    assert!(!scene.store().revoke_platform_key(keys[1].id, scene.now).await.expect("revokes"));
    assert!(!scene.store().revoke_platform_key(KeyId::v4([7; 16]), scene.now).await.expect("revokes"));
    assert_eq!(scene.store().platform_key(keys[1].id).await.expect("reads"), None);
    let listed = scene.store().platform_keys().await.expect("lists");
    assert_eq!(listed.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>(), keys);
    assert_eq!(listed.iter().filter_map(|entry| entry.revoked_at).collect::<Vec<_>>(), [scene.now]);
    assert_eq!(scene.store().add_platform_key(keys[1].clone(), scene.now).await.expect("adds"), KeyAdded::IdTaken);
}

/// From the first slice on nothing is accepted and no key is valid; each slice settles at most so many.
pub async fn erasing_goes_in_slices<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let new = scene.new_partner();
    let partner = new.id;
    scene.store().create_partner(new.clone(), scene.now).await.expect("creates");
    let mut pending = Vec::new();
    for _ in 0..5 {
        pending.push(scene.owned(partner).await);
        scene.pass(Duration::from_millis(1));
    }
    assert_eq!(scene.store().erase_partner(partner, 2, scene.now).await.expect("erases"), Erased::More);
    assert_eq!(scene.store().partner(partner).await.expect("reads"), None);
    assert_eq!(scene.store().partner_key(new.key.id).await.expect("reads"), None);
    assert_eq!(scene.store().backlog().await.expect("counts").pending, 3);
    let key = PartnerKey { id: KeyId::v4([1; 16]), partner, secret_hash: [2; 32] };
    assert_eq!(scene.store().add_partner_key(key, scene.now).await.expect("adds"), KeyAdded::UnknownPartner);
    let change = PartnerChange { disabled: Some(true), ..PartnerChange::default() };
    assert_eq!(scene.store().update_partner(partner, change, scene.now).await.expect("asks"), None);
    assert_eq!(scene.store().change_settings(partner, SettingsChange::default(), scene.now).await.expect("asks"), None);
    let settled = attempted(pending[0], Turn::first(scene.now), ok(), &ten_seconds(1), scene.now);
    assert_eq!(scene.record(settled).await, Recorded::Late, "the slice has settled it");
    let held = attempted(pending[4], Turn::first(scene.now), ok(), &ten_seconds(1), scene.now);
    assert_eq!(scene.record(held).await, Recorded::Applied, "the slice has not come to it yet");
    assert_eq!(scene.store().erase_partner(partner, 2, scene.now).await.expect("erases"), Erased::Done);
    assert_eq!(scene.store().erase_partner(partner, 2, scene.now).await.expect("erases"), Erased::Done);
    let stranger = PartnerId::v4([7; 16]);
    assert_eq!(scene.store().erase_partner(stranger, 2, scene.now).await.expect("erases"), Erased::UnknownPartner);
    for (key, expected) in
        pending.iter().zip([Status::NotSent, Status::NotSent, Status::NotSent, Status::NotSent, Status::Sent])
    {
        let detail = scene.store().notification(*key).await.expect("reads").expect("is there");
        assert_eq!(detail.summary.status, expected);
        if expected == Status::NotSent {
            assert_eq!(detail.latest_error, Some(LatestError::NotSent(NotSent::PartnerErased)));
        }
    }
    scene.assert_healthy().await;
}

/// Nothing of an erased partner works any more.
pub async fn an_erased_partner_is_gone<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let failed = scene.failed(partner).await;
    assert_eq!(scene.store().erase_partner(partner, 1, scene.now).await.expect("erases"), Erased::Done);
    assert_eq!(scene.store().partner(partner).await.expect("reads"), None);
    assert_eq!(scene.retry(failed).await, Retried::NoUrl);
    assert!(scene.store().partners(None, 10).await.expect("lists").is_empty());
    scene.reopen().await;
    scene.next_life().await;
    assert_eq!(scene.store().partner(partner).await.expect("reads"), None);
    scene.assert_healthy().await;
}

/// Counts, statuses and times are left; payloads, URLs and answers are not, nor can anybody be searched for.
pub async fn what_is_erased_cannot_be_read<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let accept = Accept { event: event("u", Some("t"), 1), ..scene.event(partner) };
    let key = accept.key;
    scene.accept(accept).await;
    let record =
        attempted(key, Turn::first(scene.now), status(500, "their body"), &super::fixture::never_again(), scene.now);
    assert_eq!(scene.record(record).await, Recorded::Applied);
    assert_eq!(scene.store().erase_partner(partner, 1, scene.now).await.expect("erases"), Erased::Done);
    let detail = scene.store().notification(key).await.expect("reads").expect("is there");
    assert_eq!((detail.summary.status, detail.payload.len()), (Status::Failed, 0));
    assert_eq!(detail.latest_error, Some(LatestError::Attempt(status(500, ""))));
    let attempts = scene.store().attempts(key).await.expect("reads").expect("is there");
    assert_eq!((attempts[0].url.as_str(), &attempts[0].answer), ("", &status(500, "")));
    assert!(matches!(attempts[0].answer, Answer::Response { .. }));
    assert_eq!(scene.list(everything(partner)).await.total, 1);
    let searched = ListQuery { external_user_id: Some("u".to_owned()), ..everything(partner) };
    assert_eq!(scene.list(searched).await.total, 0);
    scene.assert_healthy().await;
}
