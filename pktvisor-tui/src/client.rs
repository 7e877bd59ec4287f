//! Asking a pktvisord.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use pktvisor_common::api::{AppMetrics, ErrorBody, MetricsView, Views};
use pktvisor_common::report::printable;
use serde::de::DeserializeOwned;
use thiserror::Error;
use ureq::Agent;
use ureq::http::StatusCode;

use crate::address::Address;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for a whole answer; pktvisord gives up making one after 10 s.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A bucket or a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Period {
    /// One minute; 0 is the live one.
    Bucket(u64),
    /// So many minutes merged.
    Window(u64),
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Period::Bucket(n) => write!(f, "bucket {n}"),
            Period::Window(n) => write!(f, "window {n}"),
        }
    }
}

/// A view and the JSON it came in.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) period: Period,
    pub(crate) view: MetricsView,
    pub(crate) json: String,
}

/// Why there is no answer to show.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("{address} refused the connection: is pktvisord running there?")]
    Refused { address: Address },
    #[error("cannot reach {address}: {}", printable(&.source.to_string()))]
    Unreachable { address: Address, source: ureq::Error },
    #[error("{address} answered {}: {}", .status.as_u16(), printable(.error))]
    Answer { address: Address, status: StatusCode, error: String },
    #[error(
        "{address} answered {}, but not as pktvisord does: {}",
        .status.as_u16(),
        printable(&.source.to_string())
    )]
    Unintelligible { address: Address, status: StatusCode, source: serde_json::Error },
}

/// Asks one pktvisord.
pub(crate) struct Client<'a> {
    address: &'a Address,
    agent: Agent,
}

impl<'a> Client<'a> {
    /// A client of the pktvisord at `address`; no connection is made yet.
    pub(crate) fn new(address: &'a Address) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(TIMEOUT))
            .user_agent(concat!("pktvisor/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { address, agent: config.into() }
    }

    /// The view of a period.
    pub(crate) fn fetch(&self, period: Period) -> Result<Fetched, Error> {
        let path = match period {
            Period::Bucket(n) => format!("/api/v1/metrics/bucket/{n}"),
            Period::Window(n) => format!("/api/v1/metrics/window/{n}"),
        };
        let (views, json): (OneView, String) = self.get(&path)?;
        Ok(Fetched { period, view: views.0, json })
    }

    /// The view of the longest window there is of up to `most` minutes.
    pub(crate) fn fetch_widest(&self, most: u64) -> Result<Fetched, Error> {
        let (app, _): (AppMetrics, String) = self.get("/api/v1/metrics/app")?;
        let mut n = app.app.periods.clamp(1, most);
        loop {
            match self.fetch(Period::Window(n)) {
                Err(Error::Answer { status: StatusCode::NOT_FOUND, .. }) if n > 1 => n -= 1,
                result => return result,
            }
        }
    }

    /// An answer, and the JSON it came in.
    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<(T, String), Error> {
        let mut response =
            self.agent.get(self.address.route(path)).call().map_err(|e| self.unreachable(e))?;
        let json = response.body_mut().read_to_string().map_err(|e| self.unreachable(e))?;
        let status = response.status();
        let unintelligible =
            |source| Error::Unintelligible { address: self.address.clone(), status, source };
        if status.is_success() {
            let answer = serde_json::from_str(&json).map_err(unintelligible)?;
            Ok((answer, json))
        } else {
            let ErrorBody { error } = serde_json::from_str(&json).map_err(unintelligible)?;
            Err(Error::Answer { address: self.address.clone(), status, error })
        }
    }

    fn unreachable(&self, source: ureq::Error) -> Error {
        let address = self.address.clone();
        match source {
            ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                Error::Refused { address }
            }
            source => Error::Unreachable { address, source },
        }
    }
}

/// The view of an answer, which holds exactly one under the name of its period.
struct OneView(MetricsView);

impl<'de> serde::Deserialize<'de> for OneView {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let views = Views::deserialize(deserializer)?;
        let count = views.len();
        match views.into_values().next() {
            Some(view) if count == 1 => Ok(Self(view)),
            _ => Err(serde::de::Error::invalid_length(count, &"one view")),
        }
    }
}
