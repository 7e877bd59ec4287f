//! Describes problems of certificates and keys.

use std::path::Path;

/// Describes why a certificate cannot be used with this key.
pub fn mismatch(error: &rustls::Error, key: &Path) -> String {
    let key = key.display();
    match error {
        rustls::Error::InconsistentKeys(_) => format!("{key} is not its private key"),
        // rustls shows only the name of this error.
        other if other.to_string().contains("UnsupportedCertVersion") => {
            "the certificate has version 1, but version 3 is required: create one with `openssl x509 \
             -req -extfile FILE`, where FILE contains basicConstraints=CA:FALSE"
                .to_owned()
        }
        other => format!("cannot use the certificate with the key {key}: {other}"),
    }
}
