//! Posts over real sockets, to receivers that follow a script.

mod tls;

use super::*;
use capa_webhooks_core::destination::Ports;
use capa_webhooks_core::outcome::{FailureKind, KEPT_BODY};
use capa_webhooks_core::time::Timestamp;
use std::future::Future;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const DEADLINE: Duration = Duration::from_secs(15);
const BODY: &str = r#"{"type":"KYC","event":"CREATED_KYC","externalUserId":"u1"}"#;
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn start() -> Timestamp {
    Timestamp::from_millis(1_712_324_727_000)
}

fn loose() -> Destinations {
    Destinations { allow_http: true, allow_addresses: vec!["127.0.0.0/8".parse().unwrap()], ports: Ports::Any }
}

fn client(destinations: Destinations, clock: Clock, extra_roots: Vec<CertificateDer<'static>>) -> Client {
    let connect_timeout = Duration::from_secs(5);
    Client::new(Options { destinations: Arc::new(destinations), connect_timeout, clock, extra_roots }).unwrap()
}

/// A guard against a test that waits for ever.
async fn soon<F: Future>(work: F) -> F::Output {
    Clock::system().deadline(Duration::from_secs(20), work).await.expect("the test hangs")
}

/// Lets whatever can run do so.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// A receiver, and a client whose clock stands still.
struct Scene {
    client: Client,
    stepper: crate::clock::Stepper,
    listener: TcpListener,
    address: SocketAddr,
    target: Target,
}

impl Scene {
    async fn new() -> Self {
        Self::with("http", "127.0.0.1", Vec::new()).await
    }

    async fn with(scheme: &str, host: &str, roots: Vec<CertificateDer<'static>>) -> Self {
        let (clock, stepper) = Clock::stepped(start());
        let client = client(loose(), clock, roots);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = client.target(&format!("{scheme}://{host}:{}/hook?token=s3cret", address.port()));
        Self { client, stepper, listener, address, target }
    }

    async fn post(&self) -> Answer {
        let attempt = self.client.post(&self.target, [], BODY.into(), DEADLINE).await;
        if let Answer::None(failure) = &attempt.answer {
            assert!(!failure.message.contains("s3cret") && !failure.message.contains("u1"), "{failure:?}");
        }
        attempt.answer
    }

    /// Posts once, while the receiver follows `script` on the connection.
    async fn play<F: Future>(&self, script: impl FnOnce(TcpStream) -> F) -> Answer {
        let receiver = async { script(self.accept().await).await };
        soon(async { tokio::join!(self.post(), receiver).0 }).await
    }

    /// Posts once, to a receiver that answers with `bytes` and then closes.
    async fn answer(&self, bytes: &[u8]) -> Answer {
        self.play(async |mut connection| {
            read_request(&mut connection).await.unwrap();
            connection.write_all(bytes).await.unwrap();
        })
        .await
    }

    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    async fn assert_no_further_connection(&self) {
        settle().await;
        tokio::select! {
            biased;
            _ = self.listener.accept() => panic!("there was another connection"),
            () = settle() => {}
        }
    }
}

/// Reads one request; `None` at the end of the connection.
async fn read_request(connection: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = Vec::new();
    loop {
        if connection.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
        if text.ends_with(BODY.as_bytes()) {
            return Some(String::from_utf8(text).unwrap());
        }
    }
}

async fn serve(connection: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &str) {
    read_request(connection).await.unwrap();
    connection.write_all(answer.as_bytes()).await.unwrap();
}

fn response(status: u16, body: &str) -> Answer {
    Answer::Response { status, body: Bytes::copy_from_slice(body.as_bytes()), retry_after: None }
}

#[track_caller]
fn assert_failed(answer: Answer, kind: FailureKind, status: Option<u16>, words: &str) {
    let Answer::None(failure) = answer else { panic!("{answer:?}") };
    assert_eq!((failure.kind, failure.status), (kind, status), "{failure:?}");
    assert!(failure.message.contains(words), "{failure:?}");
}

