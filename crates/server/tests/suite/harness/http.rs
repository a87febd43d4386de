//! Calls of the API, and checks of what every answer has in common.

use super::patience;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A call that is being put together.
#[derive(Debug, Clone)]
#[must_use]
pub(crate) struct Call {
    address: SocketAddr,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Call {
    pub(crate) fn new(address: SocketAddr, method: &str, path: &str) -> Self {
        Self {
            address,
            method: method.parse().unwrap(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.text(body.to_string())
    }

    /// A body that claims to be JSON.
    pub(crate) fn text(self, body: impl Into<Bytes>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    pub(crate) fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Makes the call, on a connection of its own.
    pub(crate) async fn send(self) -> Reply {
        let what = format!("the answer to {} {}", self.method, self.path);
        patience::within(&what, self.exchange()).await
    }

    async fn exchange(self) -> Reply {
        let stream = TcpStream::connect(self.address).await.expect("the service listens");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        // A failure of the connection is a failure of the request too.
        tokio::spawn(connection);
        let mut request = Request::builder().method(self.method).uri(&self.path).header("host", "suite.example");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = sender.send_request(request.body(Full::new(self.body)).unwrap()).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Reply { path: self.path, status: parts.status.as_u16(), headers: parts.headers, body }
    }
}

/// A connection to the API, byte by byte.
pub(crate) struct Wire(TcpStream);

impl Wire {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.expect("the service listens"))
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        patience::within("bytes to be taken", self.0.write_all(bytes)).await.unwrap();
    }

    /// Reads as far as the first empty line.
    pub(crate) async fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(patience::within("the head of an answer", self.0.read_u8()).await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// Reads until the service closes the connection.
    pub(crate) async fn read_to_end(mut self) -> String {
        let mut answer = String::new();
        patience::within("the end of an answer", self.0.read_to_string(&mut answer)).await.unwrap();
        answer
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    path: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The `data` of a good answer in the envelope of its version.
    #[track_caller]
    pub(crate) fn data(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.path, self.text());
        self.assert_json_headers();
        let body = self.json();
        let data = body.get("data").cloned().unwrap_or_else(|| panic!("{}: no data in {body}", self.path));
        let expected =
            if self.is_v1() { json!({"status": "ok", "data": data}) } else { json!({"success": true, "data": data}) };
        assert_eq!(body.to_string(), expected.to_string(), "{}", self.path);
        data
    }

    /// Checks the form of an error in the envelope of its version; gives the fields and problems of its `details`.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str, message: &str) -> Vec<(String, String)> {
        assert_eq!(self.status, status, "{}: {}", self.path, self.text());
        self.assert_json_headers();
        let body = self.json();
        let details = body["details"].clone();
        let expected = if self.is_v1() {
            json!({"status": "error", "code": code, "message": message, "error": message, "details": details})
        } else {
            json!({"success": false, "code": code, "message": message, "error": message, "details": details})
        };
        assert_eq!(body.to_string(), expected.to_string(), "{}", self.path);
        details_of(&details)
    }

    /// 400; gives the fields and problems of its `details`, of which there is at least one.
    #[track_caller]
    pub(crate) fn invalid(&self) -> Vec<(String, String)> {
        let details = self.refused(400, "INVALID_USER_INPUT_ERROR", "Invalid User Input");
        assert!(!details.is_empty(), "{}: a 400 says what was wrong", self.path);
        details
    }

    /// 400 with exactly one problem, of `field`, whose text holds `words`.
    #[track_caller]
    pub(crate) fn invalid_only(&self, field: &str, words: &str) {
        let details = self.invalid();
        let [(named, problem)] = details.as_slice() else { panic!("{}: {details:?}", self.path) };
        assert_eq!(named, field, "{}: {problem}", self.path);
        assert!(problem.contains(words), "{}: {problem:?} does not hold {words:?}", self.path);
    }

    fn is_v1(&self) -> bool {
        self.path.starts_with("/api/partner/v1/")
    }

    #[track_caller]
    fn assert_json_headers(&self) {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.path);
        assert_eq!(self.header("cache-control"), Some("no-store"), "{}", self.path);
    }
}

/// Fields and problems of `details`; each has exactly these two.
#[track_caller]
pub(crate) fn details_of(details: &Value) -> Vec<(String, String)> {
    let list = details.as_array().unwrap_or_else(|| panic!("details are a list, not {details}"));
    list.iter()
        .map(|detail| {
            let (field, problem) = (detail["field"].as_str().unwrap(), detail["problem"].as_str().unwrap());
            assert_eq!(detail, &json!({"field": field, "problem": problem}));
            assert!(!problem.is_empty(), "a problem has words");
            (field.to_owned(), problem.to_owned())
        })
        .collect()
}
