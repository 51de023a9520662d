//! A real S3 server, and a way to it that can be disturbed.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::binary::repository;
use crate::http;
use crate::wait::eventually;

/// A server with its buckets in memory, ended when dropped.
#[derive(Debug)]
pub struct S3 {
    child: Child,
    address: SocketAddr,
}

impl S3 {
    /// One that believes every signature.
    pub fn start(home: &Path) -> Self {
        Self::spawn(home, &[])
    }

    /// One that knows nobody: every request is refused.
    pub fn that_knows_nobody(home: &Path) -> Self {
        Self::spawn(home, &[("INITIAL_NO_AUTH_ACTION_COUNT", "0")])
    }

    fn spawn(home: &Path, environment: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let log = std::fs::File::create(home.join(format!("s3-{}.log", address.port())));
        let log = log.expect("a log");
        let child = Command::new(program())
            .args(["--host", "127.0.0.1", "--port", &address.port().to_string()])
            .envs(environment.iter().copied())
            .env("HOME", home)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log again"))
            .stderr(log)
            .spawn()
            .expect("the S3 server starts");
        let server = Self { child, address };
        eventually("the S3 server listens", || {
            TcpStream::connect(server.address).ok()
        });
        server
    }

    /// `http://…`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Credentials, true or not, as a file that only its owner may read.
    pub fn credentials(home: &Path) -> PathBuf {
        let path = home.join("s3.conf");
        let text = "access_key_id = AKIAEXAMPLE\nsecret_access_key = not-a-secret\n";
        std::fs::write(&path, text).expect("credentials");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("a mode");
        path
    }

    /// Makes a bucket.
    pub fn bucket(&self, name: &str) {
        assert_eq!(self.call("PUT", &format!("/{name}"), b"").0, 200, "{name}");
    }

    /// An object's bytes.
    pub fn get(&self, path: &str) -> Vec<u8> {
        let (status, body) = self.call("GET", path, b"");
        assert_eq!(status, 200, "{path}");
        body
    }

    /// Writes an object.
    pub fn put(&self, path: &str, body: &[u8]) {
        assert_eq!(self.call("PUT", path, body).0, 200, "{path}");
    }

    /// Removes an object.
    pub fn delete(&self, path: &str) {
        assert_eq!(self.call("DELETE", path, b"").0, 204, "{path}");
    }

    /// Flips a bit of an object.
    pub fn flip(&self, path: &str, at: usize) {
        let mut bytes = self.get(path);
        *bytes.get_mut(at).expect("a byte") ^= 1;
        self.put(path, &bytes);
    }

    /// The keys of a bucket that begin so.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let (status, body) = self.call(
            "GET",
            &format!("/{bucket}?list-type=2&prefix={prefix}"),
            b"",
        );
        assert_eq!(status, 200, "{bucket}");
        let text = String::from_utf8(body).expect("XML");
        let keys = text.split("<Key>").skip(1);
        keys.filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned()))
            .collect()
    }

    /// One request on a connection of its own: status and body.
    pub fn call(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        // Whoever names a key is believed; who names none sees what is public.
        let signed = "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        http::call(
            self.address,
            method,
            path,
            &[("Authorization", signed)],
            body,
        )
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `$SEALWARDEN_S3_SERVER`, else what the script installs.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("SEALWARDEN_S3_SERVER") {
        return path.into();
    }
    let script = repository().join("tests/tools/s3-server.sh");
    let output = Command::new(script).output().expect("the script runs");
    assert!(
        output.status.success(),
        "tests/tools/s3-server.sh: {output:?}"
    );
    String::from_utf8_lossy(&output.stdout).trim().into()
}

/// What a way to a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Lets everything through.
    Open,
    /// Ends every connection at once.
    Closed,
    /// Answers 503 to everything.
    Busy,
    /// Answers 500 to everything.
    Broken,
    /// Answers 503 to every other connection, as a server does that throttles.
    Throttled,
    /// Answers 403 to requests whose first line has this in it, and lets the others through, one on a connection.
    Denied(&'static str),
    /// Lets everything through, so many milliseconds late.
    Late(u64),
    /// Answers as if there were no such bucket.
    NoBucket,
    /// Breaks every answer off after so many bytes.
    Torn(usize),
    /// Says nothing more on a connection after so many bytes, until the way is changed.
    Silent(usize),
}

#[derive(Debug)]
struct Shared {
    way: Mutex<(Way, Vec<TcpStream>)>,
    server: SocketAddr,
    connections: AtomicU64,
}

