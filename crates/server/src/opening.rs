//! Opens the configured store: the right engine, with its master key, and with an admin key in it.

use crate::clock::{self, Clock};
use crate::config::{Config, StoreUrl};
use crate::keyfile::{self, FreshKey};
use crate::telemetry::metrics::Metrics;
use capa_webhooks_store::postgres::{self, PostgresStore};
use capa_webhooks_store::seal::MasterKey;
use capa_webhooks_store::sqlite::{Options, SqliteStore};
use capa_webhooks_store::{KeyAdded, PlatformKey, Scopes, Store};
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;

/// How many connections read from the embedded store.
const READERS: usize = 4;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// A service has the store open.
    #[error("{0}")]
    InUse(String),
    /// Anything else, and how to mend it.
    #[error("{0}")]
    Other(String),
}

/// Opens the store to serve it. The first start of a store in a file makes its master key.
///
/// # Errors
/// What is in the way, and how to mend it.
pub async fn open(config: &Config, metrics: &Arc<Metrics>) -> Result<Arc<dyn Store>, NotOpened> {
    match &config.store {
        StoreUrl::Sqlite(path) => {
            let key = master_key(config, path).map_err(NotOpened::Other)?;
            let metrics = metrics.clone();
            let mut options = Options::new(key, Arc::new(clock::fill_random));
            options.stopwatch = Arc::new(clock::monotonic_micros);
            options.on_commit = Arc::new(move |commit| metrics.committed(commit.rows, commit.took));
            options.readers = READERS;
            let store = SqliteStore::open(path, options).map_err(|error| match error {
                capa_webhooks_store::Error::InUse(text) => NotOpened::InUse(text),
                other => NotOpened::Other(other.to_string()),
            })?;
            Ok(Arc::new(store))
        }
        StoreUrl::Postgres(url) => {
            let store = PostgresStore::open(url.expose(), postgres_options(config)?).await;
            Ok(Arc::new(store.map_err(|error| NotOpened::Other(error.to_string()))?))
        }
    }
}

/// Opens the store to examine it, beside a service or without one.
///
/// # Errors
/// What is in the way, and how to mend it.
pub async fn open_to_examine(config: &Config) -> Result<Arc<dyn Store>, NotOpened> {
    match &config.store {
        StoreUrl::Sqlite(path) => {
            let key = keyfile::read_master_key(&config.master_key_file).map_err(NotOpened::Other)?;
            let options = Options::new(key, Arc::new(clock::fill_random));
            let store = SqliteStore::open_read_only(path, options);
            Ok(Arc::new(store.map_err(|error| NotOpened::Other(error.to_string()))?))
        }
        StoreUrl::Postgres(url) => {
            let store = PostgresStore::open_to_examine(url.expose(), postgres_options(config)?).await;
            Ok(Arc::new(store.map_err(|error| NotOpened::Other(error.to_string()))?))
        }
    }
}

fn postgres_options(config: &Config) -> Result<postgres::Options, NotOpened> {
    let key = shared_master_key(config).map_err(NotOpened::Other)?;
    Ok(postgres::Options::new(key, Arc::new(clock::fill_random)))
}

/// The master key of a store that several nodes share: never made here, because each node would make another.
fn shared_master_key(config: &Config) -> Result<MasterKey, String> {
    let file = &config.master_key_file;
    if file.exists() {
        return keyfile::read_master_key(file);
    }
    let name = file.display();
    Err(format!(
        "the master key file {name} is missing. All nodes over one PostgreSQL need the same one: copy it from another \
         node, or make the first with `capa-webhooks keys master --out {name}`; --master-key-file says where it is"
    ))
}

