//! FIRST's EPSS scores, CSV: a comment `#model_version:...,score_date:...`, the header `cve,epss,percentile`, and
//! one line a CVE. See <https://www.first.org/epss/data_stats>. Data by FIRST.org, used with attribution.

use super::document::Document;
use super::{Feed, FeedError, Parsed, check_vulnerability};
use jiff::civil::Date;

/// One score.
#[derive(Debug, Clone, PartialEq)]
pub struct EpssScore {
    /// `CVE-2024-3094`.
    pub id: String,
    /// Probability of exploitation within 30 days, 0.0 to 1.0.
    pub probability: f32,
    /// Share of all CVEs with the same or a lower score, 0.0 to 1.0.
    pub percentile: f32,
}

/// Day of the scores: `score_date` in the comment that is the first line.
pub(super) fn date(bytes: &[u8]) -> Option<Date> {
    let first = bytes.split(|b| *b == b'\n').next()?;
    let comment = std::str::from_utf8(first.get(..first.len().min(400))?).ok()?;
    let day = comment
        .strip_prefix('#')?
        .split(',')
        .find_map(|part| part.trim().strip_prefix("score_date:"))?;
    day.get(..10)?.parse().ok()
}

/// Parses the file, as published (with its comment) or without the comment.
///
/// # Errors
/// [`FeedError`] where the document is empty, not text, cut off, has another header, or holds nothing usable.
pub fn parse(bytes: &[u8]) -> Result<Parsed<EpssScore>, FeedError> {
    let mut document = Document::open(Feed::Epss, bytes)?;
    let mut header_seen = false;
    for (number, line) in document.lines()?.enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !header_seen {
            if line.trim() != "cve,epss,percentile" {
                return Err(document.malformed(
                    number + 1,
                    1,
                    "expected the header `cve,epss,percentile`",
                ));
            }
            header_seen = true;
            continue;
        }
        match read(line) {
            Ok(score) => document.keep(score),
            Err(what) => document.reject(line, || line.chars().take(40).collect(), what),
        }
    }
    document.close()
}

fn read(line: &str) -> Result<EpssScore, String> {
    let fields: Vec<&str> = line.splitn(5, ',').collect();
    let [id, probability, percentile] = fields[..] else {
        return Err(format!("{} fields where there should be 3", fields.len()));
    };
    check_vulnerability(id)?;
    let share = |name: &str, text: &str| match text.trim().parse::<f32>() {
        Ok(x) if (0.0..=1.0).contains(&x) => Ok(x),
        _ => Err(format!("{name} {text:?} is not a number from 0 to 1")),
    };
    Ok(EpssScore {
        id: id.to_owned(),
        probability: share("epss", probability)?,
        percentile: share("percentile", percentile)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comment_says_of_which_day_the_scores_are() {
        let text =
            b"#model_version:v2025.03.14,score_date:2026-08-16T12:55:00Z\ncve,epss,percentile\n";
        assert_eq!(date(text), Some(jiff::civil::date(2026, 8, 16)));
        for other in [&b"cve,epss,percentile\n"[..], b"#score_date:soon\n", b"#score_date:\n", b""]
        {
            assert_eq!(date(other), None);
        }
    }
}
