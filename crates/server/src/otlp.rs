//! Traces for others: each [span](crate::spans) that has ended is sent to a receiver of OpenTelemetry's, by OTLP over HTTP with
//! JSON (OTLP 1.x, "JSON Protobuf Encoding").
//!
//! It is little of that protocol, and written here rather than brought in with the dozen crates of its SDK. Whoever works
//! never waits for the receiver: a span is put into a queue that has an end, a thread of its own takes it from there, and
//! what the receiver does not take is counted, told once, and forgotten.

use crate::gates::call_within;
use crate::spans::TARGET;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Map, Value, json};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Where traces go: the address of a receiver, without the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let is_sound = |rest: &str| {
            !rest.is_empty()
                && !rest.starts_with(['/', ':', '?'])
                && !rest.chars().any(|c| c.is_whitespace() || c.is_control())
        };
        match rest {
            Some(rest) if is_sound(rest) => Ok(Self(text.trim_end_matches('/').to_owned())),
            _ => Err("write the address of a receiver of OTLP over HTTP: http://127.0.0.1:4318"),
        }
    }
}

/// How much waits, and for how long.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Spans that wait to be sent. Of more, the newest are forgotten.
    waiting: usize,
    /// Spans that are sent at once.
    at_once: usize,
    /// For how long spans are gathered before they are sent.
    gathered: Duration,
    /// For how long the receiver may take over it.
    patience: Duration,
}

const PACE: Pace = Pace {
    waiting: 4096,
    at_once: 512,
    gathered: Duration::from_secs(1),
    patience: Duration::from_secs(5),
};

/// What is put into the queue.
enum Said {
    /// A span that has ended, as it is sent.
    Span(Value),
    /// Everything before it is to be sent now; whoever asked is told then.
    Now(SyncSender<()>),
}

/// Sends what is told of, beside whoever works.
#[derive(Debug)]
pub struct Sending {
    queue: SyncSender<Said>,
    lost: Arc<AtomicU64>,
}

impl Sending {
    /// Sends what still waits, for at most so long: at the end of the program.
    pub fn flush(&self, within: Duration) {
        let (told, done) = sync_channel(1);
        if self.queue.try_send(Said::Now(told)).is_ok() {
            let _ = done.recv_timeout(within);
        }
    }

    /// Spans that nobody took, since the start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// What listens to spans and has them sent to this receiver.
pub fn traces<S>(to: &Address) -> (impl Layer<S> + use<S>, Sending)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    traces_at(to, PACE)
}

fn traces_at<S>(to: &Address, pace: Pace) -> (impl Layer<S> + use<S>, Sending)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let (queue, said) = sync_channel(pace.waiting);
    let lost = Arc::new(AtomicU64::new(0));
    let (url, missed) = (format!("{}/v1/traces", to.0), lost.clone());
    // Ends with the last who could put something into the queue.
    std::thread::spawn(move || carry(&said, &url, pace, &missed));
    let layer = Traces { queue: queue.clone(), lost: lost.clone(), random: SystemRandom::new() };
    let is_meant = |of: &Metadata<'_>| of.is_span() && of.target() == TARGET;
    (layer.with_filter(filter_fn(is_meant)), Sending { queue, lost })
}

/// Gathers what was said and sends it, for as long as somebody could say more.
fn carry(said: &Receiver<Said>, url: &str, pace: Pace, lost: &AtomicU64) {
    let mut fails = false;
    let mut is_over = false;
    while !is_over {
        let (mut batch, mut asked, mut until) = (Vec::new(), None, None);
        while batch.len() < pace.at_once && asked.is_none() {
            // The first is waited for as long as it takes, the others for a while.
            let next = match until {
                None => said.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => said.recv_timeout(Instant::duration_since(&until, Instant::now())),
            };
            until = until.or_else(|| Instant::now().checked_add(pace.gathered));
            match next {
                Ok(Said::Span(span)) => batch.push(span),
                Ok(Said::Now(told)) => asked = Some(told),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    is_over = true;
                    break;
                }
            }
        }
        let many = batch.len();
        match sent(url, batch, pace.patience) {
            Ok(()) => fails = false,
            Err(why) => {
                lost.fetch_add(many as u64, Ordering::Relaxed);
                // Once, however long it lasts.
                if !std::mem::replace(&mut fails, true) {
                    tracing::warn!(
                        "the receiver of traces does not take them, and they are forgotten until it does: {why}"
                    );
                }
            }
        }
        if let Some(told) = asked {
            let _ = told.try_send(());
        }
    }
}

