//! Many paths of the host: each directory asked once, and the work shared among the processors.

use super::state::{State, metadata, observe};
use crate::host_path::HostPath;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// More threads than this wait for the disk, not for a processor.
pub(super) const THREADS: usize = 4;

/// Looks at paths below a root, and remembers which directories are directories of their own. Good for as long as
/// nobody makes links of them.
#[derive(Debug)]
pub(super) struct Look<'r> {
    root: &'r Path,
    /// Directory → is it one, and is each above it?
    own: BTreeMap<PathBuf, bool>,
}

impl<'r> Look<'r> {
    pub(super) fn below(root: &'r Path) -> Self {
        Self { root, own: BTreeMap::new() }
    }

    /// `lstat` of a path of the host. What is reached only through a link is somewhere else: a directory that became
    /// a link (or the reverse) has nothing of its own below it.
    ///
    /// # Errors
    /// Any other than that nothing is there.
    pub(super) fn metadata(&mut self, path: &HostPath) -> io::Result<Option<Metadata>> {
        match self.is_own(path.0.parent())? {
            true => metadata(&path.below(self.root)),
            false => Ok(None),
        }
    }

    /// [`observe`] of a path of the host, as [`Look::metadata`].
    ///
    /// # Errors
    /// When it cannot be read, other than for not being there.
    pub(super) fn observe(&mut self, path: &HostPath) -> io::Result<Option<State>> {
        match self.is_own(path.0.parent())? {
            true => observe(&path.below(self.root)),
            false => Ok(None),
        }
    }

    fn is_own(&mut self, directory: Option<&Path>) -> io::Result<bool> {
        let Some(directory) = directory.filter(|d| *d != "/" && !d.as_os_str().is_empty()) else {
            return Ok(true);
        };
        if let Some(known) = self.own.get(directory) {
            return Ok(*known);
        }
        let is = self.is_own(directory.parent())?
            && metadata(&HostPath::from(directory).below(self.root))?.is_some_and(|m| m.is_dir());
        self.own.insert(directory.to_owned(), is);
        Ok(is)
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
