//! Describes problems of certificates and keys.

use std::path::Path;

/// Describes why a certificate cannot be used with this key.
pub fn mismatch(error: &rustls::Error, key: &Path) -> String {
    let key = key.display();
    match error {
        rustls::Error::InconsistentKeys(_) => format!("{key} is not its private key"),
        // rustls shows only the name of this error.
        other if other.to_string().contains("UnsupportedCertVersion") => {
            "a certificate of version 1, but version 3 is needed: `openssl x509 -req` makes one with \
             -extfile FILE, where FILE says basicConstraints=CA:FALSE"
                .to_owned()
        }
        other => format!("it cannot be used with {key}: {other}"),
    }
}
