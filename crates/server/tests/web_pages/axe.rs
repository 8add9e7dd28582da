//! Every page as axe-core judges it, in a real Chromium: light and dark, wide and narrow.

use super::browser::Site;
use super::devtools::{Browser, journey};
use super::*;

/// Widths of a window, in CSS pixels: a desk, and a small telephone.
const WIDTHS: [u32; 2] = [1440, 360];

/// What is wrong with these pages (path and HTML), a line each with where and in which look.
fn wrong(browser: &mut Browser, pages: &BTreeMap<String, String>, dark: bool) -> Vec<String> {
    let served = pages.clone();
    let site = Site::serve(move |path| served.get(path).cloned(), "");
    let mut wrong = Vec::new();
    for path in pages.keys() {
        browser.go(&site.url(path));
        for width in WIDTHS {
            browser.look(width, dark);
            let look = if dark { "dark" } else { "light" };
            let said = browser.axe();
            wrong.extend(said.into_iter().map(|it| format!("{path} ({look}, {width} px): {it}")));
        }
    }
    wrong
}

/// axe-core finds nothing on any page in this look.
fn judged(dark: bool) {
    let pages = by_path();
    journey(|browser| {
        let wrong = wrong(browser, &pages, dark);
        assert!(wrong.is_empty(), "{} violations:\n{}", wrong.len(), wrong.join("\n"));
    });
}

#[test]
fn axe_core_finds_no_violation_on_any_page_in_light() {
    judged(false);
}

#[test]
fn axe_core_finds_no_violation_on_any_page_in_dark() {
    judged(true);
}

/// A page of the server's style with this as its main part.
fn page_of(main: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=en><head><title>x</title><meta name=viewport content=width=device-width>\
         <link rel=stylesheet href=/assets/style.css></head><body><main><h1>x</h1>{main}</main></body></html>"
    )
}

#[test]
fn axe_core_would_have_told_of_a_violation_and_in_which_look_it_is_one() {
    let bad =
        page_of("<input><details><summary>more</summary><img src=/assets/icon.svg></details>");
    // Ink for a light ground, and a word that only a wide window has room for.
    let inked = page_of("<p><font color='#0b6254'>hardly to be read in the dark</font></p>");
    let long = "a-word-without-an-end-".repeat(5);
    let long = page_of(&format!(
        "<div class=scroll><table><tr><td class=name>{long}</td></tr></table></div>"
    ));
    let pages = [("/bad", bad), ("/inked", inked), ("/long", long)];
    let pages = pages.map(|(path, html)| (path.to_owned(), html)).into();
    journey(|browser| {
        let light = wrong(browser, &pages, false).join("\n");
        let dark = wrong(browser, &pages, true).join("\n");
        let tells = |said: &str, what: &str| said.lines().any(|line| line.starts_with(what));
        for said in [&light, &dark] {
            assert!(said.contains("px): label (critical) at input: Fix any of"), "{said}");
            assert!(said.contains("px): image-alt (critical) at img"), "what is folded up: {said}");
        }
        assert!(tells(&dark, "/inked (dark, 1440 px): color-contrast"), "{dark}");
        assert!(!light.contains("/inked"), "{light}");
        assert!(tells(&light, "/long (light, 360 px): scrollable-region-focusable"), "{light}");
        assert!(!tells(&light, "/long (light, 1440 px)"), "{light}");
    });
}
