//! The partner's receiver: it notes what arrives and acknowledges it.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, Result};

use crate::http;
use crate::ledger::Ledger;

const ACKNOWLEDGED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Starts a receiver that lives as long as this process, and gives its address.
pub(crate) fn start(ledger: &Arc<Ledger>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
    let address = listener.local_addr()?;
    let ledger = ledger.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let ledger = ledger.clone();
            std::thread::spawn(move || {
                // A connection that is cut in the middle of a request has delivered nothing.
                _ = serve(&stream, &ledger);
            });
        }
    });
    Ok(address)
}

fn serve(mut stream: &TcpStream, ledger: &Ledger) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = http::read(&mut reader)? {
        let id = request.header("webhook-id").context("a delivery without an id")?;
        let event: serde_json::Value = serde_json::from_slice(&request.body)?;
        let user = event["externalUserId"].as_str().context("an event without a user")?;
        // Noted before the answer: what was acknowledged is known here.
        ledger.delivered(user, id);
        stream.write_all(ACKNOWLEDGED)?;
    }
    Ok(())
}
