//! Is one sample worse than another, or does it only look so? Two tests, as pure functions, judged against published
//! examples.

/// How likely it is that `after` lies above `before` as far as it does, or farther, if both came from one distribution:
/// one-sided Mann–Whitney U, with the normal approximation, corrected for ties and for continuity. 1 where either is
/// empty or nothing differs: nothing speaks for a difference.
///
/// Mann, Whitney: On a test of whether one of two random variables is stochastically larger than the other (1947);
/// Lehmann: Nonparametrics (1975), section 1.4 for the ties.
pub(super) fn likely_by_chance_above(after: &[u32], before: &[u32]) -> f64 {
    let mut all: Vec<(u32, bool)> = after.iter().map(|v| (*v, true)).collect();
    all.extend(before.iter().map(|v| (*v, false)));
    all.sort_unstable();
    let (n, m) = (after.len() as f64, before.len() as f64);
    let total = n + m;
    // Equal values share the mean of their ranks.
    let (mut ranks, mut ties, mut place) = (0.0, 0.0, 0.0);
    for equal in all.chunk_by(|a, b| a.0 == b.0) {
        let many = equal.len() as f64;
        let rank = place + f64::midpoint(many, 1.0);
        ranks += rank * equal.iter().filter(|(_, is_after)| *is_after).count() as f64;
        ties += many * many * many - many;
        place += many;
    }
    let above = ranks - n * (n + 1.0) / 2.0;
    let spread = n * m / 12.0 * ((total + 1.0) - ties / (total * (total - 1.0)));
    // It is no number where a sample is empty.
    if spread.is_nan() || spread <= 0.0 {
        return 1.0;
    }
    normal_tail((above - n * m / 2.0 - 0.5) / spread.sqrt())
}

/// How likely it is that so many of the failures, or more, fall on `after`, if both fail equally often: Fisher's exact
/// test, one-sided. Each is (failures, all). 1 where nothing failed.
///
/// Fisher: The Design of Experiments (1935), chapter 2.
pub(super) fn likely_by_chance_more_often(after: (u32, u32), before: (u32, u32)) -> f64 {
    let (failed, all) = (after.0 + before.0, after.1 + before.1);
    if after.1 == 0 || before.1 == 0 || after.0 > after.1 || before.0 > before.1 {
        return 1.0;
    }
    let logs = log_factorials(all);
    let choose = |n: u32, k: u32| logs[n as usize] - logs[k as usize] - logs[(n - k) as usize];
    let whole = choose(all, failed);
    // `k` of the failures fall on `after`, the others on `before`.
    let one = |k: u32| (choose(after.1, k) + choose(before.1, failed - k) - whole).exp();
    let least = after.0.max(failed.saturating_sub(before.1));
    let sum: f64 = (least..=failed.min(after.1)).map(one).sum();
    sum.min(1.0)
}

/// ln(0!), ln(1!), …, ln(n!).
fn log_factorials(n: u32) -> Vec<f64> {
    let mut out = vec![0.0];
    let mut sum = 0.0;
    for k in 1..=n {
        sum += f64::from(k).ln();
        out.push(sum);
    }
    out
}

/// What lies above `z` of the normal distribution.
fn normal_tail(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let tail = if x < 2.0 { 1.0 - error_function(x) } else { far_tail(x) } / 2.0;
    if z < 0.0 { 1.0 - tail } else { tail }
}

