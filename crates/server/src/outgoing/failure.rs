//! From an error to a kind and words.
//!
//! The words are for the partner's developer, who sees them in the portal and in `latestErrorPayload`: what failed, and
//! where it helps what to look at. They never hold the URL, a header, a secret or the payload; and they do not name an
//! address that may not be called, because that would tell what private names resolve to.

use capa_webhooks_core::duration::show_duration;
use capa_webhooks_core::outcome::{Failure, FailureKind};
use capa_webhooks_core::problem::Problem;
use capa_webhooks_core::time::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

/// The most names of a certificate that are shown.
const MOST_NAMES: usize = 5;

/// A step of connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Resolve,
    Connect,
    Handshake,
}

/// The rules refuse the URL.
pub(super) fn refused_url(problems: &[Problem]) -> Failure {
    let problems: Vec<_> = problems.iter().map(|problem| problem.problem.as_str()).collect();
    failure(FailureKind::AddressRefused, format!("The URL may not be called. {}", problems.join(" ")))
}

/// The URL cannot be written into a request.
pub(super) fn unusable_url() -> Failure {
    failure(FailureKind::AddressRefused, "The URL holds characters that an HTTP request cannot carry.")
}

/// The host name did not resolve.
pub(super) fn resolve(error: &io::Error) -> Failure {
    let text = error.to_string();
    let cause = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    failure(FailureKind::Dns, format!("The host name did not resolve: {cause}."))
}

/// The host name has no address.
pub(super) fn no_address() -> Failure {
    failure(FailureKind::Dns, "The host name did not resolve: it has no address.")
}

/// No address of the host may be called.
pub(super) fn no_public_address() -> Failure {
    failure(
        FailureKind::AddressRefused,
        "The host resolves to no public address, so it was not called. (The operator can allow private addresses with \
         CAPA_WEBHOOKS_ALLOW_ADDRESSES.)",
    )
}

/// No connection to `address` came about.
pub(super) fn connect(error: &io::Error, address: SocketAddr) -> Failure {
    let cause = match error.kind() {
        ErrorKind::ConnectionRefused => {
            "connection refused; nothing listens there, or a firewall rejects us".to_owned()
        }
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        ErrorKind::HostUnreachable => "no route to the host".to_owned(),
        ErrorKind::NetworkUnreachable => "the network is unreachable".to_owned(),
        ErrorKind::TimedOut => "connection timed out".to_owned(),
        _ => error.to_string(),
    };
    failure(FailureKind::Connect, format!("Could not connect to {address}: {cause}."))
}

/// A step of connecting took longer than all steps may.
pub(super) fn connect_timeout(step: Step, within: Duration) -> Failure {
    let within = show_duration(within);
    let message = match step {
        Step::Resolve => format!("The host name did not resolve within {within}."),
        Step::Connect => format!("No connection came about within {within}; a firewall may drop our packets."),
        Step::Handshake => format!("The connection came about, but its TLS handshake did not end within {within}."),
    };
    failure(FailureKind::ConnectTimeout, message)
}

/// The host can never stand in a certificate.
pub(super) fn no_server_name() -> Failure {
    failure(FailureKind::Tls, "TLS: the host is not a name that a certificate can be valid for.")
}

/// The TLS handshake failed.
pub(super) fn handshake(error: &io::Error) -> Failure {
    match tls_error(error) {
        Some(error) => failure(FailureKind::Tls, tls_words(error)),
        None => {
            let ended = if error.kind() == ErrorKind::ConnectionReset { "reset" } else { "closed" };
            failure(FailureKind::Tls, format!("TLS: the receiver {ended} the connection during the handshake."))
        }
    }
}

/// The deadline of the attempt passed.
pub(super) fn deadline(status: Option<u16>, within: Duration) -> Failure {
    let within = show_duration(within);
    let message = match status {
        None => format!("No answer came within {within}."),
        Some(status) => format!("The answer began with status {status} but its body did not end within {within}."),
    };
    Failure { kind: FailureKind::Timeout, status, message }
}

/// The receiver wants to speak something else than HTTP.
pub(super) fn switched_protocols() -> Failure {
    Failure {
        kind: FailureKind::Protocol,
        status: Some(101),
        message: "The receiver answered with status 101 (switching protocols), which was not asked for.".to_owned(),
    }
}

