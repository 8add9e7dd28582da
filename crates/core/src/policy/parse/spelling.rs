//! What did they mean?

/// The candidate that a misspelt word most likely means, if one is near enough, or begins with it.
pub(in crate::policy) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(64).collect();
    let allowed = (word.len() / 3).max(1);
    let distances = candidates.iter().map(|c| {
        let other: Vec<char> = c.to_lowercase().chars().collect();
        (distance(&word, &other), *c)
    });
    let begun = || {
        candidates.iter().copied().find(|c| {
            word.len() >= 3 && c.to_lowercase().chars().take(word.len()).eq(word.iter().copied())
        })
    };
    distances.filter(|(d, _)| *d <= allowed).min().map(|(_, c)| c).or_else(begun)
}

/// Edits between two words: insert, delete, replace, swap of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood_and_another_word_is_not() {
        let keys = ["soak", "select", "wave-percent", "name"];
        for (word, meant) in [
            ("soka", Some("soak")),
            ("Select", Some("select")),
            ("wave_percent", Some("wave-percent")),
            ("wavepercent", Some("wave-percent")),
            ("nam", Some("name")),
            ("deadline", None),
            ("sel", Some("select")),
            ("se", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &keys), meant, "{word}");
        }
    }
}
