//! Whom TLS believes: the system's certificate authorities, or those of a file. Feeds and gates ask here.

use super::FetchError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where systems keep them: Debian and Alpine, Red Hat, SUSE, OpenSSL's own.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The certificates of the file, or else of the system (`SSL_CERT_FILE` names others, as OpenSSL has it).
///
/// # Errors
/// In words, what is missing or cannot be used.
pub(crate) fn authorities(
    ca_file: Option<&str>,
) -> Result<(PathBuf, Vec<CertificateDer<'static>>), String> {
    let path = match ca_file {
        Some(file) => PathBuf::from(file),
        None => system().ok_or_else(|| {
            let tried = BUNDLES.join(", ");
            format!(
                "this machine has no certificate authorities ({tried}): install ca-certificates"
            )
        })?,
    };
    let pem = std::fs::read(&path).map_err(|e| cannot(&path, &e))?;
    let found = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
    Ok((path, found))
}

fn cannot(path: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{} cannot be used: {why}", path.display())
}

/// TLS that believes the file's authorities, or else the system's.
pub(super) fn tls(ca_file: Option<&str>) -> Result<Arc<ClientConfig>, FetchError> {
    let (path, found) = authorities(ca_file).map_err(FetchError::Tls)?;
    let cannot = |e: &dyn std::fmt::Display| FetchError::Tls(cannot(&path, e));
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(found);
    if good == 0 {
        return Err(cannot(&"it holds no certificate in PEM"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| cannot(&e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn system() -> Option<PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    named.or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| Path::new(path).is_file()))
}
