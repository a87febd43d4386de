//! The service on a runtime of its own, which can be torn down under it.

use super::patience;
use capa_webhooks::boot::{Service, Surroundings};
use capa_webhooks::config::Config;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// The service, on threads of its own. The runtime goes first when this is dropped: what the service was doing breaks
/// off where it stands.
pub(super) struct Running {
    pub(super) runtime: OwnRuntime,
    pub(super) service: Service,
}

impl Running {
    pub(super) async fn start(config: Config, surroundings: Surroundings) -> Self {
        let runtime = OwnRuntime::new();
        let starting = Service::start(config, surroundings);
        let service = patience::within("the service to start", runtime.spawn(starting)).await.unwrap().unwrap();
        Self { runtime, service }
    }
}

/// A runtime that may be dropped within another one.
pub(super) struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self(Some(runtime.unwrap()))
    }

    pub(super) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.0.as_ref().expect("it is taken only when it is dropped").spawn(work)
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        let runtime = self.0.take();
        // Waits for its threads, which only a thread without a runtime may do.
        _ = std::thread::spawn(move || drop(runtime)).join();
    }
}
