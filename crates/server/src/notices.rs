//! What people are told as soon as it happens: a rollout that halts, is aborted or done, a host that needs one of them.
//!
//! A notice is put into the queue of webhooks in the very transaction that writes down what it tells of: it is sent once,
//! also by a server that is killed in between, and a receiver that hangs holds nobody up.

use crate::app::App;
use crate::backup;
use fettle_core::rollout::{HostRun, HostState, Rollout, RolloutEvent};
use fettle_core::transaction::Outcome;
use fettle_core::{Digest, HostId, Problem, Timestamp};
use fettle_store::deliveries::{self, Message};
use fettle_store::{Tx, hosts};
use serde_json::{Value, json};
use std::str::FromStr;

/// Longest text that is sent, in characters: chat tools cut, or refuse, what is longer.
const MAX_TEXT: usize = 1800;

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// How it wants to be told.
    pub shape: Shape,
    /// Where it is.
    pub url: String,
}

/// How a message looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A program's: type, time and data.
    Plain,
    /// Slack.
    Slack,
    /// Mattermost, Rocket.Chat.
    Mattermost,
    /// Microsoft Teams, by a workflow.
    Teams,
    /// Discord.
    Discord,
}

impl Shape {
    const CHATS: [(&str, Self); 4] = [
        ("slack", Self::Slack),
        ("mattermost", Self::Mattermost),
        ("teams", Self::Teams),
        ("discord", Self::Discord),
    ];
}

/// Why somebody cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecipient {
    /// No chat tool that is known.
    #[error(
        "`{0}` is no chat tool that is known: write slack, mattermost, teams or discord, or only the address"
    )]
    Chat(String),
    /// Not an address of the web.
    #[error(
        "the address must begin with https:// or http://, as in slack+https://chat.example.net/hooks/x"
    )]
    Scheme,
    /// Nobody is named.
    #[error("the address names no host")]
    Host,
    /// White space or worse.
    #[error("the address holds white space")]
    Space,
}

impl FromStr for Recipient {
    type Err = BadRecipient;

    /// `https://…`, or with a chat tool before it: `slack+https://…`.
    fn from_str(text: &str) -> Result<Self, BadRecipient> {
        let (shape, url) = match text.split_once('+') {
            Some((word, url)) if !word.contains(':') => {
                let known = Shape::CHATS.iter().find(|(chat, _)| *chat == word);
                (known.ok_or_else(|| BadRecipient::Chat(word.to_owned()))?.1, url)
            }
            _ => (Shape::Plain, text),
        };
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let authority = rest.ok_or(BadRecipient::Scheme)?.split(['/', '?']).next();
        if authority.is_none_or(|name| name.is_empty() || name.starts_with(':')) {
            return Err(BadRecipient::Host);
        }
        if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(BadRecipient::Space);
        }
        Ok(Self { shape, url: url.to_owned() })
    }
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq)]
struct Notice {
    kind: &'static str,
    subject: String,
    text: String,
    data: Value,
}

/// What an event of a rollout tells people; most tell nothing that cannot wait for whoever looks.
fn of(state: &Rollout, event: &RolloutEvent) -> Option<Notice> {
    let (id, policy) = (&state.id, &state.plan.policy);
    let counts: Vec<String> =
        state.counts().into_iter().map(|(word, n)| format!("{n} {word}")).collect();
    let counts = counts.join(", ");
    let name = |host: &HostId| {
        state.plan.hosts.get(host).map_or_else(|| host.to_string(), |it| it.name.clone())
    };
    let about = |kind, what: String, more: Value| {
        let mut data = json!({ "rollout": id, "policy": policy, "plan": state.plan.number, "hosts": state.counts() });
        if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
            data.extend(more);
        }
        let text = format!("Rollout {id} of policy {policy} {what} ({counts}).");
        Some(Notice { kind, subject: id.to_string(), text, data })
    };
    match event {
        RolloutEvent::Halted { hold, .. } => {
            let mut more = json!({ "code": hold.code(), "reason": hold.to_string() });
            let mut what = format!("is halted: {hold}");
            // Why is what whoever is woken asks first.
            if let Some((host, why)) = state.hosts.iter().find_map(|(h, run)| Some((h, why(run)?)))
            {
                what += &format!("; {}: {why}", name(host));
                more["host"] = json!({ "id": host, "name": name(host), "reason": why });
            }
            about("rollout.halted", what, more)
        }
        RolloutEvent::Aborted { by, reason } => {
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            let more = json!({ "by": by, "reason": reason });
            about("rollout.aborted", format!("was aborted by {by}{why}"), more)
        }
        RolloutEvent::Done => about("rollout.done", "is done".to_owned(), json!({})),
        RolloutEvent::Ended { host, outcome: Outcome::Quarantined { reason } } => {
            let name = name(host);
            let text = format!(
                "Host {name} is in quarantine and needs a person: {reason} (rollout {id})."
            );
            let data = json!({ "host": host, "name": name, "rollout": id, "reason": reason });
            Some(Notice { kind: "host.quarantined", subject: name, text, data })
        }
        _ => None,
    }
}

/// Why a host went wrong; `None`: it did not.
fn why(run: &HostRun) -> Option<&str> {
    match &run.state {
        HostState::Undone { reason }
        | HostState::Refused { reason, .. }
        | HostState::Quarantined { reason } => Some(reason),
        _ => None,
    }
}

