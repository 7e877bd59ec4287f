//! Addresses of daemons.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;
use ureq::http::Uri;

/// Default port of pktvisord.
pub(crate) const DEFAULT_PORT: u16 = 10853;

/// Base URL of the routes of a pktvisord, without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address(String);

/// Reason why a text is not an address.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum AddressError {
    #[error("unsupported scheme {0}: use http or https")]
    Scheme(String),
    #[error("invalid port {0:?}")]
    Port(String),
    #[error("missing host")]
    NoHost,
    #[error("invalid address {0:?}: expected HOST, HOST:PORT or https://HOST:PORT")]
    Invalid(String),
}

impl Address {
    /// Returns the address of a host: a name, an IPv4 address, or an IPv6 address without brackets.
    pub(crate) fn new(host: &str, port: u16) -> Self {
        match host.parse::<Ipv6Addr>() {
            Ok(_) => Self(format!("http://[{host}]:{port}")),
            Err(_) => Self(format!("http://{host}:{port}")),
        }
    }

    /// Returns true if the connection uses TLS.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// Returns true if the address is `localhost` or a loopback address. Names are not resolved.
    pub(crate) fn is_loopback(&self) -> bool {
        let url = self.0.parse::<Uri>().unwrap_or_default();
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    }

    /// Returns the URL of a route.
    pub(crate) fn route(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let address = Self::read(text)?;
        // Reject an address that is not a valid URL before any request.
        match address.0.parse::<Uri>() {
            Ok(url) if url.host().is_some_and(|host| !host.is_empty()) => Ok(address),
            _ => Err(AddressError::Invalid(text.to_owned())),
        }
    }
}

impl Address {
    fn read(text: &str) -> Result<Self, AddressError> {
        match text.split_once("://") {
            Some(("http" | "https", rest)) if rest.starts_with(['/', ':']) || rest.is_empty() => {
                Err(AddressError::NoHost)
            }
            Some(("http" | "https", _)) => Ok(Self(text.trim_end_matches('/').to_owned())),
            Some((scheme, _)) => Err(AddressError::Scheme(scheme.to_owned())),
            None if text.parse::<Ipv6Addr>().is_ok() => Ok(Self::new(text, DEFAULT_PORT)),
            None => match text.rsplit_once(':') {
                _ if text.is_empty() || text.starts_with(':') => Err(AddressError::NoHost),
                // In a bracketed address without a port, the last colon is inside the brackets.
                Some((host, port)) if !port.ends_with(']') => match port.parse() {
                    Ok(port) => Ok(Self::new(host, port)),
                    Err(_) => Err(AddressError::Port(port.to_owned())),
                },
                _ => Ok(Self::new(text, DEFAULT_PORT)),
            },
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.strip_prefix("http://").unwrap_or(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_hosts_ports_and_urls() {
        for (text, url) in [
            ("sensor", "http://sensor:10853"),
            ("sensor:80", "http://sensor:80"),
            ("192.0.2.1", "http://192.0.2.1:10853"),
            ("192.0.2.1:81", "http://192.0.2.1:81"),
            ("::1", "http://[::1]:10853"),
            ("[::1]", "http://[::1]:10853"),
            ("[::1]:82", "http://[::1]:82"),
            ("http://sensor/", "http://sensor"),
            ("https://sensor:443/", "https://sensor:443"),
            ("http://proxy:83/sensors/7", "http://proxy:83/sensors/7"),
        ] {
            assert_eq!(text.parse(), Ok(Address(url.to_owned())), "{text}");
        }
        assert_eq!(Address::new("::1", 84), Address("http://[::1]:84".to_owned()));
        assert_eq!(Address::new("::1", 84).route("/docs"), "http://[::1]:84/docs");
    }

    #[test]
    fn reports_why_an_address_is_invalid() {
        for (text, error) in [
            ("", AddressError::NoHost),
            (":80", AddressError::NoHost),
            ("http://", AddressError::NoHost),
            ("http://:80", AddressError::NoHost),
            ("sensor:http", AddressError::Port("http".to_owned())),
            ("sensor:65536", AddressError::Port("65536".to_owned())),
            ("sensor:", AddressError::Port(String::new())),
            ("https://", AddressError::NoHost),
            ("ftp://sensor", AddressError::Scheme("ftp".to_owned())),
            ("http://[::1", AddressError::Invalid("http://[::1".to_owned())),
            ("[::1", AddressError::Invalid("[::1".to_owned())),
            ("http://a b", AddressError::Invalid("http://a b".to_owned())),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
    }
}
