//! What is wrong with certificates and keys, in words.

use std::path::Path;

/// Why a certificate can't be used with this key, in words.
pub fn mismatch(error: &rustls::Error, key: &Path) -> String {
    let key = key.display();
    match error {
        rustls::Error::InconsistentKeys(_) => format!("{key} is not its private key"),
        // Of these rustls only shows the name.
        other if other.to_string().contains("UnsupportedCertVersion") => {
            "the certificate has version 1, but version 3 is required: create one with `openssl x509 \
             -req -extfile FILE`, where FILE contains basicConstraints=CA:FALSE"
                .to_owned()
        }
        other => format!("cannot use the certificate with the key {key}: {other}"),
    }
}
