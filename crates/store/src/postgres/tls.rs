//! TLS to the database, by `sslmode` as libpq means it.
//!
//! | `sslmode` | encrypted | who it talks to |
//! |---|---|---|
//! | `disable` | no | not checked |
//! | `prefer` (the default) | if the server can | not checked |
//! | `require` | yes | not checked; with `sslrootcert` as `verify-ca` |
//! | `verify-ca` | yes | a certificate of a known authority |
//! | `verify-full` | yes | the same, and it names the host |
//!
//! Known authorities are those in the file `sslrootcert`, else those of the system.

use super::fault::Fault;
use crate::Error;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// What `sslmode` and `sslrootcert` ask for.
#[derive(Debug, Clone)]
pub(super) struct TlsChoice {
    mode: SslMode,
    check: Check,
    root: Option<PathBuf>,
    /// Read once, when the first connection is made.
    made: Arc<OnceLock<MakeRustlsConnectOf>>,
}

/// How to talk to the server.
pub(super) enum Tls {
    /// In the clear.
    Off,
    /// Encrypted, if the server can.
    On(MakeRustlsConnect),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    Authority,
    AuthorityAndName,
}

#[derive(Clone)]
struct MakeRustlsConnectOf(MakeRustlsConnect);

impl std::fmt::Debug for MakeRustlsConnectOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MakeRustlsConnect")
    }
}

impl TlsChoice {
    /// Reads the two settings; the text says what is wrong.
    pub(super) fn new(mode: Option<&str>, root: Option<&str>) -> Result<Self, String> {
        let (mode, check) = match mode {
            Some("disable") => (SslMode::Disable, Check::Nothing),
            None | Some("prefer" | "allow") => (SslMode::Prefer, Check::Nothing),
            Some("require") if root.is_some() => (SslMode::Require, Check::Authority),
            Some("require") => (SslMode::Require, Check::Nothing),
            Some("verify-ca") => (SslMode::Require, Check::Authority),
            Some("verify-full") => (SslMode::Require, Check::AuthorityAndName),
            Some(other) => {
                return Err(format!(
                    "sslmode={other} is not known; use disable, prefer, require, verify-ca or verify-full"
                ));
            }
        };
        Ok(Self { mode, check, root: root.filter(|root| *root != "system").map(PathBuf::from), made: Arc::default() })
    }

    /// The driver's part of it.
    pub(super) fn mode(&self) -> SslMode {
        self.mode
    }

    /// How to talk to the server. Reads the authorities from the disk, the first time.
    pub(super) fn connector(&self) -> Result<Tls, Fault> {
        if self.mode == SslMode::Disable {
            return Ok(Tls::Off);
        }
        if let Some(made) = self.made.get() {
            return Ok(Tls::On(made.0.clone()));
        }
        let made = self.make().map_err(|why| Error::CannotOpen(format!("cannot set up TLS to the database: {why}")))?;
        Ok(Tls::On(self.made.get_or_init(|| MakeRustlsConnectOf(made)).0.clone()))
    }

    fn make(&self) -> Result<MakeRustlsConnect, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let verifier: Arc<dyn ServerCertVerifier> = match self.check {
            Check::Nothing => Arc::new(Lenient { provider, authority: None }),
            Check::Authority | Check::AuthorityAndName => {
                let roots = Arc::new(self.authorities()?);
                let strict = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
                let strict = strict.map_err(|error| format!("no authority to check the server by: {error}"))?;
                match self.check {
                    Check::AuthorityAndName => strict,
                    _ => Arc::new(Lenient { provider, authority: Some(strict) }),
                }
            }
        };
        let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }

    fn authorities(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        match &self.root {
            Some(path) => {
                let cannot = |error: &dyn std::fmt::Display| format!("sslrootcert {}: {error}", path.display());
                for certificate in CertificateDer::pem_file_iter(path).map_err(|error| cannot(&error))? {
                    let certificate = certificate.map_err(|error| cannot(&error))?;
                    roots.add(certificate).map_err(|error| cannot(&error))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        Ok(roots)
    }
}

/// Checks less than TLS usually does: no name, and without an authority nothing but that the server holds the key of the
/// certificate that it shows.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    authority: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        match authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last, so all the rest was right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
