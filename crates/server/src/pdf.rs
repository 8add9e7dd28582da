//! A document printed to PDF by Chromium, where that is installed.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What Chromium is called.
const CHROMIUM: [&str; 4] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// A document of any fleet is printed in seconds.
const PATIENCE: Duration = Duration::from_secs(90);

/// Why there is no PDF.
#[derive(Debug, thiserror::Error)]
pub enum NoPdf {
    /// No Chromium is installed.
    #[error("no Chromium is installed here, and it is what makes the PDF")]
    NotInstalled,
    /// It made none.
    #[error("{program} made no PDF: {said}")]
    Made {
        /// What was run.
        program: &'static str,
        /// The last line that it said.
        said: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Has Chromium print the document into a file in `scratch`, an empty directory of the caller's, and gives its bytes.
/// Chromium reads the document and no network.
///
/// # Errors
/// [`NoPdf`].
pub fn print(document: &[u8], scratch: &Path) -> Result<Vec<u8>, NoPdf> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| NoPdf::File { path, error }
    };
    let scratch = std::path::absolute(scratch).map_err(at(scratch))?;
    let (page, file) = (scratch.join("report.html"), scratch.join("report.pdf"));
    std::fs::write(&page, document).map_err(at(&page))?;
    for program in CHROMIUM {
        let told = scratch.join("said");
        let said = File::create(&told).map_err(at(&told))?;
        let ran = Command::new(program)
            .args(["--headless", "--disable-gpu", "--no-pdf-header-footer"])
            // The page has no script and comes from this program; root has no sandbox of Chromium's.
            .args(if is_root() { &["--no-sandbox"][..] } else { &[] })
            .arg(format!("--user-data-dir={}", scratch.join("profile").display()))
            .arg(format!("--print-to-pdf={}", file.display()))
            .arg(format!("file://{}", page.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn();
        let mut child = match ran {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(at(Path::new(program)))?,
        };
        let status = ended(&mut child).map_err(at(Path::new(program)))?;
        if status.is_some_and(|status| status.success())
            && let Ok(bytes) = std::fs::read(&file)
            && bytes.starts_with(b"%PDF-")
        {
            return Ok(bytes);
        }
        let said = std::fs::read(&told).unwrap_or_default();
        let said = last_line(&said, status);
        return Err(NoPdf::Made { program, said });
    }
    Err(NoPdf::NotInstalled)
}

fn last_line(said: &[u8], status: Option<ExitStatus>) -> String {
    let said = String::from_utf8_lossy(said);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let last: String = last.chars().filter(|c| !c.is_control()).take(300).collect();
    match status {
        None => format!("it did not end within {} s", PATIENCE.as_secs()),
        Some(status) if last.is_empty() => {
            let how: &dyn fmt::Display = &status;
            format!("it said nothing ({how})")
        }
        Some(_) => last,
    }
}

/// How the child ended. `None`: it did not in time, and was killed.
fn ended(child: &mut std::process::Child) -> io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}
