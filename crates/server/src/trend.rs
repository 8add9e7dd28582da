//! Exposure over the last weeks, for the overview. All findings are gone through for it, which is too much for whoever
//! looks: it is counted beside them when somebody looks and the last count is old, and the page follows.

use crate::app::{App, now};
use crate::reports;
use crate::tasks::complain;
use fettle_core::Timestamp;
use fettle_core::report::TrendPoint;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A count stands so long.
const STANDS: Duration = Duration::from_secs(600);
/// And this many times as long as it took: a large fleet is not counted all the time.
const SHARE: u32 = 50;

/// The last count.
#[derive(Debug, Default)]
pub(crate) struct Trend {
    kept: Mutex<Kept>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    points: Vec<TrendPoint>,
    /// Until when it stands.
    until: Option<Instant>,
}

impl Trend {
    /// The last count; empty before the first. Where it is old, another is asked for.
    pub(crate) fn look(&self) -> Vec<TrendPoint> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.until.is_none_or(|until| Instant::now() >= until) {
            self.wanted.notify_one();
        }
        kept.points.clone()
    }

    fn is_old(&self) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.until.is_none_or(|until| Instant::now() >= until)
    }

    /// Keeps a count that took so long; without points the last ones stay. Gives whether there is something else to see.
    fn keep(&self, points: Option<Vec<TrendPoint>>, took: Duration) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.until = Some(Instant::now() + STANDS.max(took * SHARE));
        let Some(points) = points else { return false };
        // The moments always are others: what counts is how much it is.
        let told = |points: &[TrendPoint]| -> Vec<_> {
            points.iter().map(|point| (point.open.clone(), point.overdue)).collect()
        };
        let is_new = told(&points) != told(&kept.points);
        kept.points = points;
        is_new
    }
}

/// Counts when somebody looks, as long as the server runs.
pub(crate) async fn count_when_asked(app: Arc<App>) -> Infallible {
    // Before hosts are judged by what is in force now, nothing is known to count.
    let mut ready = app.ready.subscribe();
    let _ = ready.wait_for(|ready| *ready).await;
    loop {
        app.trend.wanted.notified().await;
        if !app.trend.is_old() {
            continue;
        }
        let begun = Instant::now();
        let counted = app.reporting(count).await;
        if let Err(problem) = &counted {
            complain("exposure over time is not counted", problem);
        }
        if app.trend.keep(counted.ok(), begun.elapsed()) {
            app.events.tell("report", "exposure");
        }
    }
}

fn count(app: &App) -> Result<Vec<TrendPoint>, fettle_core::Problem> {
    let at: Timestamp = now();
    app.store.read(|view| reports::exposure(app, view, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn points(open: u64, at: i64) -> Vec<TrendPoint> {
        let at = Timestamp::from_second(at).unwrap();
        vec![TrendPoint {
            at,
            open: BTreeMap::from([(String::new(), open)]),
            overdue: 0,
            overdue_by_class: Default::default(),
        }]
    }

    #[test]
    fn a_count_stands_for_a_while_and_only_another_one_is_news() {
        let trend = Trend::default();
        assert!(trend.is_old() && trend.look().is_empty());
        assert!(trend.keep(Some(points(3, 100)), Duration::ZERO));
        assert!(!trend.is_old());
        assert!(!trend.keep(Some(points(3, 700)), Duration::ZERO), "the same, later");
        assert!(trend.keep(Some(points(4, 700)), Duration::ZERO));
        // What could not be counted leaves the last count, and is not tried again at once.
        assert!(!trend.keep(None, Duration::ZERO));
        assert_eq!((trend.look(), trend.is_old()), (points(4, 700), false));
    }
}
