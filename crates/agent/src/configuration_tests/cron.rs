//! The system's cron tables (`crontab(5)`), read by the agent: five time fields or `@word`, a user that is
//! there, a command. Whether the command can be run is not looked at, nor are users' own tables.

use super::choose;
use std::fs;
use std::path::Path;

const WORDS: [&str; 8] =
    ["@reboot", "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What is wrong with `/etc/crontab` and the files of `/etc/cron.d` that cron reads. Empty: nothing.
pub(super) fn complaints(root: &Path) -> Vec<String> {
    let mut files = vec![("crontab".to_owned(), root.join("etc/crontab"))];
    files.extend(super::files(&root.join("etc/cron.d")));
    // cron(8): names of letters, digits, `_` and `-` only.
    files.retain(|(name, _)| {
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    });
    let mut out = Vec::new();
    for (_, path) in files {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let shown = Path::new("/").join(path.strip_prefix(root).unwrap_or(&path));
        for (n, line) in text.lines().enumerate() {
            if let Err(what) = check(line, |name| choose::user(root, name).is_some()) {
                out.push(format!("{} line {}: {what}", shown.display(), n + 1));
            }
        }
    }
    out
}

fn check(line: &str, is_user: impl Fn(&str) -> bool) -> Result<(), String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') || is_setting(line) {
        return Ok(());
    }
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or_default();
    if first.starts_with('@') {
        if !WORDS.contains(&first) {
            return Err(format!("`{first}` is no time"));
        }
    } else {
        let fields: [(&str, u32, u32, &[&str]); 5] = [
            ("minute", 0, 59, &[]),
            ("hour", 0, 23, &[]),
            ("day of the month", 1, 31, &[]),
            ("month", 1, 12, &MONTHS),
            ("day of the week", 0, 7, &DAYS),
        ];
        for (n, (what, low, high, names)) in fields.into_iter().enumerate() {
            let word = if n == 0 { Some(first) } else { words.next() };
            let word = word.ok_or_else(|| format!("the {what} is missing"))?;
            if !field(word, low, high, names) {
                return Err(format!("`{word}` is no {what}"));
            }
        }
    }
    let user = words.next().ok_or("the user is missing")?;
    if !is_user(user) {
        return Err(format!("there is no user `{user}`"));
    }
    words.next().map(|_| ()).ok_or_else(|| "the command is missing".into())
}

/// `NAME=value`, which sets the environment.
fn is_setting(line: &str) -> bool {
    line.split_once('=').is_some_and(|(name, _)| {
        let name = name.trim().trim_matches(['"', '\'']);
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}

fn field(word: &str, low: u32, high: u32, names: &[&str]) -> bool {
    let value = |text: &str| {
        let named = names.iter().position(|n| text.eq_ignore_ascii_case(n));
        let value = match named {
            Some(at) => u32::try_from(at).ok()? + low,
            None => text.parse().ok()?,
        };
        (low..=high).contains(&value).then_some(value)
    };
    word.split(',').all(|part| {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<u32>().is_ok_and(|s| s > 0)),
            None => (part, true),
        };
        let range = match range.split_once('-') {
            _ if range == "*" => true,
            // Later than its end is an error for cron; Sunday may be 0 or 7.
            Some((a, b)) => matches!((value(a), value(b)), (Some(a), Some(b)) if a <= b),
            // cronie's random time.
            None => range.contains('~') || value(range).is_some(),
        };
        range && step
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_system_table_are_judged_as_cron_does() {
        let user = |name: &str| name == "root";
        for good in [
            "",
            "# a comment",
            "SHELL=/bin/sh",
            "MAILTO=\"\"",
            "17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly",
            "*/5 0-23/2 1,15 jan-Mar Sun root true",
            "@reboot root true",
        ] {
            assert_eq!(check(good, user), Ok(()), "{good}");
        }
        for (bad, said) in [
            ("61 * * * * root true", "`61` is no minute"),
            ("* * 0 * * root true", "`0` is no day of the month"),
            ("* * * foo * root true", "`foo` is no month"),
            ("5-1 * * * * root true", "`5-1` is no minute"),
            ("*/0 * * * * root true", "`*/0` is no minute"),
            ("* * * * root true", "`root` is no day of the week"),
            ("* * *", "the month is missing"),
            ("@sometimes root true", "`@sometimes` is no time"),
            ("@daily nobody-here true", "there is no user `nobody-here`"),
            ("@daily root", "the command is missing"),
        ] {
            assert_eq!(check(bad, user), Err(said.to_owned()), "{bad}");
        }
    }
}
