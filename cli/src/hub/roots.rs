//! Whom a hub's certificate must come from.
//!
//! In: the file that `SSL_CERT_FILE` names, if it names one. Out: its certificates, which then count instead of those that tern carries
//! (Mozilla's), as with OpenSSL. A file that is not there or has none is an error: it was named for a reason.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

/// The longest file; the whole of Mozilla's has a quarter of a megabyte.
const MAX_BYTES: u64 = 16 << 20;

/// The roots to trust.
pub(super) fn roots(file: Option<&Path>) -> Result<RootCerts> {
    let Some(path) = file else { return Ok(RootCerts::WebPki) };
    let shown = path.display();
    let mut pem = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut pem));
    read.with_context(|| format!("cannot read {shown}, which SSL_CERT_FILE names"))?;
    if pem.len() as u64 > MAX_BYTES {
        bail!("{shown}, which SSL_CERT_FILE names, has more than {MAX_BYTES} bytes");
    }
    let mut found: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&pem) {
        let item = item.with_context(|| format!("{shown}, which SSL_CERT_FILE names, is no PEM file"))?;
        if let PemItem::Certificate(certificate) = item {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        bail!("{shown}, which SSL_CERT_FILE names, has no certificate in PEM (-----BEGIN CERTIFICATE-----)");
    }
    Ok(RootCerts::new_with_certs(&found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_or_missed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("roots.pem");
        assert!(matches!(roots(None), Ok(RootCerts::WebPki)));
        assert!(roots(Some(&path)).expect_err("no file").to_string().contains("SSL_CERT_FILE"));
        let item = |name: &str| format!("-----BEGIN {name}-----\nAAAA\n-----END {name}-----\n");
        for (text, count) in [
            (String::new(), None),
            ("no PEM at all".to_owned(), None),
            (item("PRIVATE KEY"), None),
            (item("CERTIFICATE"), Some(1)),
            (item("CERTIFICATE") + "# and\n" + &item("PRIVATE KEY") + &item("CERTIFICATE"), Some(2)),
        ] {
            std::fs::write(&path, &text).expect("a file");
            let found = match roots(Some(&path)) {
                Ok(RootCerts::Specific(all)) => Some(all.len()),
                Ok(_) | Err(_) => None,
            };
            assert_eq!(found, count, "{text}");
        }
    }
}
