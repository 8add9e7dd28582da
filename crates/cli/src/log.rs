//! The server's log: lines for people, or one JSON object a line (RFC 8259) for what collects logs.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line: `time`, `level`, `target`, `message`, `fields`, `spans`.
    Json,
}

/// What writes the log so.
pub(crate) fn layer<S, W>(format: LogFormat, to: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(to);
    match format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.event_format(JsonLines).boxed(),
    }
}

struct JsonLines;

#[derive(Serialize)]
struct Line<'a> {
    /// RFC 3339, in UTC.
    time: String,
    level: String,
    target: &'a str,
    message: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    fields: Map<String, Value>,
    /// Within what it happened, the outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    spans: Vec<&'static str>,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let about = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let scope = context.event_scope().into_iter().flat_map(|scope| scope.from_root());
        let line = Line {
            time: jiff::Timestamp::now().to_string(),
            level: about.level().as_str().to_ascii_lowercase(),
            target: about.target(),
            message: fields.message,
            fields: fields.others,
            spans: scope.map(|span| span.name()).collect(),
        };
        writeln!(writer, "{}", serde_json::to_string(&line).map_err(|_| fmt::Error)?)
    }
}

/// What an event says: its message, and everything else by name.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn take(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value.into());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt as _;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, happens: impl FnOnce()) -> String {
        let kept = Kept::default();
        let to = kept.clone();
        let log = tracing_subscriber::registry().with(layer(format, move || to.clone()));
        tracing::subscriber::with_default(log, happens);
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_json_line_is_one_object_whatever_is_written_into_it() {
        let said = logged(LogFormat::Json, || {
            let _within = tracing::info_span!("check-in").entered();
            tracing::warn!(host = %"web-1\n\"x\"", tries = 3_u64, late = true, "it is\nlate");
            tracing::info!("nothing else");
        });
        let lines: Vec<Value> = said.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{said}");
        let first = &lines[0];
        assert_eq!((&first["level"], &first["message"]), (&"warn".into(), &"it is\nlate".into()));
        let fields = serde_json::json!({ "host": "web-1\n\"x\"", "tries": 3, "late": true });
        assert_eq!(first["fields"], fields);
        assert_eq!(first["spans"], serde_json::json!(["check-in"]));
        let time: jiff::Timestamp = first["time"].as_str().unwrap().parse().unwrap();
        assert!(time <= jiff::Timestamp::now());
        assert!(lines[1].get("fields").is_none(), "{said}");
        let text = logged(LogFormat::Text, || tracing::info!("for people"));
        assert!(text.contains("for people") && !text.starts_with('{'), "{text}");
    }
}
