//! Which certificates are trusted, and what is spoken over TLS.

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// No certificate authority was found.
#[derive(Debug, thiserror::Error)]
#[error(
    "no certificate authorities were found on this machine, so no https receiver could be trusted{}; install the \
     package ca-certificates, or set SSL_CERT_FILE to a file that holds them in PEM form",
    .reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
)]
pub struct NoRoots {
    /// What went wrong while they were looked for, if something did.
    reason: Option<String>,
}

/// TLS 1.2 and 1.3 with the machine's certificate authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured) and
/// `extra`, offering HTTP/1.1 only.
pub(super) fn config(extra: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, NoRoots> {
    let native = rustls_native_certs::load_native_certs();
    let reason = native.errors.first().map(ToString::to_string);
    let roots = roots(native.certs.into_iter().chain(extra), reason)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Certificates that cannot be read are left out: one broken file among a machine's must not stop everything.
fn roots(
    certificates: impl Iterator<Item = CertificateDer<'static>>,
    reason: Option<String>,
) -> Result<RootCertStore, NoRoots> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() { Err(NoRoots { reason }) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_roots_the_error_names_the_cure() {
        let broken = CertificateDer::from(b"not a certificate".to_vec());
        let error = roots([broken].into_iter(), Some("failed to read /etc/x.pem".to_owned())).unwrap_err().to_string();
        for words in ["ca-certificates", "SSL_CERT_FILE", "(failed to read /etc/x.pem)"] {
            assert!(error.contains(words), "{error}");
        }
        let error = roots(std::iter::empty(), None).unwrap_err().to_string();
        assert!(error.contains("could be trusted; install"), "{error}");
    }
}
