//! Keys as people hold them: `<uuid>:<uuid>`, and the files that hold the master key and the first admin key.

use crate::clock::random_bytes;
use capa_webhooks_core::id::KeyId;
use capa_webhooks_receiver::Secret;
use capa_webhooks_store::seal::MasterKey;
use sha2::{Digest, Sha256};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::str::FromStr as _;

/// An API key whose secret is still known, because it was just made or given.
pub struct FreshKey {
    /// The key's id.
    pub id: KeyId,
    secret: String,
}

impl std::fmt::Debug for FreshKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FreshKey({}, ***)", self.id)
    }
}

impl FreshKey {
    /// A new key.
    pub fn make() -> Self {
        Self { id: KeyId::v4(random_bytes()), secret: KeyId::v4(random_bytes()).to_string() }
    }

    /// The key with this text; `None` if it has not the form `<uuid>:<uuid>`.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = split_key(text)?;
        Some(Self { id, secret: secret.to_owned() })
    }

    /// The text that callers send.
    pub fn expose(&self) -> String {
        format!("{}:{}", self.id, self.secret)
    }

    /// What is stored of the secret.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret.as_bytes()).into()
    }
}

/// Splits `<uuid>:<uuid>` into the key's id and its secret.
pub fn split_key(text: &str) -> Option<(KeyId, &str)> {
    let (id, secret) = text.split_once(':')?;
    let is_uuid = KeyId::from_str(secret).is_ok();
    KeyId::from_str(id).ok().filter(|_| is_uuid).map(|id| (id, secret))
}

/// Writes a new secret file with mode 0600; never over one that exists.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// Makes a master key and writes it to a new file with mode 0600.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn make_master_key(path: &Path) -> std::io::Result<MasterKey> {
    let key = MasterKey::new(random_bytes());
    write_secret(path, &key.to_hex())?;
    Ok(key)
}

/// Reads a master key from its file.
///
/// # Errors
/// What is wrong with the file, and how to mend it.
pub fn read_master_key(path: &Path) -> Result<MasterKey, String> {
    let name = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("the master key file {name} cannot be read: {error}"))?;
    let key = MasterKey::from_hex(text.trim()).ok_or_else(|| {
        format!("the master key file {name} must hold 64 lower-case hex digits; restore it from your copy")
    })?;
    let mode = std::fs::metadata(path).map(|meta| meta.permissions().mode()).unwrap_or_default();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %name, "others may read the master key; run: chmod 600 {name}");
    }
    Ok(key)
}

/// Reads a webhook secret from its file, or makes one with mode 0600 if there is no such file.
///
/// # Errors
/// What is wrong with the file, and how to mend it.
pub fn webhook_secret(path: &Path) -> Result<Secret, String> {
    let name = path.display();
    if !path.exists() {
        let secret = Secret::generate_from(random_bytes());
        write_secret(path, secret.expose())
            .map_err(|error| format!("the webhook secret file {name} cannot be made: {error}"))?;
        tracing::info!(file = %name, "made a webhook secret");
        return Ok(secret);
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("the webhook secret file {name} cannot be read: {error}"))?;
    text.trim().parse().map_err(|error| format!("the webhook secret file {name} holds no secret: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_form() {
        let key = FreshKey::make();
        let read = FreshKey::parse(&key.expose()).unwrap();
        assert_eq!((read.id, read.hash()), (key.id, key.hash()));
        assert!(!format!("{key:?}").contains(&key.secret));
        for bad in ["", ":", "a:b", &key.secret, &format!("{}:", key.id), &format!("{}:x{}", key.id, key.secret)] {
            assert!(FreshKey::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_webhook_secret_is_made_once_and_read_in_both_forms() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let made = webhook_secret(&path).unwrap();
        assert_eq!(webhook_secret(&path).unwrap(), made);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, made.to_whsec()).unwrap();
        assert_eq!(webhook_secret(&path).unwrap(), made);
        std::fs::write(&path, "something else").unwrap();
        assert!(webhook_secret(&path).unwrap_err().contains("holds no secret"));
    }

    #[test]
    fn the_master_key_is_written_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/master");
        let made = make_master_key(&path).unwrap();
        assert_eq!(read_master_key(&path).unwrap().id(), made.id());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(make_master_key(&path).is_err(), "never over one that exists");
        std::fs::write(&path, "too short").unwrap();
        assert!(read_master_key(&path).unwrap_err().contains("64 lower-case hex digits"));
    }
}
