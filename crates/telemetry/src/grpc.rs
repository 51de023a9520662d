//! Trace context over gRPC: put into calls by clients, taken from them by servers.

use tonic::{Request, Status, metadata::MetadataValue, service::Interceptor};
use tracing::{Span, field::Empty};

use crate::traceparent::{TRACEPARENT, current_traceparent, with_parent};

/// A client interceptor that sends the current span's `traceparent` with every call, unless the call has one.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceContext;

impl Interceptor for TraceContext {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        if !metadata.contains_key(TRACEPARENT)
            && let Some(value) =
                current_traceparent().and_then(|text| MetadataValue::try_from(text).ok())
        {
            metadata.insert(TRACEPARENT, value);
        }
        Ok(request)
    }
}

/// The `traceparent` that came with a call, unchecked.
pub fn traceparent_of<T>(request: &Request<T>) -> Option<&str> {
    request.metadata().get(TRACEPARENT)?.to_str().ok()
}

/// The span of a call that a server handles, under the caller's span. Made for
/// `tonic::transport::Server::builder().trace_fn(server_span)`, which enters it around the handler.
pub fn server_span(request: &http::Request<()>) -> Span {
    let traceparent = request
        .headers()
        .get(TRACEPARENT)
        .and_then(|value| value.to_str().ok());
    let path = request.uri().path();
    let (service, method) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or(("", path));
    let span = tracing::info_span!(
        "grpc",
        otel.name = Empty,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
    );
    span.record("otel.name", path.trim_start_matches('/'));
    with_parent(traceparent, span)
}
