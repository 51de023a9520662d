//! A real OpenBao server on loopback, with TLS of our own authority, storage in memory or on disk, and a file audit device.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use sealwarden_keys::private_files;
use sealwarden_pki::{Authority, CallerName, CallerRole};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_mins(1);
/// The name of the audit device.
pub(crate) const DEVICE: &str = "sealwarden";

/// The server, ended when dropped.
pub(crate) struct Bao {
    child: Child,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) root: String,
    unseal_key: String,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Bao {
    /// A server that forgets everything when it ends.
    pub(crate) async fn start() -> Self {
        Self::with_storage("storage \"inmem\" {}\n").await
    }

    /// A server that finds its keys again after a restart.
    pub(crate) async fn on_disk() -> Self {
        Self::with_storage("raft").await
    }

    async fn with_storage(storage: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_tls(dir.path());
        let port = free_port();
        let storage = match storage {
            "raft" => {
                let data = dir.path().join("data");
                std::fs::create_dir(&data).unwrap();
                format!(
                    "storage \"raft\" {{ path = \"{}\"\n node_id = \"one\" }}\ncluster_addr = \"https://127.0.0.1:{}\"\n",
                    data.display(),
                    free_port()
                )
            }
            other => other.to_owned(),
        };
        let folder = dir.path().display();
        let (tls, audit) = (format!("{folder}/tls"), format!("{folder}/audit.log"));
        let config = format!(
            "{storage}listener \"tcp\" {{ address = \"127.0.0.1:{port}\"\n tls_cert_file = \"{tls}.pem\"\n tls_key_file = \"{tls}.key\" }}
api_addr = \"https://127.0.0.1:{port}\"
unsafe_allow_api_audit_creation = true
audit \"file\" \"{DEVICE}\" {{ options {{ file_path = \"{audit}\" }} }}\n"
        );
        std::fs::write(dir.path().join("bao.hcl"), config).unwrap();
        let client = admin_client(&std::fs::read(dir.path().join("ca.pem")).unwrap());
        let mut bao = Self {
            child: spawn(dir.path()),
            dir,
            port,
            root: String::new(),
            unseal_key: String::new(),
            client,
        };
        bao.answers(501).await;
        let made = bao
            .admin(
                "POST",
                "sys/init",
                json!({"secret_shares": 1, "secret_threshold": 1}),
            )
            .await;
        bao.root = made["root_token"].as_str().unwrap().to_owned();
        bao.unseal_key = made["keys_base64"][0].as_str().unwrap().to_owned();
        bao.unseal().await;
        bao
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(crate) fn audit(&self) -> PathBuf {
        self.dir.path().join("audit.log")
    }

    /// Unseals, and waits until the server is active.
    pub(crate) async fn unseal(&self) {
        self.admin("POST", "sys/unseal", json!({"key": self.unseal_key}))
            .await;
        self.answers(200).await;
    }

    pub(crate) async fn seal(&self) {
        self.admin("POST", "sys/seal", Value::Null).await;
    }

    /// Renames the audit file and lets the server open a new one, as logrotate does. Answers when the new one is there.
    pub(crate) async fn rotate(&self, name: &str) {
        std::fs::rename(self.audit(), self.dir.path().join(name)).unwrap();
        self.reopen().await;
    }

    /// Lets the server open its audit file again.
    pub(crate) async fn reopen(&self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
        let start = Instant::now();
        while !self.audit().exists() {
            assert!(start.elapsed() < PATIENCE, "no new audit file");
            // bounded poll: the server says nowhere that it has taken the signal.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the server like a power cut.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts a killed server again, sealed.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(self.dir.path());
        self.answers(503).await;
    }

    /// A new token in a file of mode 0600.
    pub(crate) async fn token_file(&self, name: &str, create: Value) -> PathBuf {
        let path = self.dir.path().join(name);
        write_secret(&path, &self.token(create).await);
        path
    }

    pub(crate) async fn token(&self, create: Value) -> String {
        let made = self.admin("POST", "auth/token/create", create).await;
        made["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    /// A request as root that has to succeed.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.request(&self.root, "", method, path, body).await;
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {answer}"
        );
        answer
    }

    /// Any request.
    pub(crate) async fn request(
        &self,
        token: &str,
        namespace: &str,
        method: &str,
        path: &str,
        body: Value,
    ) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/v1/{path}", self.url()));
        for (name, value) in [("x-vault-token", token), ("x-vault-namespace", namespace)] {
            if !value.is_empty() {
                request = request.header(name, value);
            }
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.client.request(request));
        let answer = answer.await.unwrap().unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// Waits until `sys/health` answers with `wanted`.
    async fn answers(&self, wanted: u16) {
        let start = Instant::now();
        loop {
            let request = Request::builder()
                .uri(format!("{}/v1/sys/health", self.url()))
                .body(Full::default())
                .unwrap();
            if let Ok(answer) = self.client.request(request).await
                && answer.status().as_u16() == wanted
            {
                return;
            }
            let log = self.dir.path().join("bao.log");
            assert!(
                start.elapsed() < PATIENCE,
                "no {wanted} from sys/health:\n{}",
                std::fs::read_to_string(log).unwrap_or_default()
            );
            // bounded poll: the server's state can only be asked for.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Writes a secret file of mode 0600.
pub(crate) fn write_secret(path: &Path, secret: &str) {
    private_files::replace(path, secret.as_bytes(), private_files::PRIVATE_FILE).unwrap();
}

/// `ca.pem`, `tls.pem` and `tls.key` of a new authority for 127.0.0.1.
pub(crate) fn write_tls(dir: &Path) {
    let authority = Authority::open_or_create(&dir.join("ca"), "openbao-test").unwrap();
    let name = CallerName::new("openbao").unwrap();
    let hosts = ["127.0.0.1".to_owned()];
    let day = Duration::from_hours(24);
    let identity = authority
        .issue(&name, CallerRole::Node, &hosts, day)
        .unwrap();
    std::fs::write(dir.join("ca.pem"), authority.certificate_pem()).unwrap();
    std::fs::write(dir.join("tls.pem"), identity.certificate_pem()).unwrap();
    write_secret(&dir.join("tls.key"), identity.key_pem());
}

fn spawn(dir: &Path) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("bao.log"))
        .unwrap();
    Command::new(binary())
        .arg("server")
        .arg(format!("-config={}", dir.join("bao.hcl").display()))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// `$SEALWARDEN_BAO`, else what `tests/tools/openbao.sh` installs.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SEALWARDEN_BAO") {
        return PathBuf::from(path);
    }
    let mut root = Path::new(env!("CARGO_MANIFEST_DIR"));
    while !root.join("Cargo.lock").exists() {
        root = root.parent().unwrap();
    }
    let script = root.join("tests/tools/openbao.sh");
    let output = Command::new(&script).output().unwrap();
    assert!(
        output.status.success(),
        "no bao: run tests/tools/openbao.sh, or set SEALWARDEN_BAO to one (2.7 or later): {}",
        String::from_utf8_lossy(&output.stderr)
    );
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn admin_client(ca: &[u8]) -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca).unwrap())
        .unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_http1()
        .build();
    Client::builder(TokioExecutor::new()).build(connector)
}
