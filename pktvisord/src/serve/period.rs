//! The number of a bucket or window in a path.

use std::fmt;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;

use super::error::ApiError;
use crate::serve::live::{Live, PeriodError};

/// Meaning of the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeriodKind {
    /// One minute: 0 is the live one.
    Bucket,
    /// The newest minutes merged: 1 is the live one alone.
    Window,
}

impl PeriodKind {
    /// Returns the lowest valid number.
    fn first(self) -> u64 {
        match self {
            PeriodKind::Bucket => 0,
            PeriodKind::Window => 1,
        }
    }

    /// Returns the valid numbers if there are `count` buckets, or `None` if there are none.
    pub(super) fn range(self, count: u64) -> Option<PeriodRange> {
        let last = (self.first() + count).checked_sub(1)?;
        (last >= self.first()).then_some(PeriodRange { kind: self, first: self.first(), last })
    }
}

impl fmt::Display for PeriodKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeriodKind::Bucket => "bucket",
            PeriodKind::Window => "window",
        })
    }
}

/// The valid numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PeriodRange {
    kind: PeriodKind,
    first: u64,
    last: u64,
}

impl fmt::Display for PeriodRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, first, last } = self;
        write!(f, "{kind}/{first}")?;
        if first < last {
            write!(f, " to {kind}/{last}")?;
        }
        Ok(())
    }
}

/// Number of a bucket.
pub(super) struct Bucket(pub(super) u64);

/// Length of a window in buckets.
pub(super) struct Window(pub(super) u64);

impl FromRequestParts<Arc<Live>> for Bucket {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, live: &Arc<Live>) -> Result<Self, ApiError> {
        parse(PeriodKind::Bucket, parts, live).await.map(Bucket)
    }
}

impl FromRequestParts<Arc<Live>> for Window {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, live: &Arc<Live>) -> Result<Self, ApiError> {
        parse(PeriodKind::Window, parts, live).await.map(Window)
    }
}

async fn parse(kind: PeriodKind, parts: &mut Parts, live: &Arc<Live>) -> Result<u64, ApiError> {
    let range = kind.range(live.periods()).ok_or(ApiError::NoneYet)?;
    // A path that is not UTF-8 is not a number either.
    let params = RawPathParams::from_request_parts(parts, live).await;
    let text = params.as_ref().ok().and_then(|params| params.iter().next()).map_or("", |(_, n)| n);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ApiError::NotANumber(range));
    }
    // It has digits only, so a parse error means that the number is too large.
    match text.parse() {
        Ok(n) if (range.first..=range.last).contains(&n) => Ok(n),
        _ => Err(ApiError::OutOfRange(range)),
    }
}

/// Converts an error about a period into the one for the client.
pub(super) fn unavailable(kind: PeriodKind, error: PeriodError) -> ApiError {
    let (count, to_error): (u64, fn(PeriodRange) -> ApiError) = match error {
        PeriodError::OtherPorts => return ApiError::OtherPorts,
        PeriodError::NotYet { available } => (available, ApiError::NotYet),
        PeriodError::OutOfRange { periods } => (periods, ApiError::OutOfRange),
    };
    kind.range(count).map_or(ApiError::NoneYet, to_error)
}
