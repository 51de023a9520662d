//! A system outside that webhooks call: it counts what it did, and can answer as badly as real ones do.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::wait::a_while;

/// The token that it asks for.
const TOKEN: &str = "a-token-of-the-test";
/// How long it says nothing, at most, before it hangs up.
const SILENCE: Duration = Duration::from_secs(5);

/// What happened there.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// Keys and bodies of what it did, in order. What it did twice stands there twice.
    pub effects: Vec<(String, String)>,
    /// Requests by method, path and key.
    pub requests: BTreeMap<(String, String, String), u32>,
    /// Requests that came without the token.
    pub strangers: u32,
}

/// A server on loopback. It does what it is told to under two addresses: `/once` does it for each call, `/keyed` once a key. `/seen` says whether a key's call was done.
///
/// The body is `{"do": HOW, …}`. HOW is `well`; `slow` (it takes up to 60 ms, before and after); `fail-first` (500 and no effect, the first time); `vanish-first` (hangs up
/// without effect, the first time); `hang`, `cut`, `garbage`, `redirect`, `oversized`, `error` (done, with an answer that does not say so); `refuse` (422 and no effect).
#[derive(Debug)]
pub struct Target {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
}

/// A request that came through whole.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) key: String,
    pub(crate) token: String,
    pub(crate) body: String,
}

impl Target {
    /// Starts it. It serves as long as the test's process lives.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let book = Arc::new(Mutex::new(Book::default()));
        let shared = Arc::clone(&book);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let book = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &book));
            }
        });
        Self { address, book }
    }

    /// An address of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What happened so far.
    pub fn book(&self) -> Book {
        self.book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Writes its token into a file that only its owner may read.
    pub fn token(home: &Path) -> PathBuf {
        let path = home.join("token");
        std::fs::write(&path, format!("{TOKEN}\n")).expect("a token");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("a mode");
        path
    }
}

pub(crate) fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let mut request = Request {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        key: String::new(),
        token: String::new(),
        body: String::new(),
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "idempotency-key" => value.clone_into(&mut request.key),
            "authorization" => value.clone_into(&mut request.token),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).ok()?;
    Some(request)
}

/// A request that did not come through whole does nothing, as with any server.
fn serve(mut stream: TcpStream, book: &Mutex<Book>) {
    let Some(request) = read(&stream) else { return };
    let book = || book.lock().unwrap_or_else(PoisonError::into_inner);
    let named = (
        request.method.clone(),
        request.path.clone(),
        request.key.clone(),
    );
    let before = {
        let mut book = book();
        let count = book.requests.entry(named).or_default();
        *count += 1;
        *count - 1
    };
    if request.token != format!("Bearer {TOKEN}") {
        book().strangers += 1;
        return answer(&mut stream, "401 Unauthorized", "who are you?");
    }
    let is_done = || book().effects.iter().any(|(key, _)| *key == request.key);
    if request.method == "GET" {
        if request.path == "/seen" && is_done() {
            answer(&mut stream, "200 OK", "it was done");
        } else {
            answer(&mut stream, "404 Not Found", "never heard of it");
        }
        return;
    }
    let told: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let how = told["do"].as_str().unwrap_or_default();
    match how {
        "fail-first" if before == 0 => {
            return answer(&mut stream, "500 Internal Server Error", "not yet");
        }
        "vanish-first" if before == 0 => return,
        "refuse" => return answer(&mut stream, "422 Unprocessable Content", "no such\nflag"),
        _ => {}
    }
    if how == "slow" {
        a_while(0..61);
    }
    {
        let mut book = book();
        let again = book.effects.iter().any(|(key, _)| *key == request.key);
        if request.path == "/once" || !again {
            book.effects.push((request.key, request.body));
        }
    }
    say_so(&mut stream, how);
}

fn say_so(stream: &mut TcpStream, how: &str) {
    // Whoever asked may be gone: that is what is tried.
    match how {
        "slow" => {
            a_while(0..61);
            answer(stream, "200 OK", "done");
        }
        "hang" => {
            // It says nothing until whoever asked gives up.
            drop(stream.set_read_timeout(Some(SILENCE)));
            drop(stream.read(&mut [0]));
        }
        "cut" => drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nalmost")),
        "garbage" => drop(stream.write_all(b"\x00\xffI did it\r\n\r\n")),
        "redirect" => drop(stream.write_all(
            b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /once\r\nContent-Length: 0\r\n\r\n",
        )),
        "oversized" => answer(stream, "200 OK", &"x".repeat(1024 * 1024)),
        "error" => answer(stream, "503 Service Unavailable", "done, but tired"),
        _ => answer(stream, "200 OK", "done"),
    }
}

pub(crate) fn answer(stream: &mut TcpStream, status: &str, body: &str) {
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    drop(stream.write_all(text.as_bytes()));
}
