//! What the tests of every scheme share: tables, versions by a fixed generator, the laws of an order, and programs that
//! know better.

use proptest::prelude::*;
use std::cmp::Ordering;
use std::io::Write as _;
use std::process::{Command, Stdio};

pub(super) type Compare = fn(&str, &str) -> Ordering;
pub(super) type Key = fn(&str) -> Vec<u8>;

pub(super) fn sign(ordering: Ordering) -> &'static str {
    match ordering {
        Ordering::Less => "<",
        Ordering::Equal => "=",
        Ordering::Greater => ">",
    }
}

/// Each pair of a table has the order it says, both ways and as keys.
pub(super) fn check_table(table: &[(&str, &str, &str)], compare: Compare, key: Key) {
    for (a, expected, b) in table {
        let got = compare(a, b);
        assert_eq!(sign(got), *expected, "{a} {b}");
        assert_eq!(compare(b, a), got.reverse(), "{b} {a}");
        assert_eq!(key(a).cmp(&key(b)), got, "keys of {a} {b}");
    }
}

/// Gives lines to a program and returns what it says, or `None` where the program is not installed or fails.
pub(super) fn ask(program: &str, arguments: &[&str], lines: String) -> Option<String> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// A fixed generator.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn pieces(&mut self, pieces: &[&str], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| pieces[self.below(pieces.len())]).collect()
    }
}

/// Pairs of versions from pieces that meet in archives. The two of a pair often begin alike, so that every rule gets
/// to decide. Only pairs of which `good` holds for both.
pub(super) fn pairs(
    (starts, pieces): (&[&str], &[&str]),
    count: usize,
    seed: u64,
    good: impl Fn(&str) -> bool,
) -> Vec<(String, String)> {
    let mut dice = Dice(seed);
    let mut found = Vec::with_capacity(count);
    for _ in 0..200 * count {
        let start = starts[dice.below(starts.len())];
        let other = if dice.below(4) == 0 { starts[dice.below(starts.len())] } else { start };
        let middle = dice.pieces(pieces, 3);
        let a = format!("{start}{middle}{}", dice.pieces(pieces, 4));
        let b = format!("{other}{middle}{}", dice.pieces(pieces, 4));
        if good(&a) && good(&b) {
            found.push((a, b));
        }
        if found.len() == count {
            return found;
        }
    }
    panic!("the generator makes too few well-formed versions: {} pairs", found.len());
}

/// One `a b` a line.
pub(super) fn lines(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(a, b)| format!("{a} {b}\n")).collect()
}

/// A program said -1, 0 or 1 of every pair, and all of it is said here too.
pub(super) fn check_said(pairs: &[(String, String)], said: &str, compare: Compare) {
    assert_eq!(said.lines().count(), pairs.len(), "an answer is missing");
    let (mut equal, mut different) = (0, 0);
    for ((a, b), said) in pairs.iter().zip(said.lines()) {
        assert_eq!((compare(a, b) as i32).to_string(), said.trim(), "{a} {b}");
        *(if said.trim() == "0" { &mut equal } else { &mut different }) += 1;
    }
    println!("{} pairs: {equal} equal, {different} not; no disagreement", pairs.len());
    assert!(equal > 0 && different > equal, "the pairs try too little");
}

/// Versions made of these starts and pieces.
pub(super) fn made_of(
    starts: &'static [&'static str],
    pieces: &'static [&'static str],
) -> impl Strategy<Value = String> {
    (prop::sample::select(starts), prop::collection::vec(prop::sample::select(pieces), 0..5))
        .prop_map(|(start, pieces)| format!("{start}{}", pieces.concat()))
}

/// The laws every scheme's order keeps, as property tests: over versions made of `STARTS` and `PIECES`, and over any
/// texts at all.
macro_rules! laws {
    () => {
        proptest::proptest! {
            #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

            #[test]
            fn keys_of_any_two_texts_order_as_the_texts_do(
                a in ".{0,12}",
                b in "[0-9a-z.:~^_+ -]{0,10}",
                c in crate::version::oracle::made_of(&STARTS, &PIECES),
                d in crate::version::oracle::made_of(&STARTS, &PIECES),
            ) {
                for (a, b) in [(&a, &b), (&c, &d), (&a, &c), (&b, &c)] {
                    proptest::prop_assert_eq!(
                        key_lenient(a).cmp(&key_lenient(b)), compare_lenient(a, b), "{:?} {:?}", a, b
                    );
                }
            }

            #[test]
            fn the_order_is_total(
                a in crate::version::oracle::made_of(&STARTS, &PIECES),
                b in crate::version::oracle::made_of(&STARTS, &PIECES),
                c in crate::version::oracle::made_of(&STARTS, &PIECES),
                d in ".{0,6}",
            ) {
                for (a, b, c) in [(&a, &b, &c), (&a, &b, &d), (&d, &b, &a)] {
                    let (ab, bc, ac) =
                        (compare_lenient(a, b), compare_lenient(b, c), compare_lenient(a, c));
                    proptest::prop_assert_eq!(ab, compare_lenient(b, a).reverse());
                    if ab == bc || ab.is_eq() || bc.is_eq() {
                        proptest::prop_assert_eq!(ac, ab.then(bc), "{:?} {:?} {:?}", a, b, c);
                    }
                }
            }

            #[test]
            fn strict_and_lenient_agree_wherever_strict_accepts(
                a in ".{0,10}",
                b in crate::version::oracle::made_of(&STARTS, &PIECES),
                c in crate::version::oracle::made_of(&STARTS, &PIECES),
            ) {
                for (a, b) in [(&a, &b), (&b, &c)] {
                    if let Ok(ordering) = compare(a, b) {
                        proptest::prop_assert_eq!(ordering, compare_lenient(a, b));
                        let parsed = |text: &str| Version::parse(text).unwrap();
                        proptest::prop_assert_eq!(parsed(a).cmp(&parsed(b)), ordering);
                        proptest::prop_assert_eq!(parsed(a).key().cmp(&parsed(b).key()), ordering);
                    }
                }
            }
        }
    };
}
pub(super) use laws;
