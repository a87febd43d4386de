//! A partner's receiver: a real HTTP/1.1 server, written by hand so that it can misbehave and sees every byte.
//!
//! One [`Receiver`] listens for all partners of a test; each has an [`Endpoint`], a path of its own. Every request is
//! recorded whole and its signatures are verified when it arrives; a wrong one fails the test at its end.

use super::answer::{Answer, Script, Then};
use super::patience;
use super::verify;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// In the order in which they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Which connection it came over.
    pub(crate) connection: usize,
}

impl Delivery {
    /// The one value of a header.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut values = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = values.next().unwrap_or_else(|| panic!("no header {name} in {:?}", self.headers));
        assert_eq!(values.next(), None, "two headers {name}");
        value
    }

    pub(crate) fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// Seconds.
    pub(crate) fn timestamp(&self) -> i64 {
        self.header("webhook-timestamp").parse().unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn user(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["externalUserId"].as_str().unwrap_or_default().to_owned()
    }

    /// What is wrong with its signatures.
    fn complaint(&self, secret: &str) -> Option<String> {
        let expected = verify::signatures(secret, self.id(), self.header("webhook-timestamp"), &self.body);
        let found = verify::Signatures {
            capa: self.header("capa-signature").to_owned(),
            standard: self.header("webhook-signature").to_owned(),
        };
        (expected != found).then(|| format!("{}: python says {expected:?}, the headers {found:?}", self.target))
    }
}

/// One partner's URL.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    state: Mutex<State>,
    count: watch::Sender<usize>,
}

#[derive(Debug)]
struct State {
    secret: Option<String>,
    script: Script,
    scripts: HashMap<String, Script>,
    deliveries: Vec<Delivery>,
    /// Requests that are not answered yet, and the most there ever were.
    open: usize,
    most_open: usize,
}

impl Endpoint {
    /// The secret that signs what comes here.
    pub(crate) fn expect_secret(&self, secret: &str) {
        self.state().secret = Some(secret.to_owned());
    }

    /// Answers so to requests, one after the other; the last answer goes on for ever.
    pub(crate) fn answers(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().script = Script::new(answers);
    }

    /// Answers so to events of this `externalUserId`.
    pub(crate) fn answers_for(&self, user: &str, answers: impl IntoIterator<Item = Answer>) {
        self.state().scripts.insert(user.to_owned(), Script::new(answers));
    }

    /// The most requests that were ever here at the same moment.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state().most_open
    }

    /// Everything that came, in order.
    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.state().deliveries.clone()
    }

    /// Everything that came of this notification, in order.
    pub(crate) fn attempts_of(&self, id: &str) -> Vec<Delivery> {
        self.deliveries().into_iter().filter(|delivery| delivery.id() == id).collect()
    }

    /// Waits for the `n`th request, from 1.
    pub(crate) async fn delivery(&self, n: usize) -> Delivery {
        self.wait(&format!("request {n}"), |all| all.get(n - 1).cloned()).await
    }

    /// Waits for the `n`th request, from 1, of this notification.
    pub(crate) async fn attempt(&self, id: &str, n: usize) -> Delivery {
        let find = |all: &[Delivery]| all.iter().filter(|delivery| delivery.id() == id).nth(n - 1).cloned();
        self.wait(&format!("attempt {n} of {id}"), find).await
    }

    async fn wait(&self, what: &str, find: impl Fn(&[Delivery]) -> Option<Delivery>) -> Delivery {
        let mut count = self.count.subscribe();
        let arrival = async {
            loop {
                count.borrow_and_update();
                if let Some(found) = find(&self.state().deliveries) {
                    return found;
                }
                count.changed().await.expect("the endpoint holds the sender");
            }
        };
        patience::within(&format!("{what} at {}", self.url), arrival).await
    }

    /// Records a request and says what to do with it.
    fn take(&self, delivery: Delivery) -> Answer {
        let mut state = self.state();
        let answer = match state.scripts.get_mut(&delivery.user()) {
            Some(script) => script.next(),
            None => state.script.next(),
        };
        state.open += 1;
        state.most_open = state.most_open.max(state.open);
        state.deliveries.push(delivery);
        let count = state.deliveries.len();
        drop(state);
        self.count.send_replace(count);
        answer
    }

    /// The sender is about to learn the end of a request: from now on it may send the next.
    fn let_go(&self) {
        self.state().open -= 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens for all partners of a test.
#[derive(Debug)]
pub(crate) struct Receiver {
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
    complaints: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            address: listener.local_addr().unwrap(),
            endpoints: Mutex::default(),
            complaints: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Self { shared, accepting }
    }

    /// A new endpoint, which acknowledges.
    pub(crate) fn endpoint(&self) -> Arc<Endpoint> {
        let mut endpoints = self.shared.endpoints.lock().unwrap();
        let path = format!("/hook/{}", endpoints.len() + 1);
        let endpoint = Arc::new(Endpoint {
            url: format!("http://{}{path}", self.shared.address),
            state: Mutex::new(State {
                secret: None,
                script: Script::new([Answer::ok()]),
                scripts: HashMap::new(),
                deliveries: Vec::new(),
                open: 0,
                most_open: 0,
            }),
            count: watch::Sender::new(0),
        });
        endpoints.insert(path, endpoint.clone());
        endpoint
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
        let complaints = self.shared.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::thread::panicking() {
            assert!(complaints.is_empty(), "the receiver complains: {complaints:#?}");
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let number = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let serving = tokio::spawn(serve(stream, number, shared.clone()));
        let shared = shared.clone();
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                shared.complaints.lock().unwrap().push(format!("a request was malformed: {error}"));
            }
        });
    }
}

async fn serve(mut stream: TcpStream, number: usize, shared: Arc<Shared>) {
    let mut buffer = Vec::new();
    while let Some(delivery) = read(&mut stream, &mut buffer, number).await {
        let path = delivery.target.split('?').next().unwrap_or_default();
        let endpoint = shared.endpoints.lock().unwrap().get(path).cloned();
        let Some(endpoint) = endpoint else {
            shared.complaints.lock().unwrap().push(format!("nobody expects {}", delivery.target));
            return;
        };
        let secret = endpoint.state().secret.clone();
        let complaint = match secret {
            Some(secret) => delivery.complaint(&secret),
            None => Some(format!("{path} was called before its secret was known")),
        };
        shared.complaints.lock().unwrap().extend(complaint);
        let answer = endpoint.take(delivery);
        if let Some(gate) = &answer.gate {
            gate.passed().await;
        }
        if answer.then != Then::Hang {
            endpoint.let_go();
        }
        if stream.write_all(&answer.bytes).await.is_err() {
            return;
        }
        match answer.then {
            Then::Keep => {}
            Then::Close => return,
            Then::Reset => {
                _ = stream.set_zero_linger();
                return;
            }
            Then::Hang => {
                // Until the other side gives up.
                while matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {}
                endpoint.let_go();
                return;
            }
        }
    }
}

/// Reads one request; `None` at the end of the connection.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>, connection: usize) -> Option<Delivery> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..head_end - 4].to_vec()).expect("heads are ASCII");
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?.to_owned(), words.next()?.to_owned(), words.next()?);
    assert_eq!(version, "HTTP/1.1");
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").expect("a header is a name and a value"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut delivery = Delivery { method, target, headers, body: Vec::new(), connection };
    let end = head_end + delivery.header("content-length").parse::<usize>().expect("a length is a number");
    while buffer.len() < end {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    delivery.body = buffer[head_end..end].to_vec();
    buffer.drain(..end);
    Some(delivery)
}
