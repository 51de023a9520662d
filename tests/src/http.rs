//! One plain HTTP request.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// Sends a request with these headers and reads the answer to its end: status and body.
pub fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nConnection: close\r\n",
        body.len()
    );
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").expect("a text grows");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).expect("a request");
    // Whoever refuses a body need not read it.
    drop(stream.write_all(body));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let at = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("the end of the head");
    let head = String::from_utf8_lossy(answer.get(..at).unwrap_or_default()).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (
        status.expect("a status"),
        answer.get(at + 4..).unwrap_or_default().to_vec(),
    )
}
