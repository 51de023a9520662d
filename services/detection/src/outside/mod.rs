//! Outside detectors over HTTP: `POST /outside/alertmanager` and `POST /outside/events`, with a bearer token each.
//!
//! What they say becomes signals like any other report: nothing of it proves itself. The same alert twice is one, over restarts, too, since a signal's id follows
//! from source and fingerprint. However many come, an incident takes in so many and the others are counted.

mod intake;
mod payload;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;

pub(crate) use intake::{Intake, flush};
use payload::{BadPayload, Told};
pub use source::{BadSource, OutsideSource};
pub(crate) use source::{Known, Sources, validate};

/// The largest body, in bytes.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Its routes; none without sources.
pub(crate) fn routes(intake: Arc<Intake>) -> Router {
    if intake.sources.is_empty() {
        return Router::new();
    }
    Router::new()
        .route("/outside/alertmanager", post(alertmanager))
        .route("/outside/events", post(event))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(intake)
}

async fn alertmanager(
    State(intake): State<Arc<Intake>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match admitted(&intake, &headers) {
        Ok(source) => answer(&intake, source, payload::alertmanager(&body)).await,
        Err(refusal) => *refusal,
    }
}

async fn event(State(intake): State<Arc<Intake>>, headers: HeaderMap, body: Bytes) -> Response {
    match admitted(&intake, &headers) {
        Ok(source) => answer(&intake, source, payload::cloud_event(&headers, &body)).await,
        Err(refusal) => *refusal,
    }
}

/// Who sends this, if it may and not too often.
fn admitted<'a>(intake: &'a Intake, headers: &HeaderMap) -> Result<&'a Known, Box<Response>> {
    let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let token = given.and_then(|it| it.strip_prefix(b"Bearer "));
    let Some(source) = token.and_then(|token| intake.sources.with_token(token)) else {
        let body = "a bearer token of a source in detection.outside is needed\n";
        let refusal = (
            StatusCode::UNAUTHORIZED,
            [(WWW_AUTHENTICATE, "Bearer")],
            body,
        );
        return Err(Box::new(refusal.into_response()));
    };
    if !source.admit(Instant::now()) {
        let body = format!("{} sends more than its requests_per_minute\n", source.name);
        let refusal = (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "10")], body);
        return Err(Box::new(refusal.into_response()));
    }
    Ok(source)
}

async fn answer(intake: &Intake, source: &Known, told: Result<Told, BadPayload>) -> Response {
    let told = match told {
        Ok(told) => told,
        Err(bad) => {
            tracing::warn!(source = %source.name, %bad, "an outside payload is refused");
            return (StatusCode::BAD_REQUEST, format!("{bad}\n")).into_response();
        }
    };
    match intake.take(source, told).await {
        Ok(taken) => (StatusCode::OK, format!("{taken}\n")).into_response(),
        // Alertmanager repeats what is answered so.
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
