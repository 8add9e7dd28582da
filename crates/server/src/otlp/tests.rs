//! Spans as a receiver gets them over real HTTP, and receivers that are none.

use super::*;
use crate::spans::{traced, within};
use fettle_core::{Problem, ProblemKind};
use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Sender, channel};
use tracing_subscriber::layer::SubscriberExt as _;

const SOON: Pace = Pace {
    waiting: 64,
    at_once: 16,
    gathered: Duration::from_millis(50),
    patience: Duration::from_secs(20),
};

/// A receiver that answers each call with the next of these statuses, and with the last from then on. `None`: it never answers.
/// What it is sent comes out of the other end.
fn receiver(answers: &'static [Option<u16>]) -> (Address, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (to, heard) = channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for (n, stream) in listener.incoming().flatten().enumerate() {
            let said = request(&mut BufReader::new(&stream), &to);
            match answers[n.min(answers.len() - 1)].filter(|_| said.is_some()) {
                Some(status) => {
                    let reply = format!(
                        "HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
                    );
                    let _ = (&stream).write_all(reply.as_bytes());
                }
                None => kept.push(stream),
            }
        }
    });
    (format!("http://{address}").parse().unwrap(), heard)
}

fn request(from: &mut impl std::io::BufRead, to: &Sender<(String, Value)>) -> Option<()> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = n.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    to.send((head, serde_json::from_slice(&body).ok()?)).ok()
}

fn spans(body: &Value) -> Vec<Value> {
    body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
}

fn listening(to: &Address, pace: Pace, work: impl FnOnce(&Sending)) {
    let (layer, sending) = traces_at(to, pace);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        work(&sending);
    });
}

#[test]
fn what_was_done_is_told_with_what_it_was_part_of_what_it_was_about_and_how_it_ended() {
    let (to, heard) = receiver(&[Some(200)]);
    listening(&to, SOON, |sending| {
        let out = within(traced!("check-in", host = %"h-1", packages = 7_u64), || {
            // Nobody else's spans, and no lines of the log.
            let _theirs = tracing::info_span!("theirs").entered();
            tracing::info!("a line");
            within(traced!("judge"), || {
                Err::<(), _>(Problem::new(ProblemKind::Internal, "internal", "it broke", ""))
            })
        });
        assert!(out.is_err());
        within(traced!("plan"), || Ok(())).unwrap();
        sending.flush(Duration::from_secs(20));
        assert_eq!(sending.lost(), 0);
    });
    let (head, body) = heard.recv().unwrap();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
    let about = &body["resourceSpans"][0]["resource"]["attributes"][0];
    assert_eq!(about, &json!({"key": "service.name", "value": {"stringValue": "fettle-server"}}));
    let all = spans(&body);
    let names: Vec<&str> = all.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["judge", "check-in", "plan"]);
    let (inner, outer, other) = (&all[0], &all[1], &all[2]);
    assert_eq!(inner["parentSpanId"], outer["spanId"]);
    assert_eq!(inner["traceId"], outer["traceId"]);
    assert_ne!(other["traceId"], outer["traceId"]);
    assert!(outer.get("parentSpanId").is_none() && other.get("status").is_none());
    assert_eq!(inner["status"], json!({"code": 2, "message": "internal"}));
    assert_eq!(
        outer["attributes"],
        json!([{"key": "fettle.host", "value": {"stringValue": "h-1"}},
               {"key": "fettle.packages", "value": {"intValue": "7"}}])
    );
    for span in &all {
        let long = |key: &str| span[key].as_str().unwrap().len();
        assert_eq!((long("traceId"), long("spanId")), (32, 16));
        let at = |key: &str| span[key].as_str().unwrap().parse::<u128>().unwrap();
        assert!(at("startTimeUnixNano") <= at("endTimeUnixNano"));
    }
}

#[test]
fn a_receiver_that_hangs_holds_up_nobody_and_what_does_not_fit_is_forgotten() {
    let (to, heard) = receiver(&[None]);
    listening(&to, SOON, |sending| {
        within(traced!("first"), || Ok(())).unwrap();
        // It has it, and keeps whoever sent it waiting.
        heard.recv().unwrap();
        let begun = Instant::now();
        for _ in 0..1000 {
            within(traced!("more"), || Ok(())).unwrap();
        }
        assert_eq!(sending.lost(), 1000 - 64, "so many wait, and no more");
        sending.flush(Duration::from_millis(100));
        assert!(begun.elapsed() < SOON.patience / 2, "{:?}", begun.elapsed());
    });
}

#[test]
fn what_a_broken_receiver_did_not_take_is_counted_and_it_gets_the_rest_once_it_is_whole() {
    let (to, heard) = receiver(&[Some(500), Some(200)]);
    listening(&to, SOON, |sending| {
        let patience = Duration::from_secs(20);
        for (name, lost) in [("a", 1), ("b", 1)] {
            within(traced!("x", name = name), || Ok(())).unwrap();
            sending.flush(patience);
            assert_eq!(sending.lost(), lost);
            assert_eq!(spans(&heard.recv().unwrap().1).len(), 1);
        }
    });
    // Nobody is there at all.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    listening(&nobody(gone), SOON, |sending| {
        within(traced!("x"), || Ok(())).unwrap();
        sending.flush(Duration::from_secs(20));
        assert_eq!(sending.lost(), 1);
    });
}

fn nobody(at: SocketAddr) -> Address {
    format!("http://{at}/").parse().unwrap()
}

#[test]
fn an_address_is_one_of_the_web() {
    let read = |text: &str| text.parse::<Address>();
    assert_eq!(read("http://127.0.0.1:4318/"), Ok(Address("http://127.0.0.1:4318".into())));
    for wrong in ["127.0.0.1:4318", "ftp://h", "http://", "https:///x", "http://a b", "grpc://h"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}
