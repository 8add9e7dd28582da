//! The names of all hosts in one text, so that a part of a name is found in one go.

/// Names, in their order, in small letters.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Each with a line's end after it, which no name holds.
    text: String,
    /// Where each begins.
    starts: Vec<usize>,
}

impl Names {
    pub(super) fn of<'a>(all: impl Iterator<Item = &'a String>) -> Self {
        let mut names = Self::default();
        for name in all {
            names.starts.push(names.text.len());
            names.text.push_str(&name.to_lowercase());
            names.text.push('\n');
        }
        names
    }

    /// Of each name, by its place: does it hold this text in small letters?
    pub(super) fn holding(&self, part: &str) -> Vec<bool> {
        let mut found = vec![part.is_empty(); self.starts.len()];
        if part.is_empty() || part.contains('\n') {
            return found;
        }
        for (at, _) in self.text.match_indices(part) {
            // Invariant: the first begins at 0, so that one begins at or before every place.
            found[self.starts.partition_point(|start| *start <= at) - 1] = true;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_is_found_in_each_that_holds_it_and_never_across_two() {
        let names = ["db-1", "WEB-1", "web-10", "äpfel"].map(str::to_owned);
        let names = Names::of(names.iter());
        let found = |part: &str| {
            let found = names.holding(part);
            (0..found.len()).filter(|place| found[*place]).collect::<Vec<_>>()
        };
        assert_eq!(found("web-1"), [1, 2]);
        assert_eq!(found("1"), [0, 1, 2]);
        assert_eq!(found("db-1\nweb"), [0; 0]);
        assert_eq!(found("1w"), [0; 0]);
        assert_eq!(found("ä"), [3]);
        assert_eq!(found(""), [0, 1, 2, 3]);
        assert_eq!(Names::default().holding("a"), [false; 0]);
    }
}
