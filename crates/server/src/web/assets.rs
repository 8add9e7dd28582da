//! The files the pages need, built into the program.

/// A file, as it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
}

/// The file below `/assets/`, by name.
///
/// Names do not change with content, so send them with `Cache-Control: no-cache` and an `ETag`, or for a
/// short time only.
pub fn get(name: &str) -> Option<Asset> {
    let (content_type, bytes): (_, &'static [u8]) = match name {
        "style.css" => ("text/css; charset=utf-8", include_bytes!("assets/style.css")),
        "live.js" => ("text/javascript; charset=utf-8", include_bytes!("assets/live.js")),
        "icon.svg" => ("image/svg+xml", include_bytes!("assets/icon.svg")),
        _ => return None,
    };
    Some(Asset { content_type, bytes })
}
