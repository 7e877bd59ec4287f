//! HTTP client of pktvisord.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use pktvisor_common::api::{AppMetrics, ErrorBody, MetricsView, Range, Rates, Views};
use pktvisor_common::moment::Moment;
use pktvisor_common::report::printable;
use pktvisor_common::summary::state::MAX_BYTES;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;
use ureq::http::header::AUTHORIZATION;
use ureq::http::{Response, StatusCode};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

use crate::address::Address;
use crate::credentials::Credentials;
use crate::past::Past;

/// Time limit for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for a whole request. pktvisord itself stops making an answer after 10 s.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A bucket, a window, or any range of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Period {
    /// One minute; 0 is the live one.
    Bucket(u64),
    /// This many minutes merged.
    Window(u64),
    /// The time between two moments, merged.
    Range { from: Moment, to: Moment },
}

impl Period {
    /// Returns the number of minutes that the daemon needs to have kept.
    fn minutes(self) -> u64 {
        match self {
            Period::Bucket(n) => n.saturating_add(1),
            Period::Window(n) => n.max(1),
            Period::Range { .. } => 1,
        }
    }

    /// Returns a period of the same kind that needs `minutes` minutes, at least one.
    fn of_minutes(self, minutes: u64) -> Self {
        match self {
            Period::Bucket(_) => Period::Bucket(minutes.saturating_sub(1)),
            Period::Window(_) => Period::Window(minutes),
            Period::Range { .. } => self,
        }
    }
}

impl Default for Period {
    fn default() -> Self {
        Self::Window(crate::cli::DEFAULT_WINDOW)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Period::Bucket(n) => write!(f, "bucket {n}"),
            Period::Window(n) => write!(f, "window {n}"),
            Period::Range { from, to } => write!(f, "{from} to {to}"),
        }
    }
}

/// A view and the JSON it was decoded from.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) period: Period,
    pub(crate) view: MetricsView,
    /// Facts about a range.
    pub(crate) past: Option<Past>,
    pub(crate) json: String,
}

impl Fetched {
    /// Returns the paths that the daemon left out of the view: none if it is as new as this
    /// program.
    pub(crate) fn missing(&self) -> Vec<String> {
        let told: Value = serde_json::from_str(&self.json).unwrap_or_default();
        let told = match self.past {
            Some(_) => told.pointer("/parts/0/metrics"),
            None => told.as_object().and_then(|views| views.values().next()),
        };
        let all = serde_json::to_value(&self.view).unwrap_or_default();
        let mut missing = Vec::new();
        left_out(told.unwrap_or(&Value::Null), &all, "", &mut missing);
        missing
    }
}

/// Adds the paths that are in `all` but not in `told`.
fn left_out(told: &Value, all: &Value, path: &str, missing: &mut Vec<String>) {
    for (name, all) in all.as_object().into_iter().flatten() {
        let path = format!("{path}/{name}");
        match told.get(name) {
            Some(told) => left_out(told, all, &path, missing),
            None => missing.push(path),
        }
    }
}

/// Reason why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("{address} refused the connection: is pktvisord running there?")]
    Refused { address: Address },
    #[error("cannot reach {address}: {}", printable(&unreached(.source)))]
    Unreachable { address: Address, source: ureq::Error },
    #[error("{address} answered {}: {}{}", .status.as_u16(), printable(.error), hint(*.status))]
    Answer { address: Address, status: StatusCode, error: String },
    #[error(
        "{address} answered {}, but not like pktvisord: {}",
        .status.as_u16(),
        printable(&.source.to_string())
    )]
    Unintelligible { address: Address, status: StatusCode, source: serde_json::Error },
}

/// Describes why a daemon cannot be reached, with a hint.
fn unreached(source: &ureq::Error) -> String {
    match source {
        ureq::Error::Io(error) if error.to_string().contains("UnknownIssuer") => {
            format!("{error}; name its certificate authority with --ca FILE")
        }
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Protocol(_) => {
            "it does not speak HTTP; if it uses TLS, use https://".to_owned()
        }
        other => other.to_string(),
    }
}

/// Returns a hint for an error status.
fn hint(status: StatusCode) -> &'static str {
    if status == StatusCode::UNAUTHORIZED {
        "; name a token file with --token-file FILE"
    } else {
        ""
    }
}

/// Client of one pktvisord.
pub(crate) struct Client<'a> {
    address: &'a Address,
    credentials: &'a Credentials,
}

/// Returns an HTTP agent with this TLS configuration.
pub(crate) fn agent(tls: TlsConfig) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_global(Some(TIMEOUT))
        .tls_config(tls)
        .user_agent(concat!("pktvisor/", env!("CARGO_PKG_VERSION")));
    config.build().into()
}

