//! The page of each code, as `docs/errors/` has it: what `fettle explain-error` prints and `/errors/CODE` shows.

/// A page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorPage {
    /// The code.
    pub code: &'static str,
    /// The whole page, in Markdown.
    pub text: &'static str,
}

macro_rules! pages {
    ($($word:literal)*) => {
        const PAGES: &[ErrorPage] = &[$(
            ErrorPage {
                code: $word,
                text: include_str!(concat!("../../../docs/errors/", $word, ".md")),
            }
        ),*];
    };
}
fettle_core::each_code!(pages);

/// All pages, by code.
pub fn all() -> &'static [ErrorPage] {
    PAGES
}

/// The page of a code.
pub fn page(code: &str) -> Option<&'static ErrorPage> {
    let at = PAGES.binary_search_by(|page| page.code.cmp(code)).ok()?;
    PAGES.get(at)
}

/// Where the server shows the page of a code: the `type` of a problem document (RFC 9457), relative to the server.
pub fn address(code: &str) -> String {
    format!("/errors/{code}")
}

impl ErrorPage {
    /// Its paragraphs after the heading, each in one line. A link is its text and, of a page of the guide, where that is.
    pub fn paragraphs(&self) -> Vec<String> {
        let body = self.text.split("\n\n").skip(1);
        body.map(|it| unlinked(&it.split_whitespace().collect::<Vec<_>>().join(" "))).collect()
    }
}

/// `[text](../page.md#part)` is `text (docs/page.md)`; `**` is left out.
fn unlinked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[')
        && let Some((words, more)) = after.split_once("](")
        && let Some((to, end)) = more.split_once(')')
    {
        let page = to.trim_start_matches("../").split('#').next().unwrap_or_default();
        out.push_str(before);
        out.push_str(words);
        out.push_str(&format!(" (docs/{page})"));
        rest = end;
    }
    out.push_str(rest);
    out.replace("**", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_core::code::CODES;
    use std::collections::BTreeSet;

    #[test]
    fn each_code_has_a_page_and_each_page_a_code() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors");
        let there: BTreeSet<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| name.strip_suffix(".md").unwrap().to_owned())
            .collect();
        let codes: BTreeSet<String> = CODES.iter().map(|code| (*code).to_owned()).collect();
        assert_eq!(there, codes);
        assert!(CODES.len() >= 300);
    }

    #[test]
    fn each_page_names_its_code_says_what_it_means_and_what_to_do() {
        let mut said = BTreeSet::new();
        for it in all() {
            assert_eq!(page(it.code), Some(it));
            assert!(it.text.starts_with(&format!("# {}\n\n", it.code)), "{}", it.code);
            let paragraphs = it.paragraphs();
            assert!(paragraphs.len() >= 2, "{}", it.code);
            assert!(paragraphs.iter().any(|p| p.starts_with("What to do. ")), "{}", it.code);
            assert!(paragraphs.iter().all(|p| p.len() > 15), "{}: {paragraphs:?}", it.code);
            assert!(said.insert((it.code, paragraphs[0].clone())));
        }
        assert_eq!(page("no-such-code"), None);
    }

    #[test]
    fn a_link_is_read_as_its_text_with_the_page_behind_it() {
        assert_eq!(
            unlinked("**What to do.** See [a host](../quarantine.md#x), or [b](../undo.md)."),
            "What to do. See a host (docs/quarantine.md), or b (docs/undo.md)."
        );
        assert_eq!(unlinked("`[[accept]]` and [x"), "`[[accept]]` and [x");
    }
}
