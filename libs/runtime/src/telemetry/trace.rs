//! W3C trace context: which trace a call belongs to, and which step of it the call is.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::SpanContext;

pub(super) const PARENT: HeaderName = HeaderName::from_static("traceparent");

tokio::task_local! {
    /// The step that is the call being served.
    pub(crate) static TRACE: Trace;
}

/// A step of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace {
    trace: u128,
    span: u64,
    flags: u8,
}

impl Trace {
    /// The next step in the trace of these headers, or the first of a new one.
    pub(super) fn next(headers: &HeaderMap) -> Self {
        let sent = headers.get(PARENT).and_then(|value| value.to_str().ok()).and_then(parse);
        let (trace, flags) = sent.unwrap_or_else(|| (rand::random_range(1..=u128::MAX), 1));
        Self { trace, span: rand::random_range(1..=u64::MAX), flags }
    }

    pub(super) fn exported(context: &SpanContext) -> Self {
        let (trace, span) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
        Self { trace: u128::from_be_bytes(trace), span: u64::from_be_bytes(span), flags: context.trace_flags().to_u8() }
    }

    /// 32 hexadecimal digits.
    pub(crate) fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// 16 hexadecimal digits.
    pub(crate) fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    /// As `traceparent`.
    pub(super) fn text(self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }

    /// Writes it into the headers of a call made for this one.
    pub(super) fn write(self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.text()) {
            headers.insert(PARENT, value);
        }
    }
}

/// Trace and flags.
///
/// Source: W3C Trace Context, "traceparent Header".
pub(super) fn parse(text: &str) -> Option<(u128, u8)> {
    let digits = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if (version.len(), trace.len(), span.len(), flags.len()) != (2, 32, 16, 2) || ![version, trace, span, flags].into_iter().all(digits) {
        return None;
    }
    // A later version may have more parts; this one has not.
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
    (trace != 0 && span != 0).then_some((trace, u8::from_str_radix(flags, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_in_a_step_of_its_own() {
        let mut headers = HeaderMap::new();
        headers.insert(PARENT, HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"));
        let step = Trace::next(&headers);
        assert_eq!(step.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_ne!(step.span_id(), "b7ad6b7169203331");
        step.write(&mut headers);
        assert_eq!(headers.get(PARENT).unwrap().to_str().unwrap(), format!("00-0af7651916cd43dd8448eb211c80319c-{}-00", step.span_id()));
        assert_ne!(Trace::next(&HeaderMap::new()).trace_id(), Trace::next(&HeaderMap::new()).trace_id());
    }

    #[test]
    fn what_is_not_a_trace_context_is_no_trace() {
        for bad in [
            "",
            "00-0-0-0",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert!(parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more").is_some());
    }
}