/// A request that got no complete answer; `status` is the one that came before.
pub(super) fn exchange(error: &(dyn Error + 'static), status: Option<u16>) -> Failure {
    let (kind, message) = if chain(error).any(|error| is(error, hyper::Error::is_parse_too_large)) {
        (FailureKind::Protocol, "The head of the answer is too long, or has too many headers.".to_owned())
    } else if chain(error).any(|error| is(error, hyper::Error::is_parse)) {
        (FailureKind::Protocol, "What came back is not an HTTP/1.1 answer.".to_owned())
    } else {
        lost(chain(error).find_map(|error| error.downcast_ref()), status)
    };
    Failure { kind, status, message }
}

/// The connection failed under a request; `error` is the operating system's, TLS's or the body decoder's word on it.
fn lost(error: Option<&io::Error>, status: Option<u16>) -> (FailureKind, String) {
    if let Some(error) = error.and_then(tls_error) {
        return (FailureKind::Tls, tls_words(error));
    }
    let ended = match error.map(io::Error::kind) {
        Some(ErrorKind::InvalidData | ErrorKind::InvalidInput) => {
            return (FailureKind::Protocol, "The body of the answer is not in a form that HTTP/1.1 knows.".to_owned());
        }
        Some(ErrorKind::ConnectionReset) => "reset",
        _ => "closed",
    };
    let message = match status {
        None => format!("The receiver {ended} the connection before it answered."),
        Some(status) => {
            format!("The answer began with status {status}, but the connection was {ended} before its body ended.")
        }
    };
    (FailureKind::Disconnected, message)
}

fn tls_words(error: &rustls::Error) -> String {
    let what = match error {
        rustls::Error::InvalidCertificate(error) => certificate_words(error),
        rustls::Error::NoCertificatesPresented => "the receiver sent no certificate".to_owned(),
        rustls::Error::AlertReceived(alert) => format!("the receiver refused us with the alert {alert:?}"),
        rustls::Error::PeerIncompatible(_) => {
            "the receiver supports no protocol version or cipher suite of ours (TLS 1.2 or 1.3 is needed)".to_owned()
        }
        rustls::Error::NoApplicationProtocol => "the receiver does not speak HTTP/1.1".to_owned(),
        rustls::Error::InvalidMessage(_) => "what answered does not speak TLS; is it a plain http port?".to_owned(),
        _ => "the receiver does not keep to the protocol".to_owned(),
    };
    format!("TLS: {what}.")
}

fn certificate_words(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired => "the certificate has expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the certificate expired on {}", day(*not_after))
        }
        CertificateError::NotValidYet => "the certificate is not valid yet".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the certificate is not valid before {}", day(*not_before))
        }
        CertificateError::NotValidForName => "the certificate is not valid for the host name".to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } => match names(presented) {
            None => "the certificate is not valid for the host name".to_owned(),
            Some(names) => format!("the certificate is not valid for the host name, only for {names}"),
        },
        CertificateError::UnknownIssuer => "the certificate's issuer is unknown: it is self-signed, from a private \
                                            authority, or an intermediate certificate is missing"
            .to_owned(),
        CertificateError::Revoked => "the certificate was revoked".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not one for servers".to_owned()
        }
        CertificateError::BadSignature => "the certificate's signature is wrong".to_owned(),
        CertificateError::BadEncoding => "the certificate cannot be read".to_owned(),
        // The names of the variants are all that the rest has to say; they hold no data of ours.
        CertificateError::Other(other) => format!("the certificate was refused ({other})"),
        _ => "the certificate was refused".to_owned(),
    }
}

/// The host names and addresses of a certificate, taken out of a text such as `DnsName("partner.example")`. The
/// receiver chose them, so only what looks like one is shown.
fn names(presented: &[String]) -> Option<String> {
    let plain = |text: &&str| {
        (1..=253).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-*:_".contains(&byte))
    };
    let inner = |text: &'_ str| {
        let (_, rest) = text.split_once('(')?;
        Some(rest.strip_suffix(')')?.trim_matches('"')).filter(plain).map(str::to_owned)
    };
    let all: Vec<_> = presented.iter().filter_map(|text| inner(text)).collect();
    let mut shown = all.iter().take(MOST_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if all.len() > MOST_NAMES {
        shown.push_str(", …");
    }
    (!shown.is_empty()).then_some(shown)
}

fn day(time: UnixTime) -> String {
    let millis = i64::try_from(time.as_secs().saturating_mul(1000)).unwrap_or(i64::MAX);
    let mut text = Timestamp::from_millis(millis).to_iso();
    text.truncate("2024-04-05".len());
    text
}

