//! What leaves the process, seen by a collector on loopback. Telemetry is configured by the environment and once a process,
//! so each test runs this program again, as the `child` test, under an environment of its own.
#![cfg(test)]

use std::{
    collections::HashMap,
    process::{Command, Output},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::ResourceSpans,
};
use sealwarden_telemetry::{InitError, TelemetryConfig, current_traceparent, init, with_parent};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use tracing::{info, info_span};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

struct Collector(mpsc::Sender<ResourceSpans>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for spans in request.into_inner().resource_spans {
            self.0.send(spans).await.unwrap();
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collect() -> (String, mpsc::Receiver<ResourceSpans>) {
    let (sender, received) = mpsc::channel(64);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder()
        .add_service(TraceServiceServer::new(Collector(sender)))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    (url, received)
}

/// Runs the `child` test in a process of its own, with only these `OTEL_…` variables.
async fn run_child(variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture"]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    tokio::time::timeout(Duration::from_mins(1), output)
        .await
        .unwrap()
        .unwrap()
}

/// What the child printed after `key=`.
fn printed(output: &Output, key: &str) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = text
        .lines()
        .find_map(|line| line.split_once(&format!("{key}=")))
        .map(|(_, value)| value.to_owned());
    value.unwrap_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        panic!("no {key} in:\n{text}\n{errors}")
    })
}

#[tokio::test(flavor = "current_thread")]
#[ignore = "runs as a child process of the other tests"]
async fn child() {
    let config = TelemetryConfig {
        service: "sealing".to_owned(),
        json_logs: true,
        log_filter: "info".to_owned(),
    };
    let guard = match init(&config) {
        Ok(guard) => guard,
        Err(error) => {
            println!("\nerror={error}");
            return;
        }
    };
    let twice = init(&config);
    assert!(matches!(twice, Err(InitError::AlreadyStarted)), "{twice:?}");
    let remote = format!("00-{TRACE}-{PARENT}-01");
    with_parent(Some(&remote), info_span!("seal batch")).in_scope(|| {
        println!(
            "\ntraceparent={}",
            current_traceparent().unwrap_or_default()
        );
        info!(size = 3, "sealed");
    });
    // In the only thread of a runtime, as at the end of an asynchronous `main`.
    drop(guard);
}

#[tokio::test]
async fn spans_reach_the_collector_under_their_remote_parent() {
    let (url, mut received) = collect().await;
    let output = run_child(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
    ])
    .await;
    assert!(printed(&output, "traceparent").starts_with(&format!("00-{TRACE}-")));
    let spans = received.try_recv().unwrap();
    let attributes: HashMap<String, String> = spans
        .resource
        .unwrap()
        .attributes
        .into_iter()
        .filter_map(|pair| {
            let Value::StringValue(text) = pair.value?.value? else {
                return None;
            };
            Some((pair.key, text))
        })
        .collect();
    assert_eq!(attributes["service.name"], "sealing");
    assert_eq!(attributes["deployment.environment.name"], "test");
    let span = &spans.scope_spans[0].spans[0];
    assert_eq!(span.name, "seal batch");
    assert_eq!(format!("{:032x}", u128_of(&span.trace_id)), TRACE);
    assert_eq!(
        format!("{:032x}", u128_of(&span.parent_span_id)),
        format!("{PARENT:0>32}")
    );
}

fn u128_of(bytes: &[u8]) -> u128 {
    bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

#[tokio::test]
async fn the_environment_names_the_service() {
    let (url, mut received) = collect().await;
    run_child(&[
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &url),
        ("OTEL_SERVICE_NAME", "my-sealing"),
    ])
    .await;
    let resource = received.try_recv().unwrap().resource.unwrap();
    let name = resource
        .attributes
        .iter()
        .find(|pair| pair.key == "service.name");
    let name = name.and_then(|pair| pair.value.clone()?.value);
    assert_eq!(name, Some(Value::StringValue("my-sealing".to_owned())));
}

#[tokio::test]
async fn ids_exist_without_a_collector_and_logs_are_json() {
    let output = run_child(&[]).await;
    assert!(printed(&output, "traceparent").starts_with(&format!("00-{TRACE}-")));
    let log = String::from_utf8(output.stderr).unwrap();
    let line = log.lines().find(|line| line.contains("sealed")).unwrap();
    assert!(
        line.starts_with('{') && line.contains("\"size\":3"),
        "{line}"
    );
}

#[tokio::test]
async fn nothing_leaves_when_switched_off_or_not_sampled() {
    let (url, mut received) = collect().await;
    for (name, value) in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
    ] {
        let output = run_child(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &url), (name, value)]).await;
        let traceparent = printed(&output, "traceparent");
        assert_eq!(
            traceparent.is_empty(),
            name == "OTEL_SDK_DISABLED",
            "{name}"
        );
        assert!(
            received.try_recv().is_err(),
            "{name} did not stop the export"
        );
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_holds_nobody_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let output = run_child(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]).await;
    assert!(output.status.success());
}

#[tokio::test]
async fn a_protocol_that_is_not_spoken_is_named() {
    let output = run_child(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ])
    .await;
    let error = printed(&output, "error");
    assert!(
        error.contains("OTEL_EXPORTER_OTLP_PROTOCOL") && error.contains("grpc"),
        "{error}"
    );
}
