//! What is sent to programs of the operator's: signed, tried again when nobody takes it, and kept when nobody ever did.
//!
//! Signed as Standard Webhooks 1.0.0 has it: `webhook-id`, `webhook-timestamp` and
//! `webhook-signature: v1,BASE64(HMAC-SHA256(secret, "ID.TIMESTAMP.BODY"))`, so that any of its libraries verifies it.
//! Between two tries it waits as that specification proposes. A message is a row of the store from before its first try
//! until somebody took it: a server that is killed sends it again, under the same id.

use crate::app::{App, now};
use crate::gates::call::call;
use crate::tasks::complain;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use fettle_core::{Hold, Problem, Timestamp};
use fettle_store::deliveries::{self, Delivery};
use fettle_store::{StoreError, View};
use fettle_wire::api::DeliveryRow;
use ring::hmac;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// The queue is looked at so often even if nothing wakes the loop.
const LOOK: Duration = Duration::from_secs(30);
/// Sent at once. A receiver that hangs keeps what comes after these waiting for as long as one call may take, and nothing
/// else.
const AT_ONCE: u32 = 8;
/// `410 Gone`: the receiver wants no more of it.
const GONE: u16 = 410;
/// Longest answer that is kept of a receiver that did not take it, in characters.
const MAX_SAID: usize = 200;

/// The headers of a message.
pub(crate) fn headers(
    secret: &[u8],
    id: &str,
    at: Timestamp,
    body: &[u8],
) -> [(&'static str, String); 3] {
    let seconds = at.as_second();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, &[format!("{id}.{seconds}.").as_bytes(), body].concat());
    [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", format!("v1,{}", BASE64.encode(tag))),
    ]
}

/// Sends what is due, as long as the server runs.
pub(crate) async fn deliver(app: Arc<App>) -> Infallible {
    loop {
        if let Err(problem) = round(&app).await {
            complain("webhooks are not sent to", &problem);
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let next =
            app.blocking(|app| app.store.read::<_, Problem>(|v| Ok(deliveries::next_at(v)?)));
        let wait = match next.await {
            Ok(Some(at)) => Duration::try_from(at.duration_since(now())).unwrap_or_default(),
            _ => LOOK,
        };
        tokio::select! {
            () = tokio::time::sleep(wait.clamp(Duration::from_millis(20), LOOK)) => {}
            () = app.deliver.notified() => {}
        }
    }
}

async fn round(app: &Arc<App>) -> Result<(), Problem> {
    let due = app
        .blocking(|app| app.store.read::<_, Problem>(|v| Ok(deliveries::due(v, now(), AT_ONCE)?)))
        .await?;
    let mut sent = JoinSet::new();
    for (it, body) in due {
        // Not in the lane of requests: a receiver that hangs is nobody's but its own.
        let app = app.clone();
        sent.spawn_blocking(move || {
            let said = send(&app, &it, &body);
            note(&app, &it, said)
        });
    }
    while let Some(noted) = sent.join_next().await {
        if let Ok(Err(problem)) = noted {
            complain("what came of a webhook is not written down", &problem);
        }
    }
    Ok(())
}

enum Said {
    Taken,
    Failed(String),
    Gone(String),
}

fn send(app: &App, it: &Delivery, body: &[u8]) -> Said {
    let headers = headers(&app.trust.webhook_secret, &it.id, now(), body);
    match call(&it.url, &headers, Some(body)) {
        Ok(reply) if (200..300).contains(&reply.status) => Said::Taken,
        Ok(reply) => {
            let text = String::from_utf8_lossy(&reply.body);
            let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect();
            let said = format!("status {}: {text}", reply.status);
            let said = said.trim_end_matches(": ").to_owned();
            if reply.status == GONE { Said::Gone(said) } else { Said::Failed(said) }
        }
        Err(why) => Said::Failed(why),
    }
}

fn note(app: &App, it: &Delivery, said: Said) -> Result<(), Problem> {
    let at = now();
    app.store.write::<_, Problem>("server", at, |tx| {
        match &said {
            Said::Taken => deliveries::arrived(tx, it)?,
            Said::Gone(why) => deliveries::failed(tx, it, why, None)?,
            Said::Failed(why) => {
                let wait = app.options.webhook_retries.get(it.tries as usize);
                let again = wait.map(|wait| at.saturating_add(*wait).unwrap_or(Timestamp::MAX));
                deliveries::failed(tx, it, why, again)?;
            }
        }
        Ok(())
    })?;
    if let Said::Failed(why) | Said::Gone(why) = said {
        tracing::warn!(
            delivery = it.id,
            to = shown(&it.url),
            tries = it.tries + 1,
            "not delivered: {why}"
        );
    }
    app.events.tell("delivery", &it.id);
    Ok(())
}

/// An address as lists may show it: the path of a webhook is often a secret.
pub(crate) fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let more = if rest.len() > authority.len() + 1 { "/…" } else { "" };
    format!("{scheme}://{authority}{more}")
}

/// What a delivery waits for.
pub(crate) fn hold(it: &Delivery) -> Hold {
    Hold::NotDelivered {
        delivery: it.id.clone(),
        to: shown(&it.url),
        tries: it.tries,
        why: it.error.clone().unwrap_or_default(),
        again_at: it.next_at,
    }
}

/// All that has not arrived.
pub(crate) fn rows(view: &View<'_>) -> Result<Vec<DeliveryRow>, Problem> {
    Ok(deliveries::all(view)?.iter().map(row).collect())
}

fn row(it: &Delivery) -> DeliveryRow {
    DeliveryRow {
        id: it.id.clone(),
        kind: it.kind.clone(),
        subject: it.subject.clone(),
        to: shown(&it.url),
        bytes: it.bytes,
        made_at: it.made_at,
        tries: it.tries,
        next_at: it.next_at,
        dead_at: it.dead_at,
        error: it.error.clone(),
    }
}

/// A person has it sent again.
pub(crate) fn resend(app: &App, actor: &str, id: &str) -> Result<DeliveryRow, Problem> {
    let row = app.store.write::<_, Problem>(actor, now(), |tx| {
        deliveries::resend(tx, id)?;
        let it = deliveries::get(tx, id)?;
        let missing = || StoreError::Missing { what: "undelivered message", name: id.to_owned() };
        Ok(row(&it.ok_or_else(missing)?))
    })?;
    app.deliver.notify_one();
    app.events.tell("delivery", id);
    Ok(row)
}

/// A person lets it go.
pub(crate) fn drop_it(app: &App, actor: &str, id: &str) -> Result<(), Problem> {
    app.store.write::<_, Problem>(actor, now(), |tx| Ok(deliveries::drop_it(tx, id)?))?;
    app.events.tell("delivery", id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example of Standard Webhooks' own libraries.
        let secret = BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let at = Timestamp::from_second(1_614_265_330).unwrap();
        let body = br#"{"test": 2432232314}"#;
        let [id, time, signature] = headers(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body);
        assert_eq!(id, ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned()));
        assert_eq!(time, ("webhook-timestamp", "1614265330".to_owned()));
        assert_eq!(signature.1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_path_of_a_webhook_is_not_shown() {
        for (url, seen) in [
            ("https://chat.example.org/hooks/s3cr3t", "https://chat.example.org/…"),
            ("https://chat.example.org:8443?key=1", "https://chat.example.org:8443/…"),
            ("http://127.0.0.1:80/", "http://127.0.0.1:80"),
            ("http://[::1]:80", "http://[::1]:80"),
        ] {
            assert_eq!(shown(url), seen);
        }
    }
}
