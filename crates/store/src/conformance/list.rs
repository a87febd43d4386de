//! Cases of [`Store::list`](crate::Store::list).

use super::Engine;
use super::fixture::{Scene, event, everything};
use crate::{Accept, Fate, ListQuery, PageStart, Retried};
use capa_webhooks_core::id::{NotificationId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::{NotSent, Status};
use std::time::Duration;

async fn ids<E: Engine>(scene: &Scene<E>, query: ListQuery) -> Vec<NotificationId> {
    let page = scene.list(query).await;
    assert_eq!(page.total, u64::try_from(page.rows.len()).expect("fits"));
    page.rows.iter().map(|row| row.id).collect()
}

fn newest_first(keys: &[NotificationKey]) -> Vec<NotificationId> {
    keys.iter().rev().map(|key| key.id).collect()
}

/// Each filter by itself, and some together.
pub async fn every_filter<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let all = || everything(partner);
    let mut keys = Vec::new();
    for (user, transaction) in [("u-1", None), ("u-1", Some("t-1")), ("u-2", Some("t-1")), ("u-2", Some("t-2"))] {
        let accept = Accept { event: event(user, transaction, 1), fate: Fate::Queue(None), ..scene.event(partner) };
        keys.push(accept.key);
        scene.accept(accept).await;
        scene.pass(Duration::from_secs(1));
    }
    let begin = scene.now.minus(Duration::from_secs(4));
    let at = |seconds| Some(begin.plus(Duration::from_secs(seconds)));
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(ids(&scene, all()).await, newest_first(&keys));
    assert_eq!(ids(&scene, ListQuery { event: text("VERIFIED_USER"), ..all() }).await, newest_first(&keys[..1]));
    assert_eq!(ids(&scene, ListQuery { event: text("CREATED_KYC"), ..all() }).await, []);
    assert_eq!(ids(&scene, ListQuery { transaction_id: text("t-1"), ..all() }).await, newest_first(&keys[1..3]));
    assert_eq!(ids(&scene, ListQuery { external_user_id: text("u-2"), ..all() }).await, newest_first(&keys[2..]));
    let both = ListQuery { transaction_id: text("t-1"), external_user_id: text("u-2"), ..all() };
    assert_eq!(ids(&scene, both).await, newest_first(&keys[2..3]));
    assert_eq!(ids(&scene, ListQuery { since: at(1), ..all() }).await, newest_first(&keys[1..]));
    assert_eq!(ids(&scene, ListQuery { until: at(1), ..all() }).await, newest_first(&keys[..1]));
    assert_eq!(ids(&scene, ListQuery { since: at(1), until: at(3), ..all() }).await, newest_first(&keys[1..3]));

    let (sent, failed) = (scene.sent(partner).await, scene.failed(partner).await);
    let unsent = Accept { fate: Fate::NotSent(NotSent::NoUrl), ..scene.event(partner) };
    let not_sent = unsent.key;
    scene.accept(unsent).await;
    let retried = scene.failed(partner).await;
    let with = |status| ListQuery { status: Some(status), ..everything(partner) };
    assert_eq!(ids(&scene, with(Status::Failed)).await.len(), 2);
    assert!(matches!(scene.retry(retried).await, Retried::Queued(_)));
    for (status, expected) in [(Status::Sent, sent), (Status::Failed, failed), (Status::NotSent, not_sent)] {
        assert_eq!(ids(&scene, with(status)).await, [expected.id], "{status:?}");
    }
    assert_eq!(ids(&scene, with(Status::Pending)).await.len(), keys.len() + 1);
    let mut narrow = with(Status::Pending);
    narrow.transaction_id = text("t-2");
    assert_eq!(ids(&scene, narrow).await, newest_first(&keys[3..]));
}

