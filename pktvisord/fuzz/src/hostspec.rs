//! HOSTSPEC: an accepted one contains the addresses that it names.

use std::net::IpAddr;

use pktvisord::aggregate::host::HostSpec;

/// Parses the input as a HOSTSPEC.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match text.parse::<HostSpec>() {
        Ok(spec) => {
            assert!(!spec.is_empty());
            for part in text.split(',') {
                let address = part.split('/').next().unwrap_or_default();
                let contained = match address.trim().parse() {
                    Ok(IpAddr::V4(address)) => spec.contains_v4(address.octets()),
                    Ok(IpAddr::V6(address)) => spec.contains_v6(address.octets()),
                    Err(_) => false,
                };
                assert!(contained, "{part}");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
