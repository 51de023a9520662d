//! The witness over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use sealwarden_seal::witness::MAX_REQUEST_BYTES;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use crate::witness::{Answer, Witness};

#[derive(Clone)]
struct Context {
    witness: Arc<Witness>,
    places: Arc<Semaphore>,
}

/// `POST /witness/add-checkpoint`, and `GET /witness/key` with the verifier keys, one a line, the Ed25519 one first. At most `concurrency` requests are worked on at once; more are answered 429.
pub(crate) fn routes(witness: Arc<Witness>, concurrency: usize) -> Router {
    let places = Arc::new(Semaphore::new(concurrency));
    Router::new()
        .route("/witness/add-checkpoint", post(add_checkpoint))
        .route("/witness/key", get(key))
        .with_state(Context { witness, places })
}

async fn add_checkpoint(
    State(context): State<Context>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let traceparent = headers
        .get("traceparent")
        .and_then(|value| value.to_str().ok());
    let span = tracing::info_span!("witness.add-checkpoint", otel.kind = "server");
    let span = sealwarden_telemetry::with_parent(traceparent, span);
    answer(context, body).instrument(span).await
}

async fn answer(context: Context, body: Body) -> Response {
    let Ok(_place) = context.places.try_acquire() else {
        return respond(Answer::text(429, "the witness is busy; try again later"));
    };
    let Ok(body) = to_bytes(body, MAX_REQUEST_BYTES).await else {
        let limit = format!("the request has more than {MAX_REQUEST_BYTES} bytes, or broke off");
        return respond(Answer::text(413, limit));
    };
    respond(context.witness.add_checkpoint(&body).await)
}

async fn key(State(context): State<Context>) -> Response {
    let keys: Vec<String> = context.witness.vkeys().map(ToString::to_string).collect();
    respond(Answer::text(200, keys.join("\n")))
}

fn respond(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = HeaderValue::from_static(answer.content_type);
    (status, [(header::CONTENT_TYPE, content_type)], answer.body).into_response()
}
