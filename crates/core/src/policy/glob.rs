//! Shell-like patterns as policies use them: `*` stands for any text, `?` for one character.

/// Does the whole text match the pattern? Takes time in the product of both lengths at most.
pub fn matches(pattern: &str, text: &str) -> bool {
    if !pattern.contains(['*', '?']) {
        return pattern == text;
    }
    let mut pattern_rest = pattern.chars();
    let mut text_rest = text.chars();
    // Where to go on when a mismatch follows the last `*`: behind it, one character further in the text.
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let mut ahead = pattern_rest.clone();
        match ahead.next() {
            Some('*') => {
                pattern_rest = ahead;
                retry = Some((pattern_rest.clone(), text_rest.clone()));
                continue;
            }
            Some(wanted) => {
                let mut text_ahead = text_rest.clone();
                if text_ahead.next().is_some_and(|found| wanted == '?' || wanted == found) {
                    (pattern_rest, text_rest) = (ahead, text_ahead);
                    continue;
                }
            }
            None if text_rest.as_str().is_empty() => return true,
            None => {}
        }
        let Some((after_star, from)) = &mut retry else { return false };
        if from.next().is_none() {
            return false;
        }
        (pattern_rest, text_rest) = (after_star.clone(), from.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::matches;
    use proptest::prelude::*;

    #[test]
    fn stars_and_question_marks_match_as_a_shell_has_them() {
        for (pattern, text, holds) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("nginx", "nginx", true),
            ("nginx", "nginx-common", false),
            ("nginx*", "nginx-common", true),
            ("lib?sl3", "libssl3", true),
            ("?", "é", true),
            ("?", "", false),
            ("*-security", "stable-security", true),
            ("a*b*c", "axxbyybzzc", true),
            ("a*b*c", "axxbyyb", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern, text), holds, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_ends_soon() {
        assert!(!matches(&"*a".repeat(500), &"a".repeat(499)));
        assert!(!matches(&format!("{}b", "a*".repeat(300)), &"a".repeat(3000)));
    }

    /// The definition, without regard to time.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|n| slow(rest, &text[n..])),
            Some((p, rest)) => text
                .split_first()
                .is_some_and(|(t, more)| (*p == '?' || p == t) && slow(rest, more)),
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), slow(&chars(&pattern), &chars(&text)));
        }
    }
}
