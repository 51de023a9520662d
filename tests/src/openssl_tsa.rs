//! Somebody else's time-stamping authority: `openssl ts` behind a small HTTP server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// What `openssl ts` is told.
const SETTINGS: &str = "[tsa]\ndefault_tsa=t\n[t]\nserial=serial\ncrypto_device=builtin\nsigner_cert=tsa.pem\ncerts=root.pem\nsigner_key=tsa.key\n\
    signer_digest=sha256\ndefault_policy=1.2.3.4.1\ndigests=sha256\naccuracy=secs:1\nordering=yes\ntsa_name=yes\ness_cert_id_chain=no\ness_cert_id_alg=sha256\n";
/// No request of ours is longer, in bytes.
const MAX_QUERY: usize = 64 * 1024;

/// The authority. It ends with the value.
pub struct OpensslTsa {
    dir: PathBuf,
    port: u16,
    stopped: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl OpensslTsa {
    /// Makes a root and a P-256 certificate under it in `dir`, and serves.
    pub fn start(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("a folder");
        let put = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("a file");
        put("tsa.cnf", SETTINGS);
        put("serial", "01\n");
        put(
            "tsa.ext",
            "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=critical,timeStamping\n",
        );
        for arguments in [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root.pem -subj /CN=Root -days 3",
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tsa.key -out tsa.csr -subj /CN=OpenSSL",
            "x509 -req -in tsa.csr -CA root.pem -CAkey root.key -set_serial 7 -days 2 -extfile tsa.ext -out tsa.pem",
        ] {
            assert!(openssl(dir, arguments), "openssl {arguments}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let stopped = Arc::new(AtomicBool::new(false));
        let (folder, stop) = (dir.to_path_buf(), Arc::clone(&stopped));
        let server = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(connection) = connection {
                    // Who breaks off is not answered.
                    drop(answer(&folder, &connection));
                }
            }
        });
        Self {
            dir: dir.to_path_buf(),
            port,
            stopped,
            server: Some(server),
        }
    }

    /// Where it takes requests.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// The root above its certificate, PEM.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root.pem")
    }
}

impl Drop for OpensslTsa {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // It looks at the mark when somebody comes.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(server) = self.server.take() {
            drop(server.join());
        }
    }
}

fn openssl(dir: &Path, arguments: &str) -> bool {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(dir)
        .output()
        .expect("openssl is installed");
    output.status.success()
}

/// One request on one connection.
fn answer(dir: &Path, mut connection: &TcpStream) -> std::io::Result<()> {
    let mut from = BufReader::new(connection);
    let mut length = 0;
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut query = vec![0; length.min(MAX_QUERY)];
    from.read_exact(&mut query)?;
    std::fs::write(dir.join("query"), query)?;
    let made = openssl(dir, "ts -reply -config tsa.cnf -queryfile query -out reply");
    let (status, body) = if made {
        ("200 OK", std::fs::read(dir.join("reply"))?)
    } else {
        ("500 Internal Server Error", Vec::new())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/timestamp-reply\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes())?;
    connection.write_all(&body)?;
    connection.shutdown(Shutdown::Write)
}