#[tokio::test]
async fn the_request_on_the_wire() {
    let scene = Scene::new().await;
    let headers = [
        ("capa-signature".parse().unwrap(), HeaderValue::from_static("00ff")),
        ("webhook-id".parse().unwrap(), HeaderValue::from_static("n1")),
    ];
    let receiver = async {
        let mut connection = scene.accept().await;
        let request = read_request(&mut connection).await.unwrap();
        scene.stepper.advance(Duration::from_millis(40));
        connection.write_all(OK.as_bytes()).await.unwrap();
        request
    };
    let post = scene.client.post(&scene.target, headers, BODY.into(), DEADLINE);
    let (attempt, request) = soon(async { tokio::join!(post, receiver) }).await;
    let lines = [
        "POST /hook?token=s3cret HTTP/1.1".to_owned(),
        format!("host: {}", scene.address),
        "content-type: application/json".to_owned(),
        concat!("user-agent: capa-webhooks/", env!("CARGO_PKG_VERSION")).to_owned(),
        "capa-signature: 00ff".to_owned(),
        "webhook-id: n1".to_owned(),
        format!("content-length: {}", BODY.len()),
        String::new(),
        BODY.to_owned(),
    ];
    assert_eq!(request, lines.join("\r\n"));
    assert_eq!(attempt.answer, response(200, "ok"));
    assert_eq!(attempt.url, scene.target.url());
    assert_eq!((attempt.started_at, attempt.duration), (start(), Duration::from_millis(40)));
}

#[tokio::test]
async fn answers() {
    let scene = Scene::new().await;
    for (bytes, status, body) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, "hello"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nx: y\r\n\r\n", 200, "hello"),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, "until the end"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, ""),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ("HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 301, ""),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nzz", 200, "zz"),
        ("HTTP/1.1 500 Oh No\r\ncontent-length: 4\r\n\r\noops", 500, "oops"),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            200,
            "",
        ),
    ] {
        let answer = scene.answer(bytes.as_bytes()).await;
        assert_eq!(answer, response(status, body), "{bytes}");
        settle().await;
    }
    scene.assert_no_further_connection().await;
}

#[tokio::test]
async fn retry_after_is_read_against_the_clock() {
    let scene = Scene::new().await;
    for (value, expected) in [("120", Some(120)), ("Fri, 05 Apr 2024 13:45:57 GMT", Some(30)), ("soon", None)] {
        let answer =
            format!("HTTP/1.1 429 Slow Down\r\nretry-after: {value}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let Answer::Response { status: 429, retry_after, .. } = scene.answer(answer.as_bytes()).await else {
            panic!("no answer")
        };
        assert_eq!(retry_after, expected.map(Duration::from_secs), "{value}");
    }
}

#[tokio::test]
async fn connections_are_kept() {
    let scene = Scene::new().await;
    let receiver = async {
        let mut connection = scene.accept().await;
        for _ in 0..3 {
            serve(&mut connection, OK).await;
        }
    };
    let posts = async {
        for _ in 0..3 {
            assert_eq!(scene.post().await, response(200, "ok"));
            settle().await;
        }
    };
    soon(async { tokio::join!(posts, receiver) }).await;
    scene.assert_no_further_connection().await;
}

#[tokio::test]
async fn a_connection_that_rests_too_long_is_closed() {
    let scene = Scene::new().await;
    let mut connection = {
        let receiver = async {
            let mut connection = scene.accept().await;
            serve(&mut connection, OK).await;
            connection
        };
        let (answer, connection) = soon(async { tokio::join!(scene.post(), receiver) }).await;
        assert_eq!(answer, response(200, "ok"));
        connection
    };
    // Twice half of the longest rest is when the pool looks; nobody posts meanwhile.
    for _ in 0..3 {
        settle().await;
        scene.stepper.advance(Duration::from_secs(15));
    }
    assert_eq!(soon(read_request(&mut connection)).await, None, "it is closed");
    assert_eq!(scene.answer(OK.as_bytes()).await, response(200, "ok"), "on a new one");
}