/// Without what a chat tool would take for more than text: whoever names a host calls nobody by that.
fn tame(text: &str, shape: Shape) -> String {
    let text: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect();
    match shape {
        Shape::Slack => text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
        // A space without width after it: nobody is called so.
        Shape::Mattermost => text.replace('@', "@\u{200b}"),
        Shape::Plain | Shape::Teams | Shape::Discord => text,
    }
}

/// What is sent.
fn body(it: &Notice, shape: Shape, at: Timestamp) -> Value {
    let text = tame(&it.text, shape);
    match shape {
        Shape::Plain => {
            let mut data = it.data.clone();
            data["text"] = json!(text);
            json!({ "type": it.kind, "timestamp": at, "data": data })
        }
        Shape::Slack | Shape::Mattermost => json!({ "text": text }),
        Shape::Discord => json!({ "content": text, "allowed_mentions": { "parse": [] } }),
        Shape::Teams => json!({ "type": "message", "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": { "type": "AdaptiveCard", "version": "1.4",
                         "body": [{ "type": "TextBlock", "text": text, "wrap": true }] },
        }] }),
    }
}

/// Puts into the queue what these events, which have led to this state, tell people. Whoever commits wakes the loop that
/// sends.
pub(crate) fn queue(
    app: &App,
    tx: &mut Tx<'_>,
    state: &Rollout,
    events: &[RolloutEvent],
) -> Result<(), Problem> {
    if app.options.notify.is_empty() {
        return Ok(());
    }
    let notices: Vec<Notice> = events.iter().filter_map(|event| of(state, event)).collect();
    send(app, tx, &notices, &format!("{}/{}", state.id, state.version))
}

/// Puts into the queue that a host has just been marked by itself, without a rollout: a person must come. Whoever commits
/// wakes the loop that sends.
pub(crate) fn marked(
    app: &App,
    tx: &mut Tx<'_>,
    host: &HostId,
    reason: &str,
) -> Result<(), Problem> {
    if app.options.notify.is_empty() {
        return Ok(());
    }
    let name = hosts::get(tx, host)?.map_or_else(|| host.to_string(), |it| it.host.name);
    let text = format!("Host {name} is in quarantine and needs a person: {reason}.");
    let data = json!({ "host": host, "name": name, "reason": reason });
    let it = Notice { kind: "host.quarantined", subject: name, text, data };
    let at = tx.now();
    // Released and marked again is another thing to tell.
    send(app, tx, &[it], &format!("{host}/{at}"))
}

/// Puts these into the queue for everybody. `moment` names when they became so: the same again is not sent twice.
fn send(app: &App, tx: &mut Tx<'_>, notices: &[Notice], moment: &str) -> Result<(), Problem> {
    // A server that comes from a backup speaks to nobody by itself, until it is let.
    if notices.is_empty() || backup::held(tx)?.is_some() {
        return Ok(());
    }
    for (n, to) in app.options.notify.iter().enumerate() {
        for it in notices {
            let of = format!("{}/{}/{moment}/{n}", it.kind, it.subject);
            let id = format!("msg_{}", &Digest::of(of.as_bytes()).to_string()[..32]);
            let body = body(it, to.shape, tx.now()).to_string();
            let (kind, subject) = (it.kind, it.subject.as_str());
            let message = Message { id: &id, kind, subject, url: &to.url, body: body.as_bytes() };
            deliveries::queue(tx, &message)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_is_an_address_with_or_without_a_chat_tool_before_it() {
        let read = |text: &str| text.parse::<Recipient>();
        let is = |shape, url: &str| Ok(Recipient { shape, url: url.to_owned() });
        assert_eq!(read("https://h.example/x+y"), is(Shape::Plain, "https://h.example/x+y"));
        assert_eq!(read("slack+https://h.example/x"), is(Shape::Slack, "https://h.example/x"));
        assert_eq!(read("teams+http://h.example"), is(Shape::Teams, "http://h.example"));
        assert_eq!(read("irc+https://h.example"), Err(BadRecipient::Chat("irc".to_owned())));
        assert_eq!(read("ftp://h.example"), Err(BadRecipient::Scheme));
        assert_eq!(read("slack+h.example"), Err(BadRecipient::Scheme));
        assert_eq!(read("https:///x"), Err(BadRecipient::Host));
        assert_eq!(read("https://h.example/a b"), Err(BadRecipient::Space));
    }

    #[test]
    fn whoever_names_a_host_calls_nobody_by_that() {
        let at = Timestamp::UNIX_EPOCH;
        let it = Notice {
            kind: "host.quarantined",
            subject: "x".to_owned(),
            text: "Host <!channel> @here\nneeds a person".to_owned(),
            data: json!({ "host": "x" }),
        };
        let text = |shape| body(&it, shape, at);
        assert_eq!(text(Shape::Slack)["text"], "Host &lt;!channel&gt; @here needs a person");
        assert_eq!(text(Shape::Mattermost)["text"], "Host <!channel> @\u{200b}here needs a person");
        assert_eq!(text(Shape::Discord)["allowed_mentions"]["parse"], json!([]));
        let card = &text(Shape::Teams)["attachments"][0]["content"]["body"][0];
        assert_eq!(card["text"], "Host <!channel> @here needs a person");
        let plain = text(Shape::Plain);
        assert_eq!((&plain["type"], &plain["data"]["host"]), (&json!(it.kind), &json!("x")));
    }
}
