//! What `apt-get --simulate` prints.

use super::{PackagesError, ResolvedChange};

/// Every package that apt would touch, in its order. `native`: the architecture that apt leaves unnamed.
///
/// # Errors
/// A line that begins like a step and is none: it is not passed over, since it may be a removal.
pub(crate) fn parse(text: &str, native: &str) -> Result<Vec<ResolvedChange>, PackagesError> {
    text.lines().filter_map(|line| step(line, native).transpose()).collect()
}

/// One line: `Inst NAME [FROM] (TO RELEASES [ARCH])` or `Remv NAME [FROM]`, the name with `:ARCH` for foreign
/// architectures; behind it may stand names of packages that are broken meanwhile.
fn step(line: &str, native: &str) -> Result<Option<ResolvedChange>, PackagesError> {
    let unknown = || PackagesError::Output {
        program: "apt-get".into(),
        line: line.chars().take(200).collect(),
    };
    let (removes, rest) = match (line.strip_prefix("Inst "), line.strip_prefix("Remv ")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Ok(None),
    };
    let (name, rest) = rest.split_once(' ').ok_or_else(unknown)?;
    let (from, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest
            .split_once(']')
            .map(|(from, rest)| (from, rest.trim_start()))
            .ok_or_else(unknown)?,
        None => ("", rest),
    };
    let (name, foreign) =
        name.split_once(':').map_or((name, None), |(name, arch)| (name, Some(arch)));
    if removes {
        return Ok(Some(ResolvedChange {
            name: name.to_owned(),
            architecture: foreign.unwrap_or(native).to_owned(),
            from: from.to_owned(),
            to: String::new(),
            releases: String::new(),
        }));
    }
    let inside = rest
        .strip_prefix('(')
        .and_then(|r| r.split_once(')'))
        .map(|(inside, _)| inside)
        .ok_or_else(unknown)?;
    let (inside, architecture) =
        inside.strip_suffix(']').and_then(|i| i.rsplit_once(" [")).ok_or_else(unknown)?;
    let (to, releases) = inside.split_once(' ').unwrap_or((inside, ""));
    Ok(Some(ResolvedChange {
        name: name.to_owned(),
        architecture: architecture.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        releases: releases.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_with_versions_releases_and_removals() {
        let text = "\
NOTE: This is only a simulation!
Reading package lists...
Remv old-thing [1.0]
Remv libold:i386 [0.9]
Inst libssl3 [3.0.15-1~deb12u1] (3.0.17-1~deb12u3 Debian-Security:12/oldstable-security [amd64]) []
Inst acme-web [1.0] (1.1 Acme-Security:stable [all])
Inst fresh (2.0 Debian:12.8/oldstable [amd64])
Inst libc6:i386 [2.36-9] (2.36-9+deb12u9 Debian:12.8/stable [i386])
Conf libssl3 (3.0.17-1~deb12u3 Debian-Security:12/oldstable-security [amd64])
";
        let steps = parse(text, "amd64").unwrap();
        let short: Vec<_> = steps
            .iter()
            .map(|s| (s.name.as_str(), s.architecture.as_str(), s.from.as_str(), s.to.as_str()))
            .collect();
        assert_eq!(
            short,
            [
                ("old-thing", "amd64", "1.0", ""),
                ("libold", "i386", "0.9", ""),
                ("libssl3", "amd64", "3.0.15-1~deb12u1", "3.0.17-1~deb12u3"),
                ("acme-web", "all", "1.0", "1.1"),
                ("fresh", "amd64", "", "2.0"),
                ("libc6", "i386", "2.36-9", "2.36-9+deb12u9"),
            ]
        );
        assert_eq!(steps[2].releases, "Debian-Security:12/oldstable-security");
    }

    #[test]
    fn a_step_that_is_not_understood_is_an_error_with_the_line() {
        for odd in ["Inst odd", "Inst odd [1.0 (2.0 x [all])", "Inst odd [1.0] 2.0", "Remv x"] {
            let error = parse(odd, "amd64").unwrap_err().to_string();
            assert!(error.contains(odd), "{error}");
        }
    }
}