/// A way to a server that can be disturbed while it is used.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Proxy {
    /// An open way.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            way: Mutex::new((Way::Open, Vec::new())),
            server,
            connections: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || serve(&shared, client));
            }
        });
        Self { shared, address }
    }

    /// `http://…`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what it does, for connections that stand, too: they end.
    pub fn set(&self, way: Way) {
        let mut held = self
            .shared
            .way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.0 = way;
        for stream in held.1.drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn serve(shared: &Shared, mut client: TcpStream) {
    let way = {
        let mut held = shared.way.lock().unwrap_or_else(PoisonError::into_inner);
        held.1.extend(client.try_clone());
        held.0
    };
    let refusal = |status: &str, code: &str| {
        let body =
            format!("<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>");
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    match way {
        Way::Closed => {}
        Way::Busy => refuse(&mut client, &refusal("503 Slow Down", "SlowDown")),
        Way::Broken => refuse(
            &mut client,
            &refusal("500 Internal Server Error", "InternalError"),
        ),
        Way::Throttled => {
            let count = shared.connections.fetch_add(1, Ordering::Relaxed);
            if count.is_multiple_of(2) {
                refuse(&mut client, &refusal("503 Slow Down", "SlowDown"));
            } else {
                pass_one(shared, &mut client, |_| None);
            }
        }
        Way::Denied(what) => pass_one(shared, &mut client, |line| {
            let denied = line.contains(what);
            denied.then(|| refusal("403 Forbidden", "AccessDenied"))
        }),
        Way::Late(late_ms) => {
            // bounded poll: none; a slow server takes its time, and that is what a test asks for.
            std::thread::sleep(Duration::from_millis(late_ms));
            pass_one(shared, &mut client, |_| None);
        }
        Way::NoBucket => refuse(&mut client, &refusal("404 Not Found", "NoSuchBucket")),
        Way::Open => pass(shared, &client, usize::MAX, false),
        Way::Torn(after) => pass(shared, &client, after, false),
        Way::Silent(after) => pass(shared, &client, after, true),
    }
    drop(client.shutdown(Shutdown::Both));
}

/// Answers whatever comes first.
fn refuse(client: &mut TcpStream, answer: &str) {
    let mut request = [0; 4096];
    if client.read(&mut request).is_ok() {
        drop(client.write_all(answer.as_bytes()));
    }
}

/// Lets one request through, unless its first line is to be refused. The server is told to close the connection behind it, so that each request is looked at.
fn pass_one(shared: &Shared, client: &mut TcpStream, refusal: impl Fn(&str) -> Option<String>) {
    let mut head = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    let end = loop {
        let found = head.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = found {
            break end;
        }
        match client.read(&mut buffer) {
            Ok(read) if read > 0 && head.len() < 1 << 20 => {
                head.extend_from_slice(buffer.get(..read).unwrap_or_default());
            }
            Ok(_) | Err(_) => return,
        }
    };
    let text = String::from_utf8_lossy(&head).into_owned();
    let line = text.lines().next().unwrap_or_default();
    if let Some(answer) = refusal(line) {
        drop(client.write_all(answer.as_bytes()));
        return;
    }
    let (start, rest) = head.split_at(end);
    let told = [start, b"\r\nConnection: close", rest].concat();
    let Ok(mut server) = TcpStream::connect(shared.server) else {
        return;
    };
    if server.write_all(&told).is_err() {
        return;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| hand_on(client, &server, usize::MAX));
        hand_on(&server, client, usize::MAX);
        drop(client.shutdown(Shutdown::Both));
        drop(server.shutdown(Shutdown::Both));
    });
}

/// Hands bytes on in both directions; of the answers no more than so many. Then the connection ends, or is left as it is.
fn pass(shared: &Shared, client: &TcpStream, after: usize, silent: bool) {
    let Ok(server) = TcpStream::connect(shared.server) else {
        return;
    };
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| hand_on(client, &server, usize::MAX));
        if hand_on(&server, client, after) == 0 && silent {
            // Until the client goes away, or the way is changed.
            drop(asked.join());
        }
        drop(client.shutdown(Shutdown::Both));
        drop(server.shutdown(Shutdown::Both));
    });
}

/// How many of the bytes that it may hand on are left in the end.
fn hand_on(mut from: &TcpStream, mut to: &TcpStream, mut left: usize) -> usize {
    let mut buffer = vec![0; 16 * 1024];
    while left > 0 {
        let room = left.min(buffer.len());
        let Some(piece) = buffer.get_mut(..room) else {
            break;
        };
        let read = match from.read(piece) {
            Ok(read) if read > 0 => read,
            Ok(_) | Err(_) => break,
        };
        if to.write_all(piece.get(..read).unwrap_or_default()).is_err() {
            break;
        }
        left -= read;
    }
    if left > 0 {
        drop(from.shutdown(Shutdown::Both));
        drop(to.shutdown(Shutdown::Both));
    }
    left
}
