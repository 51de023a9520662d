use super::support::{NOW_MS, issued, roots, signer};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::post;
use sealwarden_anchors::authority::{Authority, router};
use sealwarden_anchors::client::{Client, ClientError};
use sealwarden_anchors::timestamp;
use std::sync::Arc;
use std::time::Duration;

async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}/")
}

fn client(url: &str) -> Client {
    Client::new(url, Duration::from_secs(10), None).unwrap()
}

#[tokio::test]
async fn the_client_gets_a_timestamp_that_holds() {
    let tsa = issued("Drill TSA");
    let authority = Arc::new(Authority::new(signer(&tsa)));
    let url = serve(router(authority, Arc::new(|| NOW_MS))).await;
    let (response, found) = client(&url).stamp(b"covered", &roots(&tsa)).await.unwrap();
    assert_eq!(found.time_ms, NOW_MS);
    assert_eq!(
        timestamp::verify(&response, b"covered", &roots(&tsa)),
        Ok(found)
    );
    // Roots that do not know it.
    let stranger = roots(&issued("Other TSA"));
    let error = client(&url).stamp(b"covered", &stranger).await.unwrap_err();
    assert!(matches!(error, ClientError::Timestamp { .. }), "{error}");
}

#[tokio::test]
async fn servers_that_are_no_authority_are_told_apart() {
    let trusted = roots(&issued("Drill TSA"));
    let reply = |bytes: Vec<u8>| {
        (
            [(header::CONTENT_TYPE, "application/timestamp-reply")],
            bytes,
        )
    };
    let app = Router::new()
        .route("/page", post(|| async { "hello" }))
        .route("/busy", post(|| async { StatusCode::SERVICE_UNAVAILABLE }))
        .route(
            "/away",
            post(|| async { (StatusCode::FOUND, [(header::LOCATION, "/page")]) }),
        )
        .route("/long", post(move || async move { reply(vec![0; 70_000]) }))
        .route("/junk", post(move || async move { reply(vec![0; 70]) }))
        .route(
            "/hang",
            post(|| async { std::future::pending::<StatusCode>().await }),
        );
    let url = serve(app).await;
    for (path, unavailable, words) in [
        ("page", false, "content type"),
        ("busy", true, "503"),
        ("away", false, "302"),
        ("long", false, "more than"),
        ("junk", false, "malformed"),
        ("none", false, "404"),
    ] {
        let client = client(&format!("{url}{path}"));
        let error = client.stamp(b"covered", &trusted).await.unwrap_err();
        assert!(error.to_string().contains(words), "{path}: {error}");
        assert_eq!(error.is_unavailable(), unavailable, "{path}");
    }
    let hasty = Client::new(&format!("{url}hang"), Duration::from_millis(200), None).unwrap();
    let error = hasty.stamp(b"covered", &trusted).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    let nobody = client("http://127.0.0.1:9/")
        .stamp(b"x", &trusted)
        .await
        .unwrap_err();
    assert!(nobody.is_unavailable(), "{nobody}");
}