/// A search finds the same whether few or many share a transaction, and with every other filter.
pub async fn a_transaction_that_many_share<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partners = [scene.partner().await, scene.partner().await];
    let text = |number: usize, of: usize| Some(format!("shared-{}", number % of));
    let mut keys = Vec::new();
    for number in 0..120 {
        let partner = partners[number / 2 % 2];
        let (user, transaction) = (text(number, 3).unwrap_or_default(), text(number, 40));
        let fate = if number.is_multiple_of(4) { Fate::NotSent(NotSent::NoUrl) } else { Fate::Queue(None) };
        let event = event(&user, transaction.as_deref().filter(|_| !number.is_multiple_of(5)), 1);
        let accept = Accept { event, fate, ..scene.event(partner) };
        keys.push((number, accept.key));
        scene.accept(accept).await;
        scene.pass(Duration::from_secs(1));
    }
    let begin = scene.now.minus(Duration::from_secs(120));
    let of = |partner, wanted: &dyn Fn(usize) -> bool| -> Vec<NotificationId> {
        let wanted = keys.iter().rev().filter(|(number, key)| key.partner == partner && wanted(*number));
        wanted.map(|(_, key)| key.id).collect()
    };
    for partner in partners {
        for user in 0..4 {
            let by_user = ListQuery { external_user_id: text(user, 9), ..everything(partner) };
            let expected = of(partner, &|number| number % 3 == user);
            assert_eq!(ids(&scene, by_user.clone()).await, expected);
            let page = scene.list(ListQuery { from: PageStart::Skip(3), limit: 5, ..by_user.clone() }).await;
            let total = u64::try_from(expected.len()).expect("fits");
            let rows: Vec<_> = page.rows.iter().map(|row| row.id).collect();
            assert_eq!((page.total, rows), (total, expected.iter().copied().skip(3).take(5).collect()));
            let status = Some(Status::NotSent);
            let not_sent = of(partner, &|number| number % 3 == user && number.is_multiple_of(4));
            assert_eq!(ids(&scene, ListQuery { status, ..by_user.clone() }).await, not_sent);
            let pending = of(partner, &|number| number % 3 == user && !number.is_multiple_of(4));
            let status = Some(Status::Pending);
            assert_eq!(ids(&scene, ListQuery { status, ..by_user.clone() }).await, pending);
            let event = Some("VERIFIED_USER".to_owned());
            let verified = of(partner, &|number| number % 3 == user && number.is_multiple_of(5));
            assert_eq!(ids(&scene, ListQuery { event, ..by_user.clone() }).await, verified);
            let at = |seconds| Some(begin.plus(Duration::from_secs(seconds)));
            let between = of(partner, &|number| number % 3 == user && (20..100).contains(&number));
            assert_eq!(ids(&scene, ListQuery { since: at(20), until: at(100), ..by_user.clone() }).await, between);
            for transaction in 0..41 {
                let carries = |number: usize| number % 40 == transaction && !number.is_multiple_of(5);
                let by_transaction = ListQuery { transaction_id: text(transaction, 99), ..everything(partner) };
                assert_eq!(ids(&scene, by_transaction.clone()).await, of(partner, &carries));
                let both = ListQuery { transaction_id: by_transaction.transaction_id, ..by_user.clone() };
                assert_eq!(ids(&scene, both).await, of(partner, &|number| number % 3 == user && carries(number)));
            }
        }
    }
}

/// By skipping, and by the last id seen; `total` is of all that match.
pub async fn pages<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let mut keys = Vec::new();
    for _ in 0..7 {
        keys.push(scene.unowned(partner).await);
        scene.pass(Duration::from_millis(1));
    }
    let expected = newest_first(&keys);
    let (mut seen, mut from) = (Vec::new(), PageStart::Skip(0));
    loop {
        let page = scene.list(ListQuery { from, limit: 3, ..everything(partner) }).await;
        assert_eq!(page.total, 7);
        let Some(last) = page.rows.last() else { break };
        from = PageStart::After(last.id);
        seen.extend(page.rows.iter().map(|row| row.id));
    }
    assert_eq!(seen, expected);
    for skip in 0..9 {
        let query = ListQuery { from: PageStart::Skip(skip), limit: 2, ..everything(partner) };
        let page = scene.list(query).await;
        let rows: Vec<_> = page.rows.iter().map(|row| row.id).collect();
        assert_eq!((page.total, rows), (7, expected.iter().copied().skip(skip).take(2).collect()));
    }
}

/// No list shows another partner's notifications.
pub async fn each_partner_sees_its_own<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (one, two) = (scene.partner().await, scene.partner().await);
    let of_one = scene.sent(one).await;
    let of_two = scene.failed(two).await;
    assert_eq!(ids(&scene, everything(one)).await, [of_one.id]);
    assert_eq!(ids(&scene, everything(two)).await, [of_two.id]);
    assert_eq!(ids(&scene, everything(PartnerId::v4([7; 16]))).await, []);
    for status in Status::ALL {
        let query = ListQuery { status: Some(status), ..everything(one) };
        assert_eq!(ids(&scene, query).await.len(), usize::from(status == Status::Sent));
    }
}
