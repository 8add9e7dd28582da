//! Server-sent events (WHATWG HTML, section 9.2): what changed, for pages and programs that watch.

use super::{Asked, Failures};
use crate::access::Who;
use crate::app::{App, now};
use crate::events::News;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::stream::{self, Stream, StreamExt as _};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// No stream is longer, and none longer than its token is good: whoever still may comes back by themselves.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What changed from now on, or since `Last-Event-ID`. Each event is named by what it is about (`host`, `rollout`,
/// `policy`, `plan`, `feed`, `cycle`, `emergency`, `operator`, `recall`, `report`, `delivery`) and carries its id; `reset` says that too much was missed: look at everything.
#[utoipa::path(
    get, path = "/events", tag = "server",
    params(("last-event-id" = Option<u64>, Header, description = "The last event that was seen")),
    responses((status = 200, content_type = "text/event-stream", body = String), Failures)
)]
pub(super) async fn events(
    app: Asked,
    who: Who,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    stream(&app, &who, last_seen(&headers))
}

/// The last event that who comes back has seen.
pub(crate) fn last_seen(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id").and_then(|v| v.to_str().ok()?.parse().ok())
}

/// The stream, for API and pages.
pub(crate) fn stream(
    app: &Arc<App>,
    who: &Who,
    last: Option<u64>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let (missed, receiver) = app.events.listen(last);
    let reset = || Event::default().event("reset").data("{}");
    let first: Vec<Event> = match missed {
        Some(missed) => missed.iter().map(event).collect(),
        None => vec![reset()],
    };
    let mut stopped = app.stopped.clone();
    let mut revoked = app.revoked.subscribe();
    let left = who.until.and_then(|until| Duration::try_from(until.duration_since(now())).ok());
    let news = stream::unfold(receiver, move |mut receiver| async move {
        let event = match receiver.recv().await {
            Ok(news) => event(&news),
            Err(RecvError::Lagged(_)) => reset(),
            Err(RecvError::Closed) => return None,
        };
        Some((event, receiver))
    });
    let news = stream::iter(first).chain(news).map(Ok);
    // A stream without an end would hold up the server's stop, and outlive the right to it.
    let end = async move {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            _ = revoked.changed() => {}
            () = tokio::time::sleep(left.unwrap_or(LONGEST).min(LONGEST)) => {}
        }
    };
    Sse::new(news.take_until(end)).keep_alive(KeepAlive::default())
}

fn event(news: &News) -> Event {
    let data = serde_json::json!({ "kind": news.kind, "subject": news.subject });
    Event::default().id(news.id.to_string()).event(news.kind).data(data.to_string())
}
