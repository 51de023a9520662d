//! Starting and ending telemetry for a process.

use std::{env, io::IsTerminal as _, time::Duration};

use opentelemetry::{Key, KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithTonicConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tokio::runtime::Runtime;
use tonic::transport::{Certificate, ClientTlsConfig};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::ParseError, layer::SubscriberExt, util::SubscriberInitExt,
};

/// Spans are recorded at these levels, whatever is logged. The exporter's own libraries are left out: exporting a span must
/// not make another.
const SPAN_FILTER: &str = "info,h2=off,hyper=off,hyper_util=off,tonic=off,tower=off,opentelemetry=off,opentelemetry_sdk=off,opentelemetry_otlp=off";
/// How long the last spans may take to leave at the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// How a process logs. Traces are configured by the standard `OTEL_…` variables.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// The service's name in traces; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` override it.
    pub service: String,
    /// One JSON object a line instead of text for people.
    pub json_logs: bool,
    /// What is logged, in `tracing-subscriber`'s syntax: `info`, `info,sealwarden_sealing=debug`.
    pub log_filter: String,
}

/// Why telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The log filter cannot be read.
    #[error(
        "the log filter {filter:?} cannot be read: {source}; use a level (error, warn, info, debug, trace) or target=level pairs"
    )]
    Filter {
        /// The filter given.
        filter: String,
        /// What the parser said.
        source: ParseError,
    },
    /// Telemetry was started before.
    #[error("logging was started before in this process: start it once, in main")]
    AlreadyStarted,
    /// The exporter's settings do not fit.
    #[error(
        "the OpenTelemetry exporter cannot be made: {0}; check the OTEL_EXPORTER_OTLP_… variables"
    )]
    Exporter(#[from] ExporterBuildError),
    /// A protocol this program does not speak.
    #[error(
        "{variable} is {value:?}: only `grpc` is supported; set it so, with the collector's gRPC port (4317)"
    )]
    Protocol {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// The collector's authority cannot be read.
    #[error("the certificate {path} of OTEL_EXPORTER_OTLP_CERTIFICATE cannot be read: {source}")]
    Certificate {
        /// The file named.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The exporter's thread could not be started.
    #[error("the exporter's thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// Keeps telemetry running. Dropping it sends the last spans, waiting at most five seconds.
#[must_use = "dropping the guard ends telemetry"]
#[derive(Debug)]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
    runtime: Option<Runtime>,
}

impl Guard {
    /// Sends the last spans, waiting at most five seconds. Blocks its thread; the exporter has a thread of its own, so
    /// this cannot wait for itself.
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown_with_timeout(FLUSH_TIMEOUT)
        {
            tracing::warn!(%error, "the last spans could not be exported");
        }
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would wait, and may not within an asynchronous task.
            runtime.shutdown_background();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts logs to standard error, trace ids, and the export of spans over OTLP/gRPC if `OTEL_EXPORTER_OTLP_ENDPOINT` or
/// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` names a collector. `OTEL_SDK_DISABLED=true` leaves logs only;
/// `OTEL_TRACES_EXPORTER=none` makes ids without export. Sampler, limits, batch sizes, headers and the resource come from the
/// standard variables. Works with or without a Tokio runtime.
pub fn init(config: &TelemetryConfig) -> Result<Guard, InitError> {
    let log_filter =
        EnvFilter::try_new(&config.log_filter).map_err(|source| InitError::Filter {
            filter: config.log_filter.clone(),
            source,
        })?;
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = Vec::with_capacity(2);
    let format = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    layers.push(if config.json_logs {
        format.json().with_filter(log_filter).boxed()
    } else {
        format.compact().with_filter(log_filter).boxed()
    });
    let mut guard = Guard {
        provider: None,
        runtime: None,
    };
    if !is_true("OTEL_SDK_DISABLED") {
        let (provider, runtime) = tracer_provider(&config.service)?;
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("sealwarden"))
            .with_filter(EnvFilter::new(SPAN_FILTER));
        layers.push(layer.boxed());
        guard = Guard {
            provider: Some(provider),
            runtime,
        };
    }
    tracing_subscriber::registry()
        .with(layers)
        .try_init()
        .map_err(|_| InitError::AlreadyStarted)?;
    Ok(guard)
}

/// A provider that makes ids, and exports if the environment says where to. The runtime drives the exporter.
fn tracer_provider(service: &str) -> Result<(SdkTracerProvider, Option<Runtime>), InitError> {
    let builder = SdkTracerProvider::builder().with_resource(resource(service));
    if !wants_export() {
        return Ok((builder.build(), None));
    }
    check_protocol()?;
    // The error says that a provider is installed already, which serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("otlp-export")
        .enable_all()
        .build()
        .map_err(InitError::Thread)?;
    let exporter = {
        let _entered = runtime.enter();
        let exporter = SpanExporter::builder().with_tonic();
        match endpoint() {
            Some(endpoint) if !endpoint.starts_with("http://") => {
                exporter.with_tls_config(collector_tls()?).build()?
            }
            Some(_) | None => exporter.build()?,
        }
    };
    Ok((builder.with_batch_exporter(exporter).build(), Some(runtime)))
}

/// Trusts the authority that the environment names, else those of the system.
fn collector_tls() -> Result<ClientTlsConfig, InitError> {
    let path = variable("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE")
        .or_else(|| variable("OTEL_EXPORTER_OTLP_CERTIFICATE"));
    let Some(path) = path else {
        return Ok(ClientTlsConfig::new().with_enabled_roots());
    };
    let pem = std::fs::read(&path).map_err(|source| InitError::Certificate { path, source })?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
}

/// The standard resource, with `service` as the name only if the environment gives none.
fn resource(service: &str) -> Resource {
    const SERVICE_NAME: &str = "service.name";
    let detected = Resource::builder().build();
    let named_by_environment = detected
        .get(&Key::from_static_str(SERVICE_NAME))
        .is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let name = (!named_by_environment).then(|| KeyValue::new(SERVICE_NAME, service.to_owned()));
    Resource::builder()
        .with_attributes([KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))])
        .with_detectors(&[Box::new(
            opentelemetry_sdk::resource::EnvResourceDetector::new(),
        )])
        .with_attributes(name)
        .build()
}

fn wants_export() -> bool {
    let is_off = variable("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter == "none");
    endpoint().is_some() && !is_off
}

fn endpoint() -> Option<String> {
    variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"))
}

fn check_protocol() -> Result<(), InitError> {
    for variable_name in [
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ] {
        match variable(variable_name) {
            None => {}
            Some(value) if value == "grpc" => return Ok(()),
            Some(value) => {
                return Err(InitError::Protocol {
                    variable: variable_name,
                    value,
                });
            }
        }
    }
    Ok(())
}

/// A variable of the environment; an empty one counts as unset, as the specification demands.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_true(name: &str) -> bool {
    variable(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}
