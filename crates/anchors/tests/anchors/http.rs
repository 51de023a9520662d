use super::support::{NOW_MS, issued, roots, signer};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::post;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use sealwarden_anchors::authority::{Authority, router};
use sealwarden_anchors::client::{Client, ClientError};
use sealwarden_anchors::timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, crypto};

async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
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

/// Puts TLS in front of a plain `http` address, with a certificate that is valid until so many seconds from now (before now if below 0). Its address, and the
/// root above its certificate.
async fn behind_tls(plain: &str, valid_s: i64) -> (String, String) {
    let now_s = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let time = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = format!("root of what is valid for {valid_s} s");
    root.distinguished_name.push(DnType::CommonName, name);
    let pem = root.self_signed(&root_key).unwrap().pem();
    let mut leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    leaf.not_before = time(now_s - 2 * 86_400);
    leaf.not_after = time(now_s + valid_s);
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(root, root_key);
    let certificate = leaf.signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        );
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let upstream = plain
        .strip_prefix("http://")
        .and_then(|it| it.strip_suffix('/'))
        .unwrap()
        .to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
            tokio::spawn(async move {
                // Whoever refuses the certificate ends the handshake.
                let mut near = acceptor.accept(near).await?;
                let mut far = TcpStream::connect(upstream).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    (url, pem)
}

#[tokio::test]
async fn over_https_the_servers_certificate_is_checked_before_anything_is_asked() {
    let tsa = issued("Drill TSA");
    let authority = Arc::new(Authority::new(signer(&tsa)));
    let plain = serve(router(authority, Arc::new(|| NOW_MS))).await;
    let (url, root) = behind_tls(&plain, 86_400).await;
    let (expired_url, expired_root) = behind_tls(&plain, -86_400).await;
    let stamp = async |url: &str, tls_root: Option<&str>| {
        let tls_root = tls_root.map(str::as_bytes);
        let client = Client::new(url, Duration::from_secs(10), tls_root).unwrap();
        client.stamp(b"covered", &roots(&tsa)).await
    };
    let (_, found) = stamp(&url, Some(&root)).await.unwrap();
    assert_eq!(found.time_ms, NOW_MS);
    // Another root, a certificate that has run out, and another host's name. A certificate can be put right: the authority counts as away.
    let named = url.replace("127.0.0.1", "localhost");
    for (url, root, words) in [
        (&url, &expired_root, "UnknownIssuer"),
        (&expired_url, &expired_root, "expired"),
        (&named, &root, "not valid for name"),
    ] {
        let error = stamp(url, Some(root)).await.unwrap_err();
        assert!(error.is_unavailable(), "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}
