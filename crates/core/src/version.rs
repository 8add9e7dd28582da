//! Version orders, each exactly as the package manager that owns it defines it.
//!
//! A version is text with an order that only its package manager knows. Each scheme is a module of its
//! own and offers the same four things: `compare` (strict: refuses what the package manager refuses),
//! `compare_lenient` (never fails: for versions that others wrote), a parsed `Version` with `Ord`, and a
//! byte key whose plain comparison is the version order, so that versions can be indexed and compared
//! in bulk without knowing their scheme. [`Scheme`] is every one of them by name, with the systems and ecosystems that
//! use it.
//!
//! | scheme | module | used by |
//! |---|---|---|
//! | `deb-version(7)` | [`deb`] | Debian, Ubuntu and everything else with dpkg |
//! | `rpm-version(7)` | [`rpm`] | Red Hat, Rocky, AlmaLinux, Fedora, SUSE, Oracle, Amazon and everything else with rpm |
//! | `apk-package(5)` | [`apk`] | Alpine, Wolfi, Chainguard |
//! | `vercmp(8)` | [`pacman`] | Arch Linux |
//! | Semantic Versioning 2.0.0 | [`semver`] | npm, crates.io, Go and others |
//! | Python's version specifiers (PEP 440) | [`pep440`] | PyPI |
//! | RubyGems | [`gem`] | RubyGems |
//! | Maven's POM reference | [`maven`] | Maven |

pub mod apk;
pub mod deb;
pub mod gem;
pub mod maven;
pub mod pacman;
pub mod pep440;
pub mod rpm;
pub mod semver;

mod number;
#[cfg(test)]
mod oracle;
mod scheme;
mod text;

pub use scheme::{BadVersion, Scheme};
