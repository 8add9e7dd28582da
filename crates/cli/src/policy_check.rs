//! `fettle policy check`: file, line and column, the line itself with a caret, and what to write instead.

use crate::output::line;
use fettle_core::policy::Policy;
use fettle_core::{Problem, ProblemKind};
use std::path::{Path, PathBuf};

/// Checks files; prints what is wrong in each, and fails when anything is.
pub(crate) fn check(files: &[PathBuf]) -> Result<(), Problem> {
    let mut wrong = 0;
    for file in files {
        let text = read(file)?;
        match Policy::parse(&text) {
            Ok(policy) => line(&format!(
                "{}: policy `{}`, {} rings, {} classes, {} windows: well-formed",
                file.display(),
                policy.name,
                policy.rings.len(),
                policy.classes.len(),
                policy.windows.len()
            )),
            Err(errors) => {
                wrong += errors.len();
                for error in &errors {
                    line(&report(
                        file,
                        &text,
                        error.line,
                        error.column,
                        &error.message,
                        &error.hint,
                    ));
                }
            }
        }
    }
    match wrong {
        0 => Ok(()),
        1 => Err(malformed("1 mistake")),
        n => Err(malformed(&format!("{n} mistakes"))),
    }
}

/// Reads a policy's text.
pub(crate) fn read(file: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(file).map_err(|error| {
        Problem::new(
            ProblemKind::BadInput,
            "policy-unreadable",
            format!("{} cannot be read: {error}", file.display()),
            "name a TOML file; examples are in examples/policies/",
        )
    })
}

fn malformed(what: &str) -> Problem {
    Problem::new(
        ProblemKind::BadInput,
        "policy-malformed",
        format!("{what} found"),
        "mend the lines above and check again",
    )
}

fn report(file: &Path, text: &str, number: u32, column: u32, message: &str, hint: &str) -> String {
    let source = text.lines().nth(number.saturating_sub(1) as usize).unwrap_or_default();
    let caret = " ".repeat(column.saturating_sub(1) as usize);
    let margin = " ".repeat(number.to_string().len());
    let mut out = format!(
        "{}:{number}:{column}: {message}\n{number} | {source}\n{margin} | {caret}^",
        file.display()
    );
    if !hint.is_empty() {
        out.push_str(&format!("\n{margin} → {hint}"));
    }
    out
}
