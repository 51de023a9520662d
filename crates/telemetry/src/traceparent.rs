//! W3C trace context (`traceparent`, version 00) of `tracing` spans.

use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The name of the header that carries the ids.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The `traceparent` of the current span, to be sent or stored; `None` outside of any span, or if the SDK is disabled.
pub fn current_traceparent() -> Option<String> {
    render(Span::current().context().span().span_context())
}

/// Makes `traceparent` the remote parent of `span`, which must not have been entered yet. Answers whether it did: not
/// without one, with a malformed one (which is ignored, as W3C demands), or with a span that nobody records.
pub fn set_parent(span: &Span, traceparent: Option<&str>) -> bool {
    traceparent
        .and_then(remote_context)
        .is_some_and(|context| span.set_parent(context).is_ok())
}

/// As [`set_parent`], for use where the span is made: `with_parent(Some(header), info_span!("step"))`.
pub fn with_parent(traceparent: Option<&str>, span: Span) -> Span {
    set_parent(&span, traceparent);
    span
}

fn render(span: &SpanContext) -> Option<String> {
    span.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            span.trace_flags()
        )
    })
}

fn remote_context(traceparent: &str) -> Option<Context> {
    if !is_well_formed(traceparent) {
        return None;
    }
    let context =
        TraceContextPropagator::new().extract_with_context(&Context::new(), &One(traceparent));
    let is_valid = context.span().span_context().is_valid();
    is_valid.then_some(context)
}

/// Whether the fields have their lengths and alphabet (W3C Trace Context, 3.2); the SDK's own reader is laxer. Versions to
/// come may append fields.
fn is_well_formed(traceparent: &str) -> bool {
    const LENGTHS: [usize; 4] = [2, 32, 16, 2];
    let is_hex = |field: &str| {
        field
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let fields: Vec<&str> = traceparent.splitn(5, '-').collect();
    let fits = |(field, length): (&&str, usize)| field.len() == length && is_hex(field);
    fields.len() >= LENGTHS.len()
        && fields.iter().zip(LENGTHS).all(fits)
        && (fields.len() == LENGTHS.len() || fields.first() != Some(&"00"))
}

/// Headers that hold a `traceparent` only.
struct One<'a>(&'a str);

impl Extractor for One<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing::{info_span, subscriber::DefaultGuard};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn record() -> (SdkTracerProvider, DefaultGuard) {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        (provider, tracing::subscriber::set_default(subscriber))
    }

    fn parts(traceparent: &str) -> Vec<&str> {
        traceparent.split('-').collect()
    }

    #[test]
    fn a_trace_goes_on_in_a_span_made_from_its_traceparent() {
        let _recording = record();
        let sent = info_span!("sender").in_scope(current_traceparent).unwrap();
        let span = with_parent(Some(&sent), info_span!("receiver"));
        let received = span.in_scope(current_traceparent).unwrap();
        let (sent, received) = (parts(&sent), parts(&received));
        assert_eq!((sent[0], sent[3]), ("00", "01"));
        assert_eq!(sent[1], received[1], "the trace is the same");
        assert_ne!(sent[2], received[2], "the span is another");
    }

    #[test]
    fn ids_exist_without_any_exporter_and_only_within_a_span() {
        assert_eq!(current_traceparent(), None);
        let _recording = record();
        assert_eq!(current_traceparent(), None);
        let text = info_span!("step").in_scope(current_traceparent).unwrap();
        let lengths: Vec<usize> = parts(&text).into_iter().map(str::len).collect();
        assert_eq!(lengths, [2, 32, 16, 2]);
    }

    #[test]
    fn a_malformed_traceparent_starts_a_trace_of_its_own() {
        let _recording = record();
        let zero = format!("00-{}-{}-01", "0".repeat(32), "1".repeat(16));
        let long = format!("00-{}-{}-01-x", "a".repeat(32), "b".repeat(16));
        let upper = format!("00-{}-{}-01", "A".repeat(32), "b".repeat(16));
        for bad in [
            &long,
            &upper,
            "",
            "rubbish",
            "00-1-2-3",
            &zero,
            "ff-\u{fc}-x-01",
        ] {
            let span = info_span!("receiver");
            assert!(!set_parent(&span, Some(bad)), "{bad:?} was accepted");
            assert!(span.in_scope(current_traceparent).is_some());
        }
        assert!(!set_parent(&info_span!("receiver"), None));
    }

    #[test]
    fn an_unsampled_trace_stays_unsampled() {
        let _recording = record();
        let unsampled = format!("00-{}-{}-00", "a".repeat(32), "b".repeat(16));
        let span = with_parent(Some(&unsampled), info_span!("receiver"));
        let received = span.in_scope(current_traceparent);
        assert!(received.is_none_or(|text| text.ends_with("-00")));
    }
}
