//! Spans: what the server did, for how long, and how it ended. Nobody sees them unless something listens, as `otlp` does.

use fettle_core::Problem;
use tracing::Span;

/// What spans that are meant for others are known by. In the log they are below its usual level.
pub(crate) const TARGET: &str = "fettle::trace";

/// A span of this name with these fields: `traced!("check-in", host = %host)`. Names and the names of fields are closed lists;
/// what hosts and people call things stands in values.
macro_rules! traced {
    ($name:literal $(, $($field:tt)+)?) => {
        tracing::debug_span!(target: crate::spans::TARGET, $name, error = tracing::field::Empty $(, $($field)+)?)
    };
}
pub(crate) use traced;

/// Works within a span, which says with which code the work ended where it failed.
pub(crate) fn within<T>(
    span: Span,
    work: impl FnOnce() -> Result<T, Problem>,
) -> Result<T, Problem> {
    let out = span.in_scope(work);
    ended(&span, &out);
    out
}

/// Notes how it ended.
pub(crate) fn ended<T>(span: &Span, out: &Result<T, Problem>) {
    if let Err(problem) = out {
        span.record("error", problem.code.as_str());
    }
}
