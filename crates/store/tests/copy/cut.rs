//! A copy that is cut off goes on where it was, and comes to the same end.

use crate::close;
use crate::fixture::{File, address, assert_same, copy_at_once, copy_slowly, database, fill, open_postgres, told};
use capa_webhooks_cluster::Database;
use capa_webhooks_store::conformance::fixture::Scene;
use capa_webhooks_store::copy::{Address, Copied, CopyError, Stage};
use capa_webhooks_store::{Error, Store};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::task::Poll;

/// Copies, stopped after every batch; the tables that were stopped in their middle.
async fn stop_after_every_batch(from: &Address, to: &Address) -> (Copied, BTreeSet<&'static str>) {
    let mut stopped = BTreeSet::new();
    let mut verifying = false;
    loop {
        let copied = copy_slowly(from, to, |progress| {
            if progress.stage == Stage::Copying && progress.done < progress.total {
                stopped.insert(progress.table);
            }
            // Once while both ends are compared.
            let stop = match progress.stage {
                Stage::Copying => true,
                Stage::Deriving => false,
                Stage::Verifying => !std::mem::replace(&mut verifying, true),
            };
            if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await;
        match copied {
            Ok(copied) => return (copied, stopped),
            Err(CopyError::Stopped) => {}
            // The database has not noticed yet that the copy before has gone.
            Err(CopyError::Store(Error::InUse(_))) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What is said of a target that needs no more copying.
const FINISHED: &str = "the target of the copy holds a finished copy of this store already";

/// Copies, and is dropped after one step with the network, then after two, and so on, as by a process that is killed. Nothing
/// is told of what was copied where the last step was carried out in spite of that.
async fn kill_after_every_step(from: &Address, to: &Address) -> Option<Copied> {
    let mut steps = 0;
    loop {
        let mut copying = Box::pin(copy_slowly(from, to, |_| ControlFlow::Continue(())));
        let mut taken = 0;
        let ended = poll_fn(|context| match copying.as_mut().poll(context) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if taken == steps => Poll::Ready(None),
            Poll::Pending => {
                taken += 1;
                Poll::Pending
            }
        });
        match ended.await {
            Some(Ok(copied)) => return Some(copied),
            Some(Err(error)) if error.to_string() == FINISHED => return None,
            None => steps += 1,
            // The database has not noticed yet that the copy before has gone.
            Some(Err(CopyError::Store(Error::InUse(_)))) => tokio::task::yield_now().await,
            Some(Err(error)) => panic!("{error}"),
        }
    }
}

async fn filled() -> (File, crate::fixture::Filled, Vec<String>) {
    let mut scene = Scene::new(File::new()).await;
    let filled = fill(&mut scene).await;
    let before = told(scene.store(), &filled).await;
    (close(scene).0, filled, before)
}

async fn assert_postgres(there: &Database, filled: &crate::fixture::Filled, before: &[String]) {
    let store = open_postgres(there).await.unwrap();
    assert_eq!(store.examine().await.unwrap().violations, []);
    assert_same(before, &told(&store, filled).await);
}

async fn assert_sqlite(back: &File, filled: &crate::fixture::Filled, before: &[String]) {
    let store = back.open_store().unwrap();
    assert_eq!(store.examine().await.unwrap().violations, []);
    assert_same(before, &told(&store, filled).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_in_every_table() {
    let (file, filled, before) = filled().await;
    let whole = database();
    let expected = copy_at_once(&file.address(), &address(&whole)).await.unwrap();
    let (there, back) = (database(), File::new());
    let (copied, stopped) = stop_after_every_batch(&file.address(), &address(&there)).await;
    // Three rows are a batch: only a larger table can be stopped in its middle.
    let large = expected.tables.iter().filter(|(_, digest)| digest.rows > 3).count();
    assert_eq!((copied, stopped.len()), (expected.clone(), large));
    assert_postgres(&there, &filled, &before).await;
    let (copied, stopped) = stop_after_every_batch(&address(&there), &back.address()).await;
    assert_eq!((copied, stopped.len()), (expected.clone(), large));
    assert_sqlite(&back, &filled, &before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_any_two_steps() {
    let (file, filled, before) = filled().await;
    let whole = database();
    let expected = copy_at_once(&file.address(), &address(&whole)).await.unwrap();
    let (there, back) = (database(), File::new());
    let copied = kill_after_every_step(&file.address(), &address(&there)).await;
    assert_eq!(copied.unwrap_or_else(|| expected.clone()), expected);
    assert_postgres(&there, &filled, &before).await;
    let copied = kill_after_every_step(&address(&there), &back.address()).await;
    assert_eq!(copied.unwrap_or_else(|| expected.clone()), expected);
    assert_sqlite(&back, &filled, &before).await;
}
