//! The two listeners of a process: gRPC with mutual TLS, and plain HTTP for what is public by nature (tiles, checkpoints, the witness).

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use sealwarden_pki::Identity;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::server::TcpIncoming;

/// Longest a request may take that is served when the process is told to end.
const DRAIN: Duration = Duration::from_secs(10);

/// Bound, not yet serving.
pub(crate) struct Listeners {
    grpc: TcpListener,
    http: TcpListener,
}

impl Listeners {
    /// Binds both. A port of 0 means any free one.
    pub(crate) async fn bind(grpc: SocketAddr, http: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self {
            grpc: bind(grpc).await?,
            http: bind(http).await?,
        })
    }

    /// `https://…` address of the gRPC listener.
    pub(crate) fn grpc_url(&self) -> anyhow::Result<String> {
        Ok(format!("https://{}", self.grpc.local_addr()?))
    }

    /// `http://…` address of the HTTP listener.
    pub(crate) fn http_url(&self) -> anyhow::Result<String> {
        Ok(format!("http://{}", self.http.local_addr()?))
    }

    /// Serves until `shutdown`; requests under way are answered first, for a bounded time.
    pub(crate) fn serve(
        self,
        routes: Routes,
        http: axum::Router,
        identity: &Identity,
        shutdown: &CancellationToken,
        tasks: &mut JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let server = tonic::transport::Server::builder()
            .trace_fn(sealwarden_telemetry::server_span)
            .tls_config(sealwarden_pki::server_tls(identity))
            .context("setting up TLS")?
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .concurrency_limit_per_connection(1024)
            .layer(InterceptorLayer::new(sealwarden_pki::Callers::default()))
            .add_routes(routes);
        let token = shutdown.clone();
        // Without it a small answer waits for the acknowledgement of the frame before it: 40 ms on Linux.
        let incoming = TcpIncoming::from(self.grpc).with_nodelay(Some(true));
        tasks.spawn(async move {
            let serving =
                server.serve_with_incoming_shutdown(incoming, token.clone().cancelled_owned());
            bounded(serving, token).await?.context("serving gRPC")
        });
        let token = shutdown.clone();
        let listener = self.http;
        tasks.spawn(async move {
            let serving =
                axum::serve(listener, http).with_graceful_shutdown(token.clone().cancelled_owned());
            bounded(serving.into_future(), token)
                .await?
                .context("serving HTTP")
        });
        Ok(())
    }
}

/// Waits for a server; after shutdown only for [`DRAIN`].
async fn bounded<T>(
    serving: impl Future<Output = T>,
    shutdown: CancellationToken,
) -> anyhow::Result<T> {
    tokio::pin!(serving);
    tokio::select! {
        done = &mut serving => return Ok(done),
        () = shutdown.cancelled() => {}
    }
    tokio::time::timeout(DRAIN, serving).await.map_err(|_| {
        anyhow::anyhow!(
            "requests were still under way {} s after shutdown began",
            DRAIN.as_secs()
        )
    })
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("listening on {address}; is another process there? choose another with --listen")
    })
}