/// erf by its power series (DLMF 7.6.2), for `x` where that ends soon.
fn error_function(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term > sum * 1e-17 {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    sum * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI
}

/// erfc by its continued fraction (DLMF 7.9.1), from 2 on.
fn far_tail(x: f64) -> f64 {
    let mut fraction = x;
    for n in (1..=60).rev() {
        fraction = x + f64::from(n) / 2.0 / fraction;
    }
    (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI / 2.0 / fraction
}

/// The middle value; of an even number the lower of the two. `None` of nothing.
pub(super) fn median(values: &[u32]) -> Option<u32> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, published: f64, within: f64) {
        assert!((found - published).abs() <= within, "{found}, published {published}");
    }

    /// Ozone in New York, in May and August 1973: R's data set `airquality`, without the missing days.
    const MAY: [u32; 26] = [
        41, 36, 12, 18, 28, 23, 19, 8, 7, 16, 11, 14, 18, 14, 34, 6, 30, 11, 1, 11, 4, 32, 23, 45,
        115, 37,
    ];
    const AUGUST: [u32; 26] = [
        39, 9, 16, 78, 35, 66, 122, 89, 110, 44, 28, 65, 22, 59, 23, 31, 44, 21, 9, 45, 168, 73,
        76, 118, 84, 85,
    ];

    #[test]
    fn mann_whitney_gives_what_is_published() {
        // SciPy's manual, `scipy.stats.mannwhitneyu`: ages at diagnosis; two-sided, asymptotic: 0.11134688653314041.
        let (males, females) = ([19, 22, 16, 29, 24], [20, 11, 17, 12]);
        near(likely_by_chance_above(&males, &females) * 2.0, 0.111_346_886_533_140_41, 1e-15);
        // R's manual, `wilcox.test(Ozone ~ Month, subset = Month %in% c(5, 8))`, with ties: W = 127.5, two-sided
        // p = 0.0001208.
        near(likely_by_chance_above(&AUGUST, &MAY) * 2.0, 0.000_120_8, 5e-8);
        // R's manual, `wilcox.test(x, y, alternative = "g")`: Hollander and Wolfe (1973), page 69, permeability of the
        // human chorioamnion, in hundredths: W = 35, exact p = 0.1272. The approximation with continuity correction is
        // within a hundredth of it at these few.
        let x = [80, 83, 189, 104, 145, 138, 191, 164, 73, 146];
        let y = [115, 88, 90, 74, 121];
        near(likely_by_chance_above(&x, &y), 0.1272, 0.01);
    }

    #[test]
    fn fisher_gives_what_is_published() {
        // The lady tasting tea, The Design of Experiments, chapter 2: all four right by chance once in 70, three of
        // four or more 17 times in 70.
        near(likely_by_chance_more_often((4, 4), (0, 4)), 1.0 / 70.0, 1e-12);
        near(likely_by_chance_more_often((3, 4), (1, 4)), 17.0 / 70.0, 1e-12);
        // R's manual, `fisher.test(Convictions, alternative = "less")`, criminal twins (Fisher 1970): p = 0.0004652.
        // 10 of 13 monozygotic twins were convicted, 2 of 17 dizygotic.
        near(likely_by_chance_more_often((10, 13), (2, 17)), 0.000_465_2, 5e-8);
    }

    #[test]
    fn the_normal_tail_is_that_of_the_tables() {
        // Abramowitz and Stegun, tables 26.1 and 26.2: 1 − P(x).
        for (z, tail) in [
            (0.0, 0.5),
            (1.0, 0.158_655_253_931_457),
            (1.96, 0.024_997_895_148_220),
            (2.5, 0.006_209_665_325_776),
            (3.0, 0.001_349_898_031_630),
            (5.0, 2.866_515_718_791_9e-7),
            (-1.0, 0.841_344_746_068_543),
        ] {
            near(normal_tail(z), tail, tail * 1e-11);
        }
    }

    #[test]
    fn where_there_is_nothing_to_tell_apart_nothing_speaks_for_a_difference() {
        assert!(likely_by_chance_above(&[], &[1, 2]) > 0.99);
        assert!(likely_by_chance_above(&[1, 2], &[]) > 0.99);
        assert!(likely_by_chance_above(&[7; 50], &[7; 50]) > 0.99);
        assert!(likely_by_chance_above(&[1; 50], &[2; 50]) > 0.99, "it is faster");
        for none in [((0, 0), (0, 9)), ((0, 9), (0, 0)), ((0, 9), (0, 9)), ((3, 2), (0, 9))] {
            assert!(likely_by_chance_more_often(none.0, none.1) > 0.99, "{none:?}");
        }
        assert_eq!((median(&[]), median(&[5]), median(&[9, 1, 5, 7])), (None, Some(5), Some(5)));
    }

    proptest::proptest! {
        #[test]
        fn both_are_probabilities_and_worse_is_less_likely_by_chance(
            after in proptest::collection::vec(0_u32..50, 0..40),
            before in proptest::collection::vec(0_u32..50, 0..40),
            (a, n) in (0_u32..200, 0_u32..200),
            (b, m) in (0_u32..200, 0_u32..200),
        ) {
            let p = likely_by_chance_above(&after, &before);
            proptest::prop_assert!((0.0..=1.0).contains(&p), "{p}");
            // Both cannot lie above the other; and where it is even, neither does.
            let other = likely_by_chance_above(&before, &after);
            proptest::prop_assert!(p + other >= 1.0 - 1e-9, "{p} {other}");
            let p = likely_by_chance_more_often((a, a + n), (b, b + m));
            proptest::prop_assert!((0.0..=1.0).contains(&p), "{p}");
            if n > 0 {
                let more = likely_by_chance_more_often((a + 1, a + n), (b, b + m));
                proptest::prop_assert!(more <= p + 1e-9, "{more} {p}");
            }
        }
    }
}
