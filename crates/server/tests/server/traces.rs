//! What whoever traces the server sees of it.

use crate::fleet::{Lab, finished, start};
use crate::watched::{failing, set};
use fettle_core::feed::FeedSource;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// Spans as they began, within which, and their fields: `judge in check-in`, `check-in: host`.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeSet<String>>>);

impl Seen {
    fn note(&self, what: String) {
        self.0.lock().unwrap().insert(what);
    }

    fn has(&self, what: &str) -> bool {
        self.0.lock().unwrap().contains(what)
    }
}

struct Told<'a>(&'a Seen, &'static str);

impl Visit for Told<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.note(format!("{}: {}", self.1, field.name()));
        self.0.note(format!("{}: {}={value:?}", self.1, field.name()));
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Seen {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let it = context.span(id).unwrap();
        if attributes.metadata().target() != "fettle::trace" {
            return;
        }
        self.note(it.name().to_owned());
        if let Some(parent) = it.parent() {
            self.note(format!("{} in {}", it.name(), parent.name()));
        }
        attributes.record(&mut Told(self, it.name()));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let name = context.span(id).unwrap().name();
        values.record(&mut Told(self, name));
    }
}

#[test]
fn who_traces_the_server_sees_check_ins_judgements_plans_decisions_and_feeds() {
    let seen = Seen::default();
    let listening = tracing_subscriber::registry().with(seen.clone());
    tracing::subscriber::set_global_default(listening).unwrap();
    let lab = Lab::furnished();
    let mut agents = vec![lab.host("canary-1", "canary"), lab.host("web-1", "broad")];
    start(&lab);
    finished(&lab, &mut agents);
    for what in [
        "check-in",
        "check-in: host",
        "judge in check-in",
        "judge-fleet: hosts",
        "plan: policy",
        "decide: rollout",
        "decide: events",
    ] {
        assert!(seen.has(what), "{what}: {:?}", seen.0);
    }
    // Nobody is there who would give it.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    set(&lab, "kev", &FeedSource::at(format!("http://{gone}/kev.json")));
    failing(&lab, "kev");
    assert!(seen.has("sync-feed: feed=\"kev\""), "{:?}", seen.0);
    assert!(seen.has("sync-feed: error=\"feed-not-fetched\""), "{:?}", seen.0);
    // What goes wrong says how.
    let mut said = agents[0].says(false);
    said.generation = u64::MAX;
    agents[0].call::<serde_json::Value>(&lab, "checkin", &said).unwrap_err();
    assert!(seen.has("check-in: error=\"generation-leap\""), "{:?}", seen.0);
}
