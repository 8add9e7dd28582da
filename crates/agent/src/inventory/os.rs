//! `os-release(5)`.

use crate::settings::Settings;
use fettle_core::inventory::Os;
use std::fs;
use std::io;

/// `/etc/os-release`, else `/usr/lib/os-release`, as the standard orders it.
pub(super) fn read(settings: &Settings) -> io::Result<Os> {
    fs::read(settings.host("etc/os-release"))
        .or_else(|_| fs::read(settings.host("usr/lib/os-release")))
        .map(|bytes| parse(&String::from_utf8_lossy(&bytes)))
}

/// Parses `KEY=value` lines; of a key given twice the last counts, as in the shell that the format comes from.
pub(super) fn parse(text: &str) -> Os {
    // Defaults of the standard.
    let mut os = Os {
        id: "linux".into(),
        version: String::new(),
        codename: String::new(),
        pretty: "Linux".into(),
    };
    for line in text.lines() {
        let line = line.trim();
        let Some((key, value)) = line.split_once('=') else { continue };
        let field = match key {
            "ID" => &mut os.id,
            "VERSION_ID" => &mut os.version,
            "VERSION_CODENAME" => &mut os.codename,
            "PRETTY_NAME" => &mut os.pretty,
            _ => continue,
        };
        *field = unquote(value);
    }
    os
}

/// Shell quoting as far as the standard allows it: one pair of quotes, backslash before `$ " \ `` ` `` `.
fn unquote(value: &str) -> String {
    let quoted = |q: char| value.len() >= 2 && value.starts_with(q) && value.ends_with(q);
    if quoted('\'') {
        return value[1..value.len() - 1].to_owned();
    }
    let inner = if quoted('"') { &value[1..value.len() - 1] } else { value };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_comments_and_missing_keys_are_read_as_the_standard_says() {
        let os = parse(
            "# x\nID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"A \\\"B\\\" \\$C\"\nID_LIKE=no\nODD\n",
        );
        assert_eq!(
            (os.id.as_str(), os.version.as_str(), os.codename.as_str()),
            ("debian", "12", "")
        );
        assert_eq!(os.pretty, "A \"B\" $C");
        assert_eq!(parse("ID='alpine'\n").id, "alpine");
        assert_eq!(parse("").id, "linux");
        assert_eq!(parse("ID=\"\n").id, "\"");
    }
}
