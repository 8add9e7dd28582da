//! Version orders, each exactly as the package manager that owns it defines it.
//!
//! A version is text with an order that only its package manager knows. Each scheme is a module of its
//! own and offers the same four things: `compare` (strict: refuses what the package manager refuses),
//! `compare_lenient` (never fails: for versions that others wrote), a parsed `Version` with `Ord`, and a
//! byte key whose plain comparison is the version order, so that versions can be indexed and compared
//! in bulk without knowing their scheme.
//!
//! | scheme | module | used by |
//! |---|---|---|
//! | `deb-version(7)` | [`deb`] | Debian, Ubuntu and everything else with dpkg |

pub mod deb;

mod number;
mod text;