#[tokio::test]
async fn an_old_connection_is_replaced_however_busy() {
    let scene = Scene::new().await;
    let receiver = async {
        let mut first = scene.accept().await;
        let mut served = 0;
        while read_request(&mut first).await.is_some() {
            first.write_all(OK.as_bytes()).await.unwrap();
            served += 1;
        }
        serve(&mut scene.accept().await, OK).await;
        served
    };
    let posts = async {
        // A post every 20 s: the one at 300 s is the last on the first connection.
        for _ in 0..=16 {
            assert_eq!(scene.post().await, response(200, "ok"));
            settle().await;
            scene.stepper.advance(Duration::from_secs(20));
        }
    };
    assert_eq!(soon(async { tokio::join!(posts, receiver).1 }).await, 16);
}

#[tokio::test]
async fn a_kept_connection_that_is_lost_under_a_request_is_not_replaced() {
    let scene = Scene::new().await;
    let receiver = async {
        let mut connection = scene.accept().await;
        serve(&mut connection, OK).await;
        read_request(&mut connection).await.unwrap();
    };
    let posts = async {
        assert_eq!(scene.post().await, response(200, "ok"));
        settle().await;
        scene.post().await
    };
    let (second, ()) = soon(async { tokio::join!(posts, receiver) }).await;
    assert_failed(second, FailureKind::Disconnected, None, "closed the connection before it answered");
    scene.assert_no_further_connection().await;
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced() {
    let scene = Scene::new().await;
    assert_eq!(scene.answer(OK.as_bytes()).await, response(200, "ok"));
    // The receiver closed it. A turn through a socket lets the client notice.
    let (one, other) = (TcpStream::connect(scene.address), scene.accept());
    soon(async { tokio::join!(one, other) }).await.0.unwrap();
    settle().await;
    assert_eq!(scene.answer(OK.as_bytes()).await, response(200, "ok"));
}

#[tokio::test]
async fn a_long_body_is_cut_and_its_connection_is_closed() {
    // The rest is still to come; it has arrived already; only the last byte is missing.
    for (length, sent) in [(10_000_000, 64 * 1024), (KEPT_BODY + 1, KEPT_BODY + 1), (KEPT_BODY + 1, KEPT_BODY)] {
        let scene = Scene::new().await;
        let long = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(sent));
        let receiver = async {
            let mut first = scene.accept().await;
            serve(&mut first, &long).await;
            serve(&mut scene.accept().await, OK).await;
            assert_eq!(read_request(&mut first).await, None, "it is closed");
        };
        let posts = async {
            assert_eq!(scene.post().await, response(200, &"x".repeat(KEPT_BODY)));
            settle().await;
            assert_eq!(scene.post().await, response(200, "ok"));
        };
        soon(async { tokio::join!(posts, receiver) }).await;
    }
}

#[tokio::test]
async fn a_body_of_just_the_length_that_is_kept_keeps_its_connection() {
    let scene = Scene::new().await;
    let long = format!("HTTP/1.1 200 OK\r\ncontent-length: {KEPT_BODY}\r\n\r\n{}", "x".repeat(KEPT_BODY));
    let receiver = async {
        let mut connection = scene.accept().await;
        serve(&mut connection, &long).await;
        serve(&mut connection, OK).await;
    };
    let posts = async {
        assert_eq!(scene.post().await, response(200, &"x".repeat(KEPT_BODY)));
        settle().await;
        assert_eq!(scene.post().await, response(200, "ok"));
    };
    soon(async { tokio::join!(posts, receiver) }).await;
}

