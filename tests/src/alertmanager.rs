//! A real Alertmanager, Debian's, that sends what it is told to a webhook.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::binary::repository;
use crate::http;
use crate::wait::eventually;

/// A running Alertmanager, ended when dropped.
#[derive(Debug)]
pub struct Alertmanager {
    child: Child,
    address: SocketAddr,
}

impl Alertmanager {
    /// Starts one that sends to `url` with a bearer token, at once.
    pub fn start(home: &Path, url: &str, token: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let config = home.join("alertmanager.yml");
        let text = format!(
            "route: {{receiver: sealwarden, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\nreceivers:\n- name: sealwarden\n  webhook_configs:\n  - url: '{url}'\n    send_resolved: true\n    http_config: {{authorization: {{type: Bearer, credentials: '{token}'}}}}\n"
        );
        std::fs::write(&config, text).expect("a configuration");
        let log = std::fs::File::create(home.join("alertmanager.log")).expect("a log");
        let child = Command::new(program())
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.path={}",
                home.join("alertmanager").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log again"))
            .stderr(log)
            .spawn()
            .expect("Alertmanager starts");
        let alertmanager = Self { child, address };
        eventually("Alertmanager listens", || TcpStream::connect(address).ok());
        alertmanager
    }

    /// Tells it of an alert, as Prometheus does: with its start each time, and once it is resolved with its end.
    pub fn tell(
        &self,
        labels: &serde_json::Value,
        summary: &str,
        starts_at: &str,
        ends_at: Option<&str>,
    ) {
        let mut alert = json!({ "labels": labels, "annotations": { "summary": summary }, "startsAt": starts_at });
        if let (Some(at), Some(alert)) = (ends_at, alert.as_object_mut()) {
            alert.insert("endsAt".to_owned(), at.into());
        }
        let body = json!([alert]).to_string();
        let headers = [("Content-Type", "application/json")];
        let path = "/api/v2/alerts";
        let (status, answer) = http::call(self.address, "POST", path, &headers, body.as_bytes());
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `$SEALWARDEN_ALERTMANAGER`, else what the script unpacks.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("SEALWARDEN_ALERTMANAGER") {
        return path.into();
    }
    let script = repository().join("tests/tools/alertmanager.sh");
    let output = Command::new(script).output().expect("the script runs");
    assert!(
        output.status.success(),
        "tests/tools/alertmanager.sh: {output:?}"
    );
    String::from_utf8_lossy(&output.stdout).trim().into()
}
