//! Trace context over a real gRPC connection.
#![cfg(test)]

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use sealwarden_telemetry::{TraceContext, current_traceparent, server_span, traceparent_of};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Status,
    service::interceptor::InterceptedService,
    transport::{Endpoint, Server},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tracing::{Instrument, info_span};
use tracing_subscriber::layer::SubscriberExt;

/// What a server saw: the header, and its own span.
type Seen = (Option<String>, Option<String>);

async fn serve() -> (String, mpsc::Receiver<Seen>) {
    let (sender, seen) = mpsc::channel(4);
    let look = move |request: Request<()>| -> Result<Request<()>, Status> {
        let header = traceparent_of(&request).map(str::to_owned);
        sender.try_send((header, current_traceparent())).unwrap();
        Ok(request)
    };
    let (_reporter, health) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder()
        .trace_fn(server_span)
        .add_service(InterceptedService::new(health, look))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    (url, seen)
}

fn part(traceparent: &str, index: usize) -> &str {
    traceparent.split('-').nth(index).unwrap()
}

#[tokio::test]
async fn a_server_works_in_the_trace_of_its_caller() {
    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _recording = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let (url, mut seen) = serve().await;
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let mut client = HealthClient::with_interceptor(channel, TraceContext);
    let sent = async {
        client.check(HealthCheckRequest::default()).await.unwrap();
        current_traceparent().unwrap()
    }
    .instrument(info_span!("client"))
    .await;
    let (header, server) = seen.recv().await.unwrap();
    let server = server.unwrap();
    assert_eq!(header, Some(sent.clone()));
    assert_eq!(part(&server, 1), part(&sent, 1), "the trace is the same");
    assert_ne!(part(&server, 2), part(&sent, 2), "the span is another");
    // Outside of any span nothing is sent, and the server starts a trace.
    client.check(HealthCheckRequest::default()).await.unwrap();
    let (header, server) = seen.recv().await.unwrap();
    assert_eq!(header, None);
    assert_ne!(part(&server.unwrap(), 1), part(&sent, 1));
}
