//! Asks a Prometheus server for one number, now or over a span (its HTTP API, v1: `query`, `query_range`).

use super::call::call;
use fettle_core::Timestamp;
use fettle_core::rollout::{Answer, Reading};
use serde::Deserialize;
use serde_json::Value;

/// Numbers of a span are so far apart at most, in seconds.
const WIDEST: u64 = 60;
/// A span is asked for in so many numbers, where they are not too far apart then.
const NUMBERS: u64 = 60;

/// Asks. `for_seconds`: the span before now that is wanted; 0: only now.
///
/// # Errors
/// In words, why there is nothing that can be judged.
pub(super) fn ask(
    url: &str,
    query: &str,
    for_seconds: u64,
    now: Timestamp,
) -> Result<Answer, String> {
    let base = url.trim_end_matches('/');
    let (query, now) = (encoded(query), now.as_second());
    let step = (for_seconds / NUMBERS).clamp(1, WIDEST);
    let target = if for_seconds == 0 {
        format!("{base}/api/v1/query?query={query}&time={now}")
    } else {
        let span = for_seconds.div_ceil(step).saturating_mul(step);
        let start = now.saturating_sub_unsigned(span);
        format!("{base}/api/v1/query_range?query={query}&start={start}&end={now}&step={step}")
    };
    let reply = call(&target, &[], None)?;
    let readings = read(reply.status, &reply.body)?;
    Ok(Answer::Readings { step_seconds: step, readings })
}

/// Everything but what RFC 3986 calls unreserved.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[derive(Deserialize)]
struct Envelope {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: Value,
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    value: Option<Sample>,
    #[serde(default)]
    values: Vec<Sample>,
}

/// Seconds since the epoch, and a number as text.
#[derive(Deserialize)]
struct Sample(f64, String);

fn read(status: u16, body: &[u8]) -> Result<Vec<Reading>, String> {
    let envelope: Envelope = serde_json::from_slice(body)
        .map_err(|_| format!("status {status}, and the answer is not Prometheus's"))?;
    if envelope.status != "success" {
        let error: String = envelope.error.chars().take(300).collect();
        return Err(format!("Prometheus says: {error}"));
    }
    let data = envelope.data.ok_or("the answer holds no data")?;
    let odd = |_| format!("the {} in the answer cannot be read", data.kind);
    let samples = match data.kind.as_str() {
        "scalar" => vec![serde_json::from_value::<Sample>(data.result).map_err(odd)?],
        "vector" | "matrix" => {
            let mut series: Vec<Series> = serde_json::from_value(data.result).map_err(odd)?;
            match (series.pop(), series.len()) {
                (None, _) => return Err("the query gives nothing".to_owned()),
                (Some(one), 0) => one.values.into_iter().chain(one.value).collect(),
                (Some(_), others) => {
                    return Err(format!(
                        "the query gives {} series, and one number is needed: aggregate them, `sum(…)` or `max(…)`",
                        others + 1
                    ));
                }
            }
        }
        other => return Err(format!("the query gives a {other}, and a number is needed")),
    };
    let last = samples.len().saturating_sub(1);
    let mut readings = Vec::new();
    for (index, Sample(at, text)) in samples.into_iter().enumerate() {
        let value: f64 = text.parse().map_err(|_| "the answer holds no number".to_owned())?;
        if value.is_finite() {
            readings.push(Reading { at: moment(at)?, value });
        } else if index == last {
            return Err(format!("the number is {text}"));
        }
        // One of before that is none leaves a gap.
    }
    if readings.is_empty() {
        return Err("the query gives nothing".to_owned());
    }
    if readings.windows(2).any(|pair| pair[0].at >= pair[1].at) {
        return Err("the numbers are not in the order of time".to_owned());
    }
    Ok(readings)
}

fn moment(seconds: f64) -> Result<Timestamp, String> {
    let odd = || "the answer holds no time".to_owned();
    if !seconds.is_finite() || seconds.abs() > 1e12 {
        return Err(odd());
    }
    Timestamp::from_millisecond((seconds * 1000.0).round() as i64).map_err(|_| odd())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        match read(200, text.as_bytes()) {
            Ok(readings) => {
                let each = readings.iter().map(|r| format!("{}={}", r.at.as_second(), r.value));
                each.collect::<Vec<_>>().join(" ")
            }
            Err(why) => why,
        }
    }

    #[test]
    fn one_number_or_one_series_is_read_and_everything_else_is_told() {
        let of = |kind: &str, result: &str| {
            told(&format!(
                r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#
            ))
        };
        for (found, then) in [
            (of("scalar", r#"[1795000000.5,"0.25"]"#), "1795000000=0.25"),
            (of("vector", r#"[{"metric":{},"value":[1795000000,"1e-3"]}]"#), "1795000000=0.001"),
            (
                of("matrix", r#"[{"metric":{"a":"b"},"values":[[1,"2"],[2,"NaN"],[3,"4"]]}]"#),
                "1=2 3=4",
            ),
            (of("matrix", r#"[{"metric":{},"values":[[1,"2"],[2,"NaN"]]}]"#), "the number is NaN"),
            (of("vector", r#"[{"metric":{},"value":[1,"+Inf"]}]"#), "the number is +Inf"),
            (of("vector", "[]"), "the query gives nothing"),
            (
                of("vector", r#"[{"value":[1,"2"]},{"value":[1,"2"]}]"#),
                "the query gives 2 series, and one number is needed: aggregate them, `sum(…)` or `max(…)`",
            ),
            (of("string", r#"[1,"x"]"#), "the query gives a string, and a number is needed"),
            (of("vector", r#"[{"value":[1,"two"]}]"#), "the answer holds no number"),
            (of("vector", r#"[{"value":[1e300,"2"]}]"#), "the answer holds no time"),
            (of("vector", r#"{"a":1}"#), "the vector in the answer cannot be read"),
            (
                of("matrix", r#"[{"values":[[2,"1"],[1,"1"]]}]"#),
                "the numbers are not in the order of time",
            ),
            (
                told(r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#),
                "Prometheus says: parse error",
            ),
            (told("<html>"), "status 200, and the answer is not Prometheus's"),
            (told(r#"{"status":"success"}"#), "the answer holds no data"),
        ] {
            assert_eq!(found, then);
        }
    }
}