#[tokio::test]
async fn what_is_not_a_complete_answer() {
    use FailureKind::{Disconnected, Protocol};
    let scene = Scene::new().await;
    let many: String = (0..200).map(|n| format!("x{n}: y\r\n")).collect();
    for (bytes, kind, status, words) in [
        ("".to_owned(), Disconnected, None, "closed the connection before it answered"),
        ("HTTP/1.1 20".to_owned(), Disconnected, None, "closed the connection before it answered"),
        ("SSH-2.0-OpenSSH_9.9\r\n".to_owned(), Protocol, None, "not an HTTP/1.1 answer"),
        ("HTTP/2.0 200 OK\r\n\r\n".to_owned(), Protocol, None, "not an HTTP/1.1 answer"),
        ("HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n".to_owned(), Protocol, Some(101), "switching protocols"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut".to_owned(), Disconnected, Some(200), "status 200, but"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\ncut".to_owned(), Disconnected, Some(200), "closed"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(),
            Protocol,
            Some(200),
            "body of the answer",
        ),
        (
            format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(4 * connection::LONGEST_HEAD)),
            Protocol,
            None,
            "too long",
        ),
        (format!("HTTP/1.1 200 OK\r\n{many}\r\n"), Protocol, None, "too many headers"),
    ] {
        assert_failed(scene.answer(bytes.as_bytes()).await, kind, status, words);
    }
    scene.assert_no_further_connection().await;
}

#[tokio::test]
async fn a_reset_before_and_within_the_answer() {
    for (bytes, status, words) in [
        ("", None, "reset the connection before it answered"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut", Some(200), "before its body ended"),
    ] {
        let scene = Scene::new().await;
        let answer = scene.play(async |mut connection| {
            // Closing with unread bytes of the request is a reset.
            connection.read_exact(&mut [0; 10]).await.unwrap();
            connection.write_all(bytes.as_bytes()).await.unwrap();
        });
        assert_failed(answer.await, FailureKind::Disconnected, status, words);
    }
}

#[tokio::test]
async fn hangs_end_at_the_deadline_and_close_the_connection() {
    for (bytes, status, words) in [
        ("", None, "No answer came within 15s"),
        ("HTTP/1.1 200 OK\r\nx: ", None, "No answer came within 15s"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nslow",
            Some(200),
            "status 200 but its body did not end within 15s",
        ),
    ] {
        let scene = Scene::new().await;
        let answer = scene
            .play(async |mut connection| {
                serve(&mut connection, bytes).await;
                // A turn through a socket lets the client read what there is.
                tokio::join!(TcpStream::connect(scene.address), scene.accept()).0.unwrap();
                settle().await;
                scene.stepper.advance(Duration::from_secs(14));
                settle().await;
                scene.stepper.advance(Duration::from_secs(1));
                assert_eq!(read_request(&mut connection).await, None, "it is closed");
            })
            .await;
        assert_failed(answer, FailureKind::Timeout, status, words);
    }
}

#[tokio::test]
async fn a_refused_connection() {
    let Scene { client, listener, target, .. } = Scene::new().await;
    drop(listener);
    let attempt = soon(client.post(&target, [], BODY.into(), DEADLINE)).await;
    assert_failed(attempt.answer, FailureKind::Connect, None, "connection refused");
}

#[tokio::test]
async fn names_that_do_not_resolve() {
    let scene = Scene::new().await;
    let target = scene.client.target("https://name.invalid/hook");
    let attempt = soon(scene.client.post(&target, [], BODY.into(), DEADLINE)).await;
    assert_failed(attempt.answer, FailureKind::Dns, None, "The host name did not resolve");
}

#[tokio::test]
async fn private_addresses_are_refused_by_literal_and_by_name() {
    // Some other range is allowed, so that the name `localhost` itself passes the check of the URL.
    let other = Destinations { allow_addresses: vec!["192.0.2.0/24".parse().unwrap()], ..loose() };
    let client = client(other, Clock::system(), Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for (host, words) in [("127.0.0.1", "not a public address"), ("[::1]", "not a public"), ("localhost", "no public")]
    {
        let target = client.target(&format!("http://{host}:{port}/"));
        let attempt = soon(client.post(&target, [], BODY.into(), DEADLINE)).await;
        assert_failed(attempt.answer, FailureKind::AddressRefused, None, words);
    }
    tokio::select! {
        biased;
        _ = listener.accept() => panic!("it was called"),
        () = settle() => {}
    }
}