/// rustls hands its errors to tokio inside of an [`io::Error`].
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn is(error: &(dyn Error + 'static), what: impl Fn(&hyper::Error) -> bool) -> bool {
    error.downcast_ref().is_some_and(what)
}

/// The error and its causes.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, status: None, message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use rustls::{AlertDescription, InvalidMessage, OtherError, PeerIncompatible};
    use std::sync::Arc;

    fn tls(error: impl Into<rustls::Error>) -> String {
        let failure = handshake(&io::Error::new(ErrorKind::InvalidData, error.into()));
        assert_eq!(failure.kind, FailureKind::Tls);
        failure.message
    }

    #[test]
    fn certificates() {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(1_712_324_727));
        let wrong = |presented: &[&str]| CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("s3cret.example").unwrap(),
            presented: presented.iter().map(|&text| text.to_owned()).collect(),
        };
        for (error, words) in [
            (CertificateError::Expired, "TLS: the certificate has expired."),
            (CertificateError::ExpiredContext { time, not_after: time }, "TLS: the certificate expired on 2024-04-05."),
            (
                CertificateError::NotValidYetContext { time, not_before: time },
                "TLS: the certificate is not valid before 2024-04-05.",
            ),
            (wrong(&[]), "TLS: the certificate is not valid for the host name."),
            (
                wrong(&["DnsName(\"*.partner.example\")", "IpAddress(192.0.2.1)", "DnsName(\"<b>\")", "DirectoryName"]),
                "TLS: the certificate is not valid for the host name, only for *.partner.example, 192.0.2.1.",
            ),
            (
                wrong(&["DnsName(\"a\")"; 6]),
                "TLS: the certificate is not valid for the host name, only for a, a, a, a, a, ….",
            ),
            (CertificateError::BadEncoding, "TLS: the certificate cannot be read."),
            (CertificateError::UnhandledCriticalExtension, "TLS: the certificate was refused."),
            (
                CertificateError::Other(OtherError(Arc::new(io::Error::other("CaUsedAsEndEntity")))),
                "TLS: the certificate was refused (CaUsedAsEndEntity).",
            ),
        ] {
            assert_eq!(tls(error), words);
        }
        assert!(tls(CertificateError::UnknownIssuer).contains("issuer is unknown"));
    }

    #[test]
    fn handshakes() {
        for (error, words) in [
            (rustls::Error::AlertReceived(AlertDescription::HandshakeFailure), "HandshakeFailure"),
            (rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType), "plain http port"),
            (rustls::Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), "TLS 1.2 or 1.3"),
            (rustls::Error::NoCertificatesPresented, "no certificate"),
            (rustls::Error::DecryptError, "protocol"),
        ] {
            assert!(tls(error.clone()).contains(words), "{error}");
        }
        for (kind, words) in [(ErrorKind::ConnectionReset, "reset"), (ErrorKind::UnexpectedEof, "closed")] {
            assert!(handshake(&kind.into()).message.contains(words), "{kind}");
        }
    }

    #[test]
    fn connecting() {
        let address = "192.0.2.1:443".parse().unwrap();
        for (kind, words) in [
            (ErrorKind::ConnectionRefused, "192.0.2.1:443: connection refused"),
            (ErrorKind::HostUnreachable, "no route"),
            (ErrorKind::NetworkUnreachable, "unreachable"),
        ] {
            let failure = connect(&kind.into(), address);
            assert!(failure.kind == FailureKind::Connect && failure.message.contains(words), "{failure:?}");
        }
        for (step, words) in
            [(Step::Resolve, "did not resolve"), (Step::Connect, "No connection"), (Step::Handshake, "TLS handshake")]
        {
            let failure = connect_timeout(step, Duration::from_secs(5));
            assert_eq!(failure.kind, FailureKind::ConnectTimeout);
            assert!(failure.message.contains(words) && failure.message.contains("within 5s"), "{failure:?}");
        }
    }

    #[test]
    fn lost_connections() {
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        for (error, status, kind, words) in [
            (None, None, FailureKind::Disconnected, "closed the connection before it answered"),
            (Some(ErrorKind::ConnectionReset.into()), None, FailureKind::Disconnected, "reset the connection before"),
            (Some(ErrorKind::BrokenPipe.into()), None, FailureKind::Disconnected, "closed the connection before"),
            (Some(ErrorKind::UnexpectedEof.into()), Some(200), FailureKind::Disconnected, "status 200, but"),
            (Some(ErrorKind::InvalidInput.into()), Some(200), FailureKind::Protocol, "body of the answer"),
            (Some(io::Error::new(ErrorKind::InvalidData, alert)), None, FailureKind::Tls, "CertificateRequired"),
        ] {
            let (found, message) = lost(error.as_ref(), status);
            assert!(found == kind && message.contains(words), "{found:?}: {message}");
        }
    }

    #[test]
    fn deadlines() {
        let failure = deadline(Some(200), Duration::from_secs(15));
        assert_eq!(failure.message, "The answer began with status 200 but its body did not end within 15s.");
        assert_eq!((failure.kind, failure.status), (FailureKind::Timeout, Some(200)));
        assert_eq!(deadline(None, Duration::from_millis(1500)).message, "No answer came within 1500ms.");
    }
}