fn master_key(config: &Config, store: &Path) -> Result<MasterKey, String> {
    let file = &config.master_key_file;
    if file.exists() {
        return keyfile::read_master_key(file);
    }
    let name = file.display();
    match SqliteStore::names_key(store).map_err(|error| error.to_string())? {
        Some(id) => Err(format!(
            "the store {} is sealed with the master key {id}, but its file {name} is missing; restore it from your \
             copy, or say where it is with --master-key-file",
            store.display()
        )),
        None => {
            let key = keyfile::make_master_key(file)
                .map_err(|error| format!("the master key file {name} cannot be made: {error}"))?;
            tracing::info!(file = %name, key = %key.id(), "made a master key; keep a copy of the file in a safe place");
            Ok(key)
        }
    }
}

/// Makes the configured admin key exist. Without one, and as long as no admin key is valid, makes one for a store in a
/// file and writes it to a file; where several nodes share the store, the operator makes the first.
///
/// # Errors
/// What is in the way, and how to mend it.
pub async fn ensure_platform_key(config: &Config, store: &dyn Store, clock: &Clock) -> Result<(), String> {
    let keys = store.platform_keys().await.map_err(|error| error.to_string())?;
    let (key, name) = match &config.platform_key {
        Some(hidden) => {
            let key = FreshKey::parse(&hidden.0).ok_or(
                "CAPA_WEBHOOKS_PLATFORM_KEY must have the form <uuid>:<uuid>; `capa-webhooks keys new` makes one",
            )?;
            if let Some(entry) = keys.iter().find(|entry| entry.key.id == key.id) {
                if entry.key.secret_hash != key.hash() {
                    return Err(
                        "CAPA_WEBHOOKS_PLATFORM_KEY has the id of a key that exists, with another secret; give \
                                a key of its own"
                            .to_owned(),
                    );
                }
                if entry.revoked_at.is_some() {
                    tracing::warn!(id = %key.id, "the configured platform key was revoked, and stays so");
                }
                return Ok(());
            }
            (key, "configured")
        }
        None if store.shared() => {
            if !keys.iter().any(|entry| entry.revoked_at.is_none() && entry.key.scopes.admin) {
                tracing::warn!(
                    "there is no admin platform key; make one: capa-webhooks keys create --name … --scope admin"
                );
            }
            return Ok(());
        }
        None if !keys.iter().any(|entry| entry.revoked_at.is_none() && entry.key.scopes.admin) => {
            let file = &config.admin_key_file;
            let shown = file.display();
            // A start that was cut off may have written the file and not the key: then the file's key is taken.
            let key = match std::fs::read_to_string(file) {
                Ok(text) => FreshKey::parse(text.trim())
                    .filter(|key| !keys.iter().any(|entry| entry.key.id == key.id))
                    .ok_or_else(|| {
                        format!("the admin key file {shown} holds no key, or a revoked one; move it away")
                    })?,
                Err(_) => {
                    let key = FreshKey::make();
                    keyfile::write_secret(file, &key.expose())
                        .map_err(|error| format!("the admin key file {shown} cannot be made: {error}"))?;
                    key
                }
            };
            tracing::info!(file = %shown, "made an admin platform key");
            if std::io::stdout().is_terminal() {
                println!("platform-api-key: {}", key.expose());
            }
            (key, "first admin key")
        }
        None => return Ok(()),
    };
    let stored = PlatformKey { id: key.id, secret_hash: key.hash(), scopes: Scopes::ALL, name: name.to_owned() };
    match store.add_platform_key(stored.clone(), clock.now()).await {
        Ok(KeyAdded::New) => Ok(()),
        // Another node that started at the same moment may have been first.
        Ok(KeyAdded::IdTaken) if same_key(store, &stored).await? => Ok(()),
        Ok(KeyAdded::IdTaken | KeyAdded::UnknownPartner) => {
            Err("the platform key's id is taken; give another".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

async fn same_key(store: &dyn Store, key: &PlatformKey) -> Result<bool, String> {
    let found = store.platform_key(key.id).await.map_err(|error| error.to_string())?;
    Ok(found.is_some_and(|found| found.secret_hash == key.secret_hash))
}
