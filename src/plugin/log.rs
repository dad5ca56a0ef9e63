//! Log lines for Terraform: one JSON object a line on standard error, in the form of HashiCorp's hclog.
//!
//! Only this crate's own events are written. Libraries below log what passes through them, and secrets do.

use std::fmt::Debug;
use std::io::Write;
use std::sync::Mutex;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::text;

/// Terraform reads lines of up to 64 KiB; one field may take this many bytes, and all of them twice as many.
const LONGEST_FIELD: usize = 24 * 1024;

/// Writes log lines to standard error from now on, as far as the environment asks for them.
///
/// `short_name` is the provider's, as in `TF_LOG_PROVIDER_<SHORT NAME>`. Without any variable nothing is written.
pub fn start(short_name: &str, variable: impl Fn(&str) -> Option<String>) {
    let level = level(short_name, variable);
    if level != LevelFilter::OFF {
        // Fails only if the process has a subscriber already, which is then the one to keep.
        let _ = tracing_subscriber::registry()
            .with(HclogLayer::new(level, std::io::stderr()))
            .try_init();
    }
}

/// The level that the environment asks for: the provider's own variable, all providers', or Terraform's.
fn level(short_name: &str, variable: impl Fn(&str) -> Option<String>) -> LevelFilter {
    let own = format!("TF_LOG_PROVIDER_{}", short_name.to_uppercase());
    [own.as_str(), "TF_LOG_PROVIDER", "TF_LOG"]
        .into_iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()))
        .map_or(LevelFilter::OFF, |value| {
            match value.to_uppercase().as_str() {
                "OFF" => LevelFilter::OFF,
                "ERROR" => LevelFilter::ERROR,
                "WARN" => LevelFilter::WARN,
                "INFO" => LevelFilter::INFO,
                "DEBUG" => LevelFilter::DEBUG,
                // Terraform takes everything else, such as JSON, for TRACE.
                _ => LevelFilter::TRACE,
            }
        })
}

/// A tracing layer that writes hclog's JSON.
struct HclogLayer<W> {
    level: LevelFilter,
    output: Mutex<W>,
}

impl<W> HclogLayer<W> {
    fn new(level: LevelFilter, output: W) -> Self {
        Self {
            level,
            output: Mutex::new(output),
        }
    }
}

/// What the name of our own modules starts with.
fn own_crate() -> &'static str {
    env!("CARGO_CRATE_NAME")
}

impl<S, W> Layer<S> for HclogLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + 'static,
{
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level && metadata.target().starts_with(own_crate())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Fields::default();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                for (name, value) in &fields.0 {
                    line.0.entry(name.as_str()).or_insert_with(|| value.clone());
                }
            }
        }
        event.record(&mut line);
        let line = render(line.0, *event.metadata().level(), event.metadata().target());
        if let Ok(mut output) = self.output.lock() {
            // There is nowhere to say that the log can't be written.
            let _ = output.write_all(line.as_bytes());
        }
    }
}

fn render(mut fields: Map<String, Value>, level: Level, target: &str) -> String {
    let message = fields.remove("message").unwrap_or_else(|| "".into());
    let mut room = 2 * LONGEST_FIELD;
    fields.retain(|_, value| {
        let length = value.as_str().map_or(32, str::len);
        let fits = length <= room;
        room = room.saturating_sub(length);
        fits
    });
    let now = OffsetDateTime::now_utc()
        .format(format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
        ))
        .unwrap_or_default();
    fields.insert("@level".into(), level.as_str().to_lowercase().into());
    fields.insert("@message".into(), message);
    fields.insert("@timestamp".into(), now.into());
    let module = target.strip_prefix(own_crate()).unwrap_or(target);
    let module = format!("provider{}", module.replace("::", "."));
    fields.insert("@module".into(), module.into());
    let mut line = Value::Object(fields).to_string();
    line.push('\n');
    line
}

/// The fields of a span or an event, by name.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn text(&mut self, field: &Field, text: String) {
        // Terraform writes messages as they are, and fields of several lines with a mark before each.
        let mut text = match field.name() {
            "message" => text::clean(&text).replace(['\n', '\t'], " "),
            _ => text::clean(&text),
        };
        if text.len() > LONGEST_FIELD {
            let end = (0..=LONGEST_FIELD)
                .rev()
                .find(|at| text.is_char_boundary(*at))
                .unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        self.0.insert(field.name().to_owned(), text.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A writer that remembers.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LevelFilter, act: impl FnOnce()) -> Vec<Value> {
        let memory = Memory::default();
        let subscriber = tracing_subscriber::registry().with(HclogLayer::new(level, memory.clone()));
        tracing::subscriber::with_default(subscriber, act);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_line_carries_what_its_spans_know() {
        let lines = logged(LevelFilter::DEBUG, || {
            let _rpc = tracing::info_span!("rpc", tf_rpc = "ReadResource", tf_req_id = 7).entered();
            tracing::info!(server = "a1", "connected");
            tracing::trace!("too fine");
        });
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["@message"], "connected");
        assert_eq!(lines[0]["@level"], "info");
        assert_eq!(lines[0]["@module"], "provider.plugin.log.tests");
        assert_eq!(lines[0]["tf_rpc"], "ReadResource");
        assert_eq!(lines[0]["tf_req_id"], 7);
        assert_eq!(lines[0]["server"], "a1");
        assert_eq!(lines[0]["@timestamp"].as_str().map(str::len), Some(27));
    }

    #[test]
    fn other_crates_are_not_heard() {
        let lines = logged(LevelFilter::TRACE, || {
            tracing::error!(target: "h2::codec", "a frame");
        });
        assert_eq!(lines, Vec::<Value>::new());
    }

    #[test]
    fn a_line_is_text() {
        let lines = logged(LevelFilter::TRACE, || {
            let said = "a\u{1b}[2K\r\nb\u{202e}c";
            tracing::info!(said, "it said {said}");
        });
        assert_eq!(lines[0]["@message"], "it said a\u{fffd}[2K\u{fffd} b\u{fffd}c");
        assert_eq!(lines[0]["said"], "a\u{fffd}[2K\u{fffd}\nb\u{fffd}c");
    }

    #[test]
    fn a_long_line_is_cut() {
        let long = "ä".repeat(100_000);
        let lines = logged(LevelFilter::TRACE, || {
            tracing::info!(
                one = long.as_str(),
                two = long.as_str(),
                three = long.as_str(),
                "{long}"
            );
        });
        assert!(lines[0].to_string().len() < 64 * 1024);
    }

    #[test]
    fn the_most_specific_variable_decides() {
        let of = |variables: &[(&str, &str)]| {
            level("thing", |name| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(of(&[]), LevelFilter::OFF);
        assert_eq!(of(&[("TF_LOG", "JSON")]), LevelFilter::TRACE);
        assert_eq!(
            of(&[("TF_LOG", "trace"), ("TF_LOG_PROVIDER", "warn")]),
            LevelFilter::WARN
        );
        assert_eq!(
            of(&[("TF_LOG_PROVIDER", "trace"), ("TF_LOG_PROVIDER_THING", "off")]),
            LevelFilter::OFF
        );
    }
}
