//! One connection through the proxy, from its first byte to its last.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};

use super::wire::{Answers, Piece, Requests};
use super::{Moment, Shared};

const CHUNK: usize = 64 * 1024;

/// A connection that is to be cut when the server has answered its commit.
#[derive(Default)]
struct Doom {
    /// The number of the request that commits. From here on the client hears nothing.
    answered: Option<u64>,
}

/// Carries a connection in both directions until either side ends it, or somebody cuts it.
pub(super) fn carry(shared: &Shared, client: &TcpStream) {
    // The connection waits here while the proxy is stalled, as data would.
    shared.wait_while_stalled();
    let Some(target) = target(shared) else { return };
    let Ok(server) = TcpStream::connect(target) else { return };
    let Ok(number) = register(shared, target, client, &server) else { return };
    let doom = Mutex::new(Doom::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if shared.postgres {
                requests(shared, client, &server, &doom);
            } else {
                copy(shared, client, &server);
            }
            close(client, &server);
        });
        if shared.postgres {
            answers(shared, &server, client, &doom);
        } else {
            copy(shared, &server, client);
        }
        close(client, &server);
    });
    shared.state().connections.remove(&number);
}

fn target(shared: &Shared) -> Option<SocketAddr> {
    let state = shared.state();
    (!state.refusing && !state.closed).then_some(state.target)
}

/// From here on the connection can be cut. Fails if the proxy has changed its mind while the connection was made.
fn register(shared: &Shared, target: SocketAddr, client: &TcpStream, server: &TcpStream) -> std::io::Result<u64> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ends = [client.try_clone()?, server.try_clone()?];
    let mut state = shared.state();
    if state.closed || state.refusing || state.target != target {
        return Err(std::io::ErrorKind::ConnectionRefused.into());
    }
    let number = state.next;
    state.next += 1;
    state.connections.insert(number, ends);
    Ok(number)
}

fn close(client: &TcpStream, server: &TcpStream) {
    for end in [client, server] {
        // It may be closed already.
        _ = end.shutdown(Shutdown::Both);
    }
}

/// Carries bytes until one side ends.
fn copy(shared: &Shared, mut from: &TcpStream, mut to: &TcpStream) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        shared.wait_while_stalled();
        if to.write_all(&chunk[..length]).is_err() {
            return;
        }
    }
}

/// Carries what the client sends to PostgreSQL, message by message.
fn requests(shared: &Shared, mut client: &TcpStream, mut server: &TcpStream, doom: &Mutex<Doom>) {
    let mut chunk = vec![0; CHUNK];
    let mut requests = Requests::default();
    let mut to_server = Vec::with_capacity(CHUNK);
    // Whether a commit has been sent that is to be cut when it was answered.
    let mut committing = false;
    while let Ok(length @ 1..) = client.read(&mut chunk) {
        shared.wait_while_stalled();
        requests.take(&chunk[..length]);
        to_server.clear();
        while let Some(piece) = requests.next() {
            let Piece { bytes, commits, ends_request, answer } = piece;
            if let Some(answer) = answer {
                if client.write_all(answer).is_err() {
                    return;
                }
                continue;
            }
            if commits {
                match claim(shared) {
                    Some(Moment::BeforeCommit) => {
                        // What was sent before it has arrived. The commit itself never does.
                        _ = server.write_all(&to_server);
                        close(client, server);
                        count(shared);
                        return;
                    }
                    Some(Moment::AfterCommit) => committing = true,
                    None => {}
                }
            }
            to_server.extend_from_slice(&bytes);
            if committing && let Some(number) = ends_request {
                committing = false;
                doom.lock().unwrap_or_else(PoisonError::into_inner).answered = Some(number);
            }
        }
        if server.write_all(&to_server).is_err() {
            return;
        }
    }
}

/// Carries what PostgreSQL answers. A connection that is doomed is cut when its last answer has come.
fn answers(shared: &Shared, mut server: &TcpStream, mut client: &TcpStream, doom: &Mutex<Doom>) {
    let mut chunk = vec![0; CHUNK];
    let mut answers = Answers::default();
    while let Ok(length @ 1..) = server.read(&mut chunk) {
        shared.wait_while_stalled();
        let answered = answers.take(&chunk[..length]);
        let doomed = doom.lock().unwrap_or_else(PoisonError::into_inner).answered;
        match doomed {
            None => {
                if client.write_all(&chunk[..length]).is_err() {
                    return;
                }
            }
            Some(number) if answered >= number => {
                close(client, server);
                count(shared);
                return;
            }
            Some(_) => {}
        }
    }
}

/// Takes the wish to cut at a commit, if there is one.
fn claim(shared: &Shared) -> Option<Moment> {
    shared.state().plan.take()
}

fn count(shared: &Shared) {
    shared.state().cut_at_commit += 1;
    shared.changed.notify_all();
}