impl<'a> Client<'a> {
    /// Returns a client of the pktvisord at `address`. Does not connect.
    pub(crate) fn new(address: &'a Address, credentials: &'a Credentials) -> Self {
        Self { address, credentials }
    }

    fn call(&self, path: &str) -> Result<Response<Body>, Error> {
        let mut request = self.credentials.agent.get(self.address.route(path));
        if let Some(authorization) = &self.credentials.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.call().map_err(|error| self.unreachable(error))
    }

    /// Fetches the view of a period.
    pub(crate) fn fetch(&self, period: Period) -> Result<Fetched, Error> {
        let path = match period {
            Period::Bucket(n) => format!("/api/v1/metrics/bucket/{n}"),
            Period::Window(n) => format!("/api/v1/metrics/window/{n}"),
            Period::Range { from, to } => {
                let path = format!("/api/v1/metrics/range?from={from}&to={to}");
                let (OneRange(past, view), json) = self.get(&path)?;
                return Ok(Fetched { period, view, past: Some(past), json });
            }
        };
        let (views, json): (OneView, String) = self.get(&path)?;
        Ok(Fetched { period, view: views.0, past: None, json })
    }

    /// Fetches a range as one view for each `step` seconds, a multiple of 60.
    pub(crate) fn series(&self, from: i64, to: i64, step: u64) -> Result<Range, Error> {
        let step = step / 60;
        let from = from.max(0);
        Ok(self.get(&format!("/api/v1/metrics/range?from={from}&to={to}&step={step}m"))?.0)
    }

    /// Fetches the view of a period or of the nearest one available: a shorter window or a newer
    /// bucket. The daemon keeps `periods` minutes. `found` is the period that was available last
    /// time; one more minute may have become available since.
    pub(crate) fn fetch_nearest(
        &self,
        period: Period,
        periods: u64,
        found: Option<Period>,
    ) -> Result<Fetched, Error> {
        let periods = periods.max(1);
        let wanted = period.minutes().min(periods);
        let known = found.map_or(periods, |found| found.minutes().saturating_add(1));
        match self.fetch(period.of_minutes(wanted.min(known))) {
            Err(Error::Answer { status: StatusCode::NOT_FOUND, .. }) if wanted.min(known) > 1 => {}
            result => return result,
        }
        // At least `there` minutes are available, but fewer than `missing`.
        let (mut there, mut missing) = (1, wanted.min(known));
        let mut nearest = None;
        while missing - there > 1 || nearest.is_none() {
            let middle = there + (missing - there) / 2;
            match self.fetch(period.of_minutes(middle)) {
                Ok(fetched) => (there, nearest) = (middle, Some(fetched)),
                Err(Error::Answer { status: StatusCode::NOT_FOUND, .. }) if middle > 1 => {
                    missing = middle;
                }
                Err(error) => return Err(error),
            }
        }
        nearest.map_or_else(|| self.fetch(period.of_minutes(there)), Ok)
    }

    /// Fetches the daemon's own state.
    pub(crate) fn app(&self) -> Result<AppMetrics, Error> {
        Ok(self.get("/api/v1/metrics/app")?.0)
    }

    /// Fetches the rates of the last second.
    pub(crate) fn rates(&self) -> Result<Rates, Error> {
        Ok(self.get("/api/v1/metrics/rates")?.0)
    }

    /// Fetches the byte form of a bucket.
    pub(crate) fn state(&self, n: u64) -> Result<Vec<u8>, Error> {
        let mut response = self.call(&format!("/api/v1/state/bucket/{n}"))?;
        let body = response.body_mut().with_config().limit(MAX_BYTES as u64);
        let bytes = body.read_to_vec().map_err(|e| self.unreachable(e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(bytes);
        }
        let error = String::from_utf8_lossy(&bytes).into_owned();
        Err(Error::Answer { address: self.address.clone(), status, error })
    }

    /// Fetches a path and returns the answer with its JSON.
    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<(T, String), Error> {
        let mut response = self.call(path)?;
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

/// The only part of a range.
struct OneRange(Past, MetricsView);

impl<'de> serde::Deserialize<'de> for OneRange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let range = Range::deserialize(deserializer)?;
        let count = range.parts.len();
        let part = Past::of(range).filter(|_| count == 1);
        let error = || serde::de::Error::invalid_length(count, &"one part");
        part.map(|(past, view)| Self(past, view)).ok_or_else(error)
    }
}

/// The only view of an answer, which is stored under the name of its period.
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
