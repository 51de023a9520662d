//! A key server's bad days: a TLS proxy before a real OpenBao that holds its answers back, or changes the signatures in them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _,
};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::Bao;

/// What stands before a signature in an answer.
const SIGNATURE: &[u8] = b"\"signature\":\"vault:v1:";

/// What is wrong with the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Each comes so much later.
    Slow(Duration),
    /// Signatures in them are others than the server made.
    WrongSignatures,
}

/// The proxy; it ends when dropped.
pub struct FaultyServer {
    port: u16,
    fault: watch::Sender<Fault>,
    corrupted: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl FaultyServer {
    /// A proxy before `bao` that has its certificate.
    pub fn before(bao: &Bao) -> Self {
        let [certificate, key] = bao.identity();
        let acceptor = TlsAcceptor::from(Arc::new(as_server(&certificate, &key)));
        let connector = TlsConnector::from(Arc::new(as_client(&bao.ca())));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let (fault, faults) = watch::channel(Fault::None);
        let corrupted = Arc::new(AtomicUsize::new(0));
        let (upstream, count) = (bao.port(), Arc::clone(&corrupted));
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((accepted, _)) = listener.accept().await {
                let (acceptor, connector) = (acceptor.clone(), connector.clone());
                let (faults, count) = (faults.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    let Ok(near) = acceptor.accept(accepted).await else {
                        return;
                    };
                    let Ok(far) = TcpStream::connect(("127.0.0.1", upstream)).await else {
                        return;
                    };
                    let name = ServerName::try_from("127.0.0.1").expect("an address");
                    let Ok(far) = connector.connect(name, far).await else {
                        return;
                    };
                    let (near_reads, near_writes) = split(near);
                    let (far_reads, far_writes) = split(far);
                    tokio::join!(
                        ask(near_reads, far_writes),
                        answer(far_reads, near_writes, faults, count)
                    );
                });
            }
        });
        Self {
            port,
            fault,
            corrupted,
            runtime: Some(runtime),
        }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// From now on answers are like this.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// How many signatures it has changed.
    pub fn corrupted(&self) -> usize {
        self.corrupted.load(Ordering::SeqCst)
    }
}

impl Drop for FaultyServer {
    fn drop(&mut self) {
        // Also where another runtime is under way, which must not be blocked.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn ask(
    mut from: ReadHalf<server::TlsStream<TcpStream>>,
    mut to: WriteHalf<client::TlsStream<TcpStream>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    drop(to.shutdown().await);
}

async fn answer(
    mut from: ReadHalf<client::TlsStream<TcpStream>>,
    mut to: WriteHalf<server::TlsStream<TcpStream>>,
    faults: watch::Receiver<Fault>,
    corrupted: Arc<AtomicUsize>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        let fault = *faults.borrow();
        let part = &mut buffer[..read];
        match fault {
            Fault::None => {}
            // bounded poll: nothing is awaited; being late is the fault that is played.
            Fault::Slow(late) => tokio::time::sleep(late).await,
            Fault::WrongSignatures => {
                let begins = part.windows(SIGNATURE.len()).position(|at| at == SIGNATURE);
                if let Some(first) = begins.and_then(|at| part.get_mut(at + SIGNATURE.len())) {
                    *first = if *first == b'A' { b'B' } else { b'A' };
                    corrupted.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
        if to.write_all(part).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    drop(to.shutdown().await);
}

fn as_server(certificate: &Path, key: &Path) -> ServerConfig {
    let chain = CertificateDer::pem_file_iter(certificate)
        .expect("the certificate")
        .collect::<Result<Vec<_>, _>>()
        .expect("certificates");
    let key = PrivateKeyDer::from_pem_file(key).expect("the key");
    let ring = Arc::new(crypto::ring::default_provider());
    ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("an identity")
}

fn as_client(ca: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(ca).expect("an authority");
    roots.add(ca).expect("an authority");
    let ring = Arc::new(crypto::ring::default_provider());
    ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
