//! Posts over TLS.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use std::io;
use tokio_rustls::TlsAcceptor;

/// A certificate authority, and a server with a certificate of its own.
struct Authority {
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { root, issuer: Issuer::new(params, key) }
    }

    fn server(&self, name: &str, last_year: i32, protocol: &str) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(last_year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.serialize_der().try_into().unwrap())
            .unwrap();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Arc::new(config).into()
    }
}

#[tokio::test]
async fn tls_to_a_name_and_to_an_address() {
    let authority = Authority::new("one");
    for host in ["localhost", "127.0.0.1"] {
        let scene = Scene::with("https", host, vec![authority.root.clone()]).await;
        let acceptor = authority.server(host, 2999, "http/1.1");
        let receiver = async {
            let mut connection = acceptor.accept(scene.accept().await).await.unwrap();
            assert_eq!(connection.get_ref().1.alpn_protocol(), Some("http/1.1".as_bytes()));
            assert_eq!(connection.get_ref().1.server_name(), (host == "localhost").then_some(host));
            serve(&mut connection, OK).await;
            serve(&mut connection, OK).await;
        };
        let posts = async {
            assert_eq!(scene.post().await, response(200, "ok"));
            settle().await;
            assert_eq!(scene.post().await, response(200, "ok"));
        };
        soon(async { tokio::join!(posts, receiver) }).await;
    }
}

#[tokio::test]
async fn certificates_and_protocols_that_are_refused() {
    let authority = Authority::new("one");
    for (root, acceptor, words) in [
        (
            &authority,
            authority.server("other.example", 2999, "http/1.1"),
            "not valid for the host name, only for other.example",
        ),
        (&authority, authority.server("localhost", 2020, "http/1.1"), "expired on 2020-12-31"),
        (&Authority::new("two"), authority.server("localhost", 2999, "http/1.1"), "issuer is unknown"),
        (&authority, authority.server("localhost", 2999, "h2"), "NoApplicationProtocol"),
    ] {
        let scene = Scene::with("https", "localhost", vec![root.root.clone()]).await;
        let answer = scene.play(async |connection| {
            assert!(acceptor.accept(connection).await.is_err(), "the handshake fails");
        });
        assert_failed(answer.await, FailureKind::Tls, None, words);
    }
}

#[tokio::test]
async fn tls_with_what_is_no_tls() {
    for (bytes, kind, words) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", FailureKind::Tls, "plain http port"),
        ("", FailureKind::Tls, "closed the connection during the handshake"),
    ] {
        let scene = Scene::with("https", "127.0.0.1", Vec::new()).await;
        let answer = scene.play(async |mut connection: TcpStream| {
            let mut hello = Vec::new();
            connection.read_buf(&mut hello).await.unwrap();
            connection.write_all(bytes.as_bytes()).await.unwrap();
            connection.shutdown().await.unwrap();
            drain(connection).await.unwrap_or_default()
        });
        assert_failed(answer.await, kind, None, words);
    }
}

#[tokio::test]
async fn a_handshake_that_hangs_ends_at_the_connect_timeout() {
    let scene = Scene::with("https", "127.0.0.1", Vec::new()).await;
    let answer = scene.play(async |mut connection: TcpStream| {
        connection.read_exact(&mut [0; 10]).await.unwrap();
        scene.stepper.advance(Duration::from_secs(5));
        drain(connection).await.unwrap_or_default()
    });
    assert_failed(answer.await, FailureKind::ConnectTimeout, None, "TLS handshake did not end within 5s");
}

/// Reads until the other end closes.
async fn drain(mut connection: TcpStream) -> io::Result<u64> {
    tokio::io::copy(&mut connection, &mut tokio::io::sink()).await
}
