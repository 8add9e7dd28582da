//! Durations as people write them: `30s`, `30m`, `4h`, `7d`, `2w`, `1h30m`.

const UNITS: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];

/// Longest duration: ten years. Beyond that somebody mistyped.
pub(super) const MAX_SECONDS: u64 = 3650 * 86_400;

/// Seconds of a duration. A day is 24 hours.
///
/// # Errors
/// What is wrong and what to write instead.
pub(super) fn seconds(text: &str) -> Result<u64, (String, String)> {
    let bad = |message: String| {
        (message, "write a number and a unit: 30s, 30m, 4h, 7d, 2w or 1h30m".to_owned())
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad("the duration is empty".to_owned()));
    }
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if number.is_empty() {
            return Err(bad(format!("`{text}` is no duration")));
        }
        if unit.is_empty() {
            let hint = format!("say which unit: `{text}s`, `{text}m`, `{text}h` or `{text}d`");
            return Err((format!("`{text}` has a number without a unit"), hint));
        }
        let Some((_, size)) = UNITS.iter().find(|(u, _)| *u == unit.trim()) else {
            return Err(bad(format!("`{}` is no unit of time", unit.trim())));
        };
        if *size >= smallest {
            return Err(bad(format!("`{text}` does not go from the larger unit to the smaller")));
        }
        smallest = *size;
        let seconds =
            number.parse::<u64>().ok().and_then(|n| n.checked_mul(*size)?.checked_add(total));
        total = match seconds {
            Some(seconds) if seconds <= MAX_SECONDS => seconds,
            _ => {
                return Err((
                    format!("`{text}` is longer than ten years"),
                    "write at most `3650d`".to_owned(),
                ));
            }
        };
        rest = after.trim_start();
    }
    Ok(total)
}

/// A duration as [`seconds`] reads it: in the largest unit, up to days, that it is a multiple of.
pub(in crate::policy) fn text(seconds: u64) -> String {
    let unit =
        UNITS[..4].iter().rev().find(|(_, size)| seconds >= *size && seconds.is_multiple_of(*size));
    unit.map_or("0s".to_owned(), |(unit, size)| format!("{}{unit}", seconds / size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, expected) in [
            ("0s", 0),
            ("30s", 30),
            ("30m", 1800),
            ("4h", 14_400),
            ("7d", 604_800),
            ("2w", 1_209_600),
            ("1h30m", 5400),
            (" 1h 30m ", 5400),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_a_remedy() {
        for (text, says) in [
            ("", "the duration is empty"),
            ("30", "`30` has a number without a unit"),
            ("m", "`m` is no duration"),
            ("30 min", "`min` is no unit of time"),
            ("-5m", "`-5m` is no duration"),
            ("30m1h", "`30m1h` does not go from the larger unit to the smaller"),
            ("1h1h", "`1h1h` does not go from the larger unit to the smaller"),
            ("99999999999999999999d", "`99999999999999999999d` is longer than ten years"),
            ("4000d", "`4000d` is longer than ten years"),
            ("1.5h", "`.` is no unit of time"),
            ("５m", "`５m` is no duration"),
        ] {
            assert_eq!(seconds(text).unwrap_err().0, says, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(n in 0..=MAX_SECONDS) {
            prop_assert_eq!(seconds(&text(n)), Ok(n));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,12}") {
            let _ = seconds(&text);
        }
    }
}
