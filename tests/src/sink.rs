//! People outside who are told something: a room that takes webhooks, and a mail server. Both can answer as badly as real ones do.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::target::{answer, read};

/// How long it says nothing, at most, before it hangs up.
const SILENCE: Duration = Duration::from_secs(5);

/// How a sink answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// It takes everything.
    Well,
    /// It takes it and says nothing.
    Hang,
    /// It takes it and hangs up in the middle of its answer.
    Cut,
    /// "Not now": 503, 451.
    Busy,
    /// "Never": 404, 550.
    Refuse,
}

/// Something that arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// Path of a request; recipients of a mail.
    pub whereto: String,
    /// The idempotency key of a request; the Message-ID of a mail.
    pub key: String,
    /// The body; the whole mail.
    pub text: String,
}

impl Arrived {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("a JSON body")
    }
}

#[derive(Debug)]
struct Shared {
    manners: Mutex<Manners>,
    arrived: Mutex<Vec<Arrived>>,
}

/// A server on loopback. It serves as long as the test's process lives.
#[derive(Clone, Debug)]
pub struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Sink {
    /// A room, or a pager's gateway.
    pub fn web() -> Self {
        Self::start(serve_web)
    }

    /// A mail server without TLS.
    pub fn mail() -> Self {
        Self::start(serve_mail)
    }

    fn start(serve: fn(TcpStream, &Shared)) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            manners: Mutex::new(Manners::Well),
            arrived: Mutex::new(Vec::new()),
        });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&own);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { address, shared }
    }

    /// From now on it answers so.
    pub fn behave(&self, manners: Manners) {
        *lock(&self.shared.manners) = manners;
    }

    /// An address of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What arrived so far, in order. What came twice stands there twice.
    pub fn arrived(&self) -> Vec<Arrived> {
        lock(&self.shared.arrived).clone()
    }
}

/// Writes a secret into a file that only its owner may read.
pub fn secret(home: &Path, name: &str, text: &str) -> PathBuf {
    let path = home.join(name);
    std::fs::write(&path, format!("{text}\n")).expect("a secret");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&path, mode).expect("a mode");
    path
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hang(stream: &mut TcpStream) {
    // It says nothing until whoever asked gives up.
    drop(stream.set_read_timeout(Some(SILENCE)));
    drop(stream.read(&mut [0]));
}

fn serve_web(mut stream: TcpStream, shared: &Shared) {
    let Some(request) = read(&stream) else { return };
    let manners = *lock(&shared.manners);
    if matches!(manners, Manners::Well | Manners::Hang | Manners::Cut) {
        lock(&shared.arrived).push(Arrived {
            whereto: request.path,
            key: request.key,
            text: request.body,
        });
    }
    match manners {
        Manners::Well => answer(&mut stream, "200 OK", "ok"),
        Manners::Hang => hang(&mut stream),
        Manners::Cut => {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nalmost"));
        }
        Manners::Busy => answer(&mut stream, "503 Service Unavailable", "not now"),
        Manners::Refuse => answer(&mut stream, "404 Not Found", "no_service"),
    }
}

/// As much of RFC 5321 as a client needs.
fn serve_mail(mut stream: TcpStream, shared: &Shared) {
    let Ok(reading) = stream.try_clone() else {
        return;
    };
    let mut reader = BufReader::new(reading);
    let mut say = |line: &str| stream.write_all(format!("{line}\r\n").as_bytes()).is_ok();
    say("220 sink.example ESMTP");
    let mut recipients: Vec<String> = Vec::new();
    loop {
        let mut line = String::new();
        if !reader.read_line(&mut line).is_ok_and(|read| read > 0) {
            return;
        }
        let line = line.trim_end();
        let word = line.split([' ', ':']).next().unwrap_or_default();
        let good = match word.to_ascii_uppercase().as_str() {
            "EHLO" | "HELO" => say("250 sink.example"),
            "RCPT" => {
                recipients.push(line.to_owned());
                say("250 ok")
            }
            "DATA" => {
                say("354 go on");
                let Some(text) = mail_text(&mut reader) else {
                    return;
                };
                let manners = *lock(&shared.manners);
                if matches!(manners, Manners::Well | Manners::Hang | Manners::Cut) {
                    let id = text.lines().find_map(|l| l.strip_prefix("Message-ID: "));
                    lock(&shared.arrived).push(Arrived {
                        whereto: recipients.join(" "),
                        key: id.unwrap_or_default().to_owned(),
                        text,
                    });
                }
                match manners {
                    Manners::Well => say("250 taken"),
                    Manners::Busy => say("451 try later"),
                    Manners::Refuse => say("550 no such mailbox"),
                    Manners::Cut => return,
                    Manners::Hang => {
                        drop(reader.get_ref().set_read_timeout(Some(SILENCE)));
                        drop(reader.read(&mut [0]));
                        return;
                    }
                }
            }
            "QUIT" => {
                say("221 bye");
                return;
            }
            _ => say("250 ok"),
        };
        if !good {
            return;
        }
    }
}

/// The lines up to the dot.
fn mail_text(reader: &mut impl std::io::BufRead) -> Option<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line == ".\r\n" {
            return Some(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
