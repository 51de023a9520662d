//! A TCP proxy before a server that can swallow the server's answers: what was sent arrives, and
//! the sender never learns of it.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Everything passes.
    Open,
    /// What the server says is thrown away.
    Mute,
    /// Connections are closed; new ones pass in the mode that follows.
    Cut,
}

/// The proxy, on a port of its own; it ends when dropped.
pub(crate) struct Proxy {
    port: u16,
    mode: Arc<watch::Sender<Mode>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn before(url: &str) -> Self {
        let server = url.trim_start_matches("nats://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(watch::Sender::new(Mode::Open));
        let modes = Arc::clone(&mode);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pass(from_client, to_server, modes.subscribe(), false));
                tokio::spawn(pass(from_server, to_client, modes.subscribe(), true));
            }
        });
        Self {
            port,
            mode,
            accepting,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// From now on the server's answers are thrown away.
    pub(crate) fn mute(&self) {
        self.mode.send_replace(Mode::Mute);
    }

    /// Closes the connections that stand and lets new ones pass.
    pub(crate) fn reconnect(&self) {
        self.mode.send_replace(Mode::Cut);
        self.mode.send_replace(Mode::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    mutable: bool,
) {
    let mut buffer = vec![0; 65_536];
    let mut mode = *modes.borrow_and_update();
    loop {
        tokio::select! {
            changed = modes.changed() => {
                let now = *modes.borrow_and_update();
                // A stream with a hole in it cannot be opened again, only cut.
                if changed.is_err() || now != Mode::Mute {
                    return;
                }
                mode = now;
            }
            read = from.read(&mut buffer) => {
                let Ok(read @ 1..) = read else { return };
                let swallowed = mutable && mode == Mode::Mute;
                if !swallowed && to.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
