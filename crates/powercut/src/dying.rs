//! A disk that fails a write or a sync.
//!
//! The store ends its process then, so this runs in a process of its own ([`accept_until_the_end`]), which says each
//! acknowledged event on a line of its own. Whoever started it ([`check`]) looks at how it ended, and whether what was
//! acknowledged lies on what the disk left behind.

use crate::disk::{Broken, Disk};
use crate::vfs::Mount;
use capa_webhooks_core::id::KeyId;
use capa_webhooks_core::id::{LifeId, NotificationId, NotificationKey, PartnerId, SettingsId};
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::conformance::fixture::{BEGIN, Random, all, event};
use capa_webhooks_store::seal::MasterKey;
use capa_webhooks_store::sqlite::{self, SqliteStore};
use capa_webhooks_store::{Accept, Accepted, Created, Fate, NewPartner, PartnerKey, SecretText, Store};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

/// Events that are asked for at most. The disk fails long before.
const MOST: u64 = 20_000;
/// Callers at the same time.
const CALLERS: u64 = 5;

/// Accepts events on a disk that fails after so many calls, and writes the number of each that was acknowledged. Returns
/// only if the store does not end the process.
///
/// # Errors
/// The store does not open, or says what it must not.
pub fn accept_until_the_end(seed: u64, what: Broken, after: u64, left: &Path) -> Result<(), String> {
    let disk = Arc::new(Disk::new(seed));
    let (_folder, store) = open(&disk)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let now = Timestamp::from_millis(BEGIN);
        store.begin_life(LifeId::from_bytes([1; 16]), now).await.map_err(|error| error.to_string())?;
        let created = store.create_partner(partner(), now).await.map_err(|error| error.to_string())?;
        if created != Created::New {
            return Err(format!("creating a partner said {created:?}"));
        }
        // Only now, so that the store and the partner are there.
        disk.break_down(what, after, left);
        for first in (0..MOST).step_by(usize::try_from(CALLERS).unwrap_or(1)) {
            let calls = (first..first + CALLERS).map(|number| store.accept(vec![numbered(number)], now)).collect();
            for (number, answer) in (first..).zip(all(calls).await) {
                // An error acknowledges nothing.
                if answer.is_ok_and(|accepted| accepted == [Accepted::New]) {
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "{number}").and_then(|()| out.flush()).map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(())
    })
}

/// Whether the store, started on what was left, holds each of the events that `said` counts. Gives their number.
///
/// # Errors
/// What is wrong.
pub fn check(left: &Path, said: &str) -> Result<usize, String> {
    let disk = Arc::new(Disk::load(1, left).map_err(|error| error.to_string())?);
    let (_folder, store) = open(&disk)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let examination = store.examine().await.map_err(|error| error.to_string())?;
        if !examination.violations.is_empty() {
            return Err(format!("the store is not whole: {:?}", examination.violations));
        }
        let numbers = said.lines().map(|line| line.parse::<u64>().map_err(|_| format!("not a number: {line}")));
        let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
        for number in &numbers {
            let Accept { key, event, .. } = numbered(*number);
            let found = store.notification(key).await.map_err(|error| error.to_string())?;
            if found.is_none_or(|found| found.payload != event.body) {
                return Err(format!("event {number} was acknowledged and is not there"));
            }
        }
        Ok(numbers.len())
    })
}

fn open(disk: &Arc<Disk>) -> Result<(Opened, SqliteStore), String> {
    let folder = tempfile::TempDir::with_prefix("capa-powercut-").map_err(|error| error.to_string())?;
    let mount = Mount::new(folder.path(), Arc::clone(disk));
    let entropy = Arc::new(|bytes: &mut [u8]| bytes.fill(9));
    let options = sqlite::Options {
        // Small, so that checkpoints fail, too.
        disk: sqlite::Disk::through(mount.vfs(), 12),
        ..sqlite::Options::new(MasterKey::new([7; 32]), entropy)
    };
    let store = SqliteStore::open(&folder.path().join("store.db"), options).map_err(|error| error.to_string())?;
    Ok((Opened { _mount: mount, _folder: folder }, store))
}

/// What must live as long as the store.
struct Opened {
    _mount: Mount,
    _folder: tempfile::TempDir,
}

fn partner() -> NewPartner {
    let id = PartnerId::from_bytes([2; 16]);
    NewPartner {
        id,
        name: "Partner".to_owned(),
        settings: SettingsId::from_bytes([3; 16]),
        url: None,
        secret: SecretText("secret".to_owned().into()),
        key: PartnerKey { id: KeyId::from_bytes([4; 16]), partner: id, secret_hash: [5; 32] },
    }
}

/// The event of a number; always the same.
fn numbered(number: u64) -> Accept {
    let id = NotificationId::v7(Timestamp::from_millis(BEGIN), Random(number).bytes());
    Accept {
        key: NotificationKey { partner: PartnerId::from_bytes([2; 16]), id },
        event: event("u-1", Some("t-1"), number),
        idempotency: None,
        fate: Fate::Queue(None),
    }
}
