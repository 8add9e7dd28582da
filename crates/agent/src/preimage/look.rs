//! Many paths of the host: each directory asked once, and the work shared among the processors.

use super::held::{Held, Walk};
use super::state::State;
use crate::host_path::HostPath;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More threads than this wait for the disk, not for a processor.
pub(super) const THREADS: usize = 4;

/// Looks at paths below a root, each directory opened once where they come in their order.
#[derive(Debug)]
pub(super) struct Look<'r> {
    walk: Walk<'r>,
}

impl<'r> Look<'r> {
    pub(super) fn below(root: &'r Path) -> Self {
        Self { walk: Walk::below(root) }
    }

    /// What stands at a path of the host. What is reached only through a link is somewhere else: a directory that became
    /// a link (or the reverse) has nothing of its own below it.
    ///
    /// # Errors
    /// Any other than that nothing is there.
    pub(super) fn hold(&mut self, path: &HostPath) -> io::Result<Option<Held>> {
        self.walk.hold(path.as_path())
    }

    /// [`State::of`] of a path of the host, as [`Look::hold`].
    ///
    /// # Errors
    /// When it cannot be read, other than for not being there.
    pub(super) fn observe(&mut self, path: &HostPath) -> io::Result<Option<State>> {
        self.hold(path)?.map(|held| State::of(&held)).transpose()
    }
}

/// What stands at each path, in their order.
pub(super) fn observe_each(root: &Path, paths: &[&HostPath]) -> Vec<io::Result<Option<State>>> {
    side_by_side(paths, |_, paths| {
        let mut look = Look::below(root);
        paths.iter().map(|path| look.observe(path)).collect()
    })
}

/// Does `work` to all items, in pieces that the processors take one after the other, and gives the results in the
/// order of the items. `work` is told which thread it runs on: a number below [`THREADS`].
pub(super) fn side_by_side<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(usize, &[T]) -> Vec<R> + Sync,
) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(THREADS);
    let next = AtomicUsize::new(0);
    let length = items.len().div_ceil(threads * 8).max(32);
    let take = |thread| {
        let mut done = Vec::new();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = items.chunks(length).nth(n) else { return done };
            done.push((n, work(thread, piece)));
        }
    };
    let mut done = std::thread::scope(|scope| {
        // A thread that cannot be had is none: this one does it all.
        let spawn =
            |thread| std::thread::Builder::new().spawn_scoped(scope, move || take(thread)).ok();
        let others: Vec<_> = (1..threads).filter_map(spawn).collect();
        let mut done = take(0);
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().flat_map(|(_, found)| found).collect()
}

#[cfg(test)]
mod tests {
    use super::super::observe;
    use super::*;

    #[test]
    fn many_paths_are_seen_as_one_by_one_and_none_through_a_link() {
        let root = tempfile::tempdir().unwrap();
        let at = |p: &str| root.path().join(p);
        std::fs::create_dir_all(at("a/b")).unwrap();
        for n in 0..500 {
            std::fs::write(at(&format!("a/b/{n}")), n.to_string()).unwrap();
        }
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        let mut paths: Vec<HostPath> =
            (0..510).map(|n| HostPath::from(format!("/a/b/{n}").as_str())).collect();
        paths.extend(["/link/b/1", "/a/b/1/below", "/link", "/"].map(HostPath::from));
        let all: Vec<&HostPath> = paths.iter().collect();
        let found: Vec<_> =
            observe_each(root.path(), &all).into_iter().map(Result::unwrap).collect();
        assert_eq!(found.len(), paths.len());
        for (path, found) in paths.iter().zip(&found).take(510) {
            assert_eq!(*found, observe(&path.below(root.path())).unwrap(), "{path}");
        }
        let there: Vec<bool> = found[510..].iter().map(Option::is_some).collect();
        assert_eq!(there, [false, false, true, true]);
        assert_eq!(found.iter().filter(|f| f.is_none()).count(), 12);
    }
}