fn sent(url: &str, batch: Vec<Value>, patience: Duration) -> Result<(), String> {
    if batch.is_empty() {
        return Ok(());
    }
    let about = [("service.name", "fettle-server"), ("service.version", env!("CARGO_PKG_VERSION"))];
    let about = about.map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}));
    let whole = json!({"resourceSpans": [{
        "resource": {"attributes": about},
        "scopeSpans": [{"scope": {"name": "fettle"}, "spans": batch}],
    }]});
    let reply = call_within(url, &[], Some(whole.to_string().as_bytes()), patience)?;
    match reply.status {
        200..=299 => Ok(()),
        status => Err(format!("it answers {status}")),
    }
}

/// Listens to spans.
struct Traces {
    queue: SyncSender<Said>,
    lost: Arc<AtomicU64>,
    random: SystemRandom,
}

/// A span that has not ended.
struct Open {
    trace: [u8; 16],
    span: [u8; 8],
    parent: Option<[u8; 8]>,
    begun: SystemTime,
    fields: Fields,
}

impl Traces {
    /// Bytes that nobody else has. Where the system has none to give, all are zero, and the receiver says so.
    fn fresh<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        let _ = self.random.fill(&mut bytes);
        bytes
    }
}

impl<S> Layer<S> for Traces
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(it) = context.span(id) else { return };
        let parent =
            it.parent().and_then(|p| p.extensions().get::<Open>().map(|p| (p.trace, p.span)));
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        it.extensions_mut().insert(Open {
            trace: parent.map_or_else(|| self.fresh(), |(trace, _)| trace),
            span: self.fresh(),
            parent: parent.map(|(_, span)| span),
            begun: SystemTime::now(),
            fields,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(it) = context.span(id) else { return };
        if let Some(open) = it.extensions_mut().get_mut::<Open>() {
            values.record(&mut open.fields);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(it) = context.span(&id) else { return };
        let Some(open) = it.extensions_mut().remove::<Open>() else { return };
        if self.queue.try_send(Said::Span(open.written(it.name()))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn nanos(at: SystemTime) -> String {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()).to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Open {
    /// As it is sent; it has ended just now.
    fn written(self, name: &str) -> Value {
        let mut it = json!({
            "traceId": hex(&self.trace),
            "spanId": hex(&self.span),
            "name": name,
            // SPAN_KIND_INTERNAL.
            "kind": 1,
            "startTimeUnixNano": nanos(self.begun),
            "endTimeUnixNano": nanos(SystemTime::now()),
            "attributes": self.fields.told.into_iter()
                .map(|(key, value)| json!({"key": key, "value": value}))
                .collect::<Vec<_>>(),
        });
        if let Some(parent) = self.parent {
            it["parentSpanId"] = json!(hex(&parent));
        }
        if let Some(code) = self.fields.error {
            // STATUS_CODE_ERROR.
            it["status"] = json!({"code": 2, "message": code});
        }
        it
    }
}

/// What a span was told.
#[derive(Default)]
struct Fields {
    told: Map<String, Value>,
    error: Option<String>,
}

impl Fields {
    fn tell(&mut self, field: &Field, value: Value) {
        self.told.insert(format!("fettle.{}", field.name()), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "error" => self.error = Some(value.to_owned()),
            _ => self.tell(field, json!({"stringValue": value})),
        }
    }

    // Whole numbers are texts in OTLP's JSON: 64 bits are more than a number of JSON's holds.
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.tell(field, json!({"intValue": value.to_string()}));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.tell(field, json!({"intValue": value.to_string()}));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.tell(field, json!({"boolValue": value}));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.tell(field, json!({"doubleValue": value}));
    }
}

#[cfg(test)]
mod tests;
