//! Logs, traces and trace context.
//!
//! [`init`] sends logs to standard error and, if the standard OpenTelemetry variables name a collector, spans to it over
//! OTLP/gRPC. Spans have W3C trace ids either way, so [`current_traceparent`] can be stored with an event and
//! [`set_parent`] can continue the trace in another process, hours later.

mod grpc;
mod setup;
mod traceparent;

pub use grpc::{TraceContext, server_span, traceparent_of};
pub use setup::{Guard, InitError, TelemetryConfig, init};
pub use traceparent::{current_traceparent, set_parent, with_parent};
