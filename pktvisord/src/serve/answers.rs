//! Caches HTTP answers for one second and sends them in small parts.
//!
//! All clients that read an answer share one copy in memory, however slowly they read. All answers
//! that are kept or still read share one budget. Past it, the oldest answers are given up, and the
//! clients that still read them are cut off.

use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::{Frame, SizeHint};
use pktvisor_common::summary::Summary;
use tokio::sync::Semaphore;

use super::error::ApiError;
use super::internal;
use crate::serve::live::Live;
use crate::serve::prometheus::Format;

/// Budget in bytes for all answers that are kept or still read. A single answer may be larger.
const BUDGET: usize = 8 << 20;
/// Maximum number of answers to one question that are kept or still read.
const GENERATIONS: usize = 2;
/// Bytes handed to a connection at once.
const PART: usize = 8 << 10;
/// Minimum size in bytes of an answer that is compressed.
const LEAST_COMPRESSED: usize = 1_024;

/// The subject of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// The daemon's own state.
    App,
    /// Rates of the last second.
    Rates,
    /// The view of a bucket.
    Bucket(u64),
    /// The view of a window.
    Window(u64),
    /// A range of time in Unix seconds, as one view or as one for each `step` seconds.
    Range { from: i64, to: i64, step: Option<i64> },
    /// The stored periods.
    History,
    /// The byte form of a bucket.
    State(u64),
    /// The metrics for Prometheus.
    Metrics(Format),
}

/// Limit answers to one in the making of each kind: more would only wait for one another and pile
/// up. Each kind has a semaphore of its own, so that many requests for slow answers, or for those
/// that read the disk, do not delay others.
static QUICK: Semaphore = Semaphore::const_new(1);
static SLOW: Semaphore = Semaphore::const_new(1);
static DISK: Semaphore = Semaphore::const_new(1);

impl Question {
    fn turn(self) -> &'static Semaphore {
        match self {
            Self::App | Self::Rates | Self::Bucket(_) | Self::Metrics(_) => &QUICK,
            Self::Window(_) | Self::State(_) => &SLOW,
            Self::Range { .. } | Self::History => &DISK,
        }
    }

    /// Returns true if clients share the answer. The daemon's own state changes by itself and is
    /// small, so each request gets a new answer.
    fn is_shared(self) -> bool {
        self != Self::App
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::App
            | Self::Rates
            | Self::Bucket(_)
            | Self::Window(_)
            | Self::Range { .. }
            | Self::History => "application/json",
            Self::State(_) => "application/octet-stream",
            Self::Metrics(format) => format.content_type(),
        })
    }
}

/// Cache of the daemon's answers.
pub(super) struct Answers {
    live: Arc<Live>,
    kept: Mutex<Vec<Kept>>,
}

/// An answer in the cache.
#[derive(Debug)]
struct Kept {
    question: Question,
    is_gzip: bool,
    /// The closed summary that the answer shows. `None` if the subject still changes.
    of: Option<Weak<Summary>>,
    /// Time of the snapshot that the answer was made from. An answer without `of` stays current
    /// until there is a newer snapshot.
    taken: Option<Instant>,
    answer: Arc<Answer>,
}

/// The bytes of an answer, until it is given up.
#[derive(Debug)]
pub(super) struct Answer {
    bytes: Mutex<Option<Bytes>>,
    length: usize,
}

impl Answer {
    pub(super) fn new(bytes: impl Into<Bytes>) -> Arc<Self> {
        let bytes = bytes.into();
        Arc::new(Self { length: bytes.len(), bytes: Mutex::new(Some(bytes)) })
    }

    /// Returns true if the answer has no bytes.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn octets(&self) -> Option<Bytes> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn give_up(&self) {
        *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns a body that sends the answer in parts.
    pub(super) fn body(self: Arc<Self>) -> Body {
        Body::new(Parts { answer: self, at: 0 })
    }
}

/// Body that sends an answer to a client.
struct Parts {
    answer: Arc<Answer>,
    at: usize,
}

/// The client read so slowly that its answer was given up.
#[derive(Debug, thiserror::Error)]
#[error("newer answers replaced this one")]
struct TooSlow;

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = TooSlow;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TooSlow>>> {
        if self.at == self.answer.length {
            return Poll::Ready(None);
        }
        let Some(bytes) = self.answer.octets() else { return Poll::Ready(Some(Err(TooSlow))) };
        let end = (self.at + PART).min(bytes.len());
        // Copied, because a slice would keep the whole buffer alive.
        let part = Bytes::copy_from_slice(&bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.answer.length
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.answer.length - self.at) as u64)
    }
}

/// Returns true if the client accepts gzip (RFC 9110, section 12.5.3).
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        is_gzip && quality.is_none_or(|quality| quality > 0.0)
    })
}

/// Compresses `bytes` with gzip (RFC 1952).
pub(super) fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Sets the headers for content type and encoding.
pub(super) fn describe(response: &mut Response, content_type: HeaderValue, is_gzip: bool) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    if is_gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
}

impl Kept {
    /// Returns true if the answer still matches the summary `of` or, without one, the snapshot time
    /// `taken`.
    fn is_current(&self, of: Option<&Arc<Summary>>, taken: Option<Instant>) -> bool {
        match (&self.of, of) {
            (Some(told), Some(of)) => told.as_ptr() == Arc::as_ptr(of),
            (None, None) => taken.is_some() && self.taken == taken,
            _ => false,
        }
    }
}

impl Answers {
    /// Returns an empty cache for answers about `live`.
    pub(super) fn new(live: Arc<Live>) -> Self {
        Self { live, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a question in an encoding that the client accepts. Takes the answer from the cache,
    /// or makes it with `make`. `of` is the closed summary that the answer shows, or `None` if the
    /// subject still changes.
    pub(super) async fn answer(
        self: &Arc<Self>,
        question: Question,
        of: Option<Arc<Summary>>,
        headers: &HeaderMap,
        make: impl FnOnce() -> Result<Vec<u8>, ApiError> + Send + 'static,
    ) -> Result<Response, ApiError> {
        let takes_gzip = takes_gzip(headers);
        let (answer, is_gzip) = if let Some(found) = self.find(question, takes_gzip, of.as_ref()) {
            found
        } else {
            // A request that times out while it waits here leaves no work behind.
            let turn = question.turn().acquire().await.map_err(internal)?;
            let answers = Arc::clone(self);
            let made = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                answers.find_or_make(question, takes_gzip, of.as_ref(), make)
            });
            made.await.map_err(internal)??
        };
        let mut response = Response::new(answer.body());
        describe(&mut response, question.content_type(), is_gzip);
        Ok(response)
    }

    /// Returns the cached answer, and whether it is compressed.
    fn find(
        &self,
        question: Question,
        takes_gzip: bool,
        of: Option<&Arc<Summary>>,
    ) -> Option<(Arc<Answer>, bool)> {
        if !question.is_shared() {
            return None;
        }
        let taken = self.live.taken();
        let kept = self.kept();
        let find = |is_gzip| {
            let found = kept.iter().rev().find(|kept| {
                kept.question == question && kept.is_gzip == is_gzip && kept.is_current(of, taken)
            });
            found.map(|kept| (Arc::clone(&kept.answer), is_gzip))
        };
        match takes_gzip {
            true => find(true)
                .or_else(|| find(false).filter(|(answer, _)| answer.length < LEAST_COMPRESSED)),
            false => find(false),
        }
    }

    fn find_or_make(
        &self,
        question: Question,
        takes_gzip: bool,
        of: Option<&Arc<Summary>>,
        make: impl FnOnce() -> Result<Vec<u8>, ApiError>,
    ) -> Result<(Arc<Answer>, bool), ApiError> {
        // Another request may have made it in the meantime.
        if let Some(found) = self.find(question, takes_gzip, of) {
            return Ok(found);
        }
        let plain = match self.find(question, false, of).and_then(|(answer, _)| answer.octets()) {
            Some(bytes) => bytes,
            None => Bytes::from(make()?),
        };
        if !takes_gzip || plain.len() < LEAST_COMPRESSED {
            return Ok((self.keep(question, false, of, plain), false));
        }
        let compressed = gzip(&plain).map_err(internal)?;
        Ok((self.keep(question, true, of, compressed.into()), true))
    }

    /// Adds an answer to the cache and gives up the oldest ones past the bounds.
    fn keep(
        &self,
        question: Question,
        is_gzip: bool,
        of: Option<&Arc<Summary>>,
        bytes: Bytes,
    ) -> Arc<Answer> {
        let answer = Answer::new(bytes);
        let taken = self.live.taken();
        let mut kept = self.kept();
        // Drop answers that no client reads and that are out of date.
        kept.retain(|kept| {
            let of = kept.of.as_ref().and_then(Weak::upgrade);
            kept.is_current(of.as_ref(), taken) || Arc::strong_count(&kept.answer) > 1
        });
        kept.push(Kept {
            question,
            is_gzip,
            of: of.map(Arc::downgrade),
            taken,
            answer: Arc::clone(&answer),
        });
        loop {
            let all: usize = kept.iter().map(|kept| kept.answer.length).sum();
            let same = |kept: &Kept| kept.question == question && kept.is_gzip == is_gzip;
            let too_old = kept.iter().filter(|kept| same(kept)).count() > GENERATIONS;
            let oldest = match () {
                () if too_old => kept.iter().position(same),
                () if all > BUDGET && kept.len() > 1 => Some(0),
                () => None,
            };
            let Some(oldest) = oldest else { break };
            kept.remove(oldest).answer.give_up();
        }
        answer
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    use crate::aggregate::settings::Settings;
    use crate::aggregate::workers::WorkerControl;
    use crate::input::status::Status;
    use crate::store::Store;
    use crate::store::minutes::Retention;

    const ALL: Question = Question::Rates;

    /// Returns an empty cache for a daemon that has seen no packets.
    fn answers() -> Arc<Answers> {
        let settings = Settings::default();
        let store = Arc::new(Store::inline(1, Retention { periods: 5, single: false }));
        let (clock, control) = (Arc::default(), WorkerControl::default());
        let status = Arc::new(Status::file("test".to_owned()));
        let live = Live::new(settings.into(), store, clock, control, status, None);
        Arc::new(Answers::new(Arc::new(live)))
    }

    fn bytes(answers: &Arc<Answers>, question: Question, length: usize, fill: u8) -> Arc<Answer> {
        answers.keep(question, false, None, vec![fill; length].into())
    }

    #[test]
    fn gives_up_oldest_answers_past_the_bounds() {
        let answers = answers();
        let three = [1, 2, 3].map(|fill| bytes(&answers, ALL, 10, fill));
        assert_eq!(three.each_ref().map(|answer| answer.octets().is_some()), [false, true, true]);
        let large = bytes(&answers, Question::Window(1), BUDGET, 4);
        assert!(three.iter().all(|answer| answer.octets().is_none()));
        let larger = bytes(&answers, Question::Window(2), BUDGET + 1, 5);
        assert!(large.octets().is_none() && larger.octets().is_some());
        assert_eq!(answers.kept().len(), 1);
    }

    #[test]
    fn keeps_answer_about_closed_summary() {
        let answers = answers();
        let closed = Arc::new(Summary::default());
        let other = Arc::new(Summary::default());
        let state = Question::State(1);
        let make = || Ok(vec![7; 10]);
        let (first, _) = answers.find_or_make(state, false, Some(&closed), make).unwrap();
        let (again, _) =
            answers.find_or_make(state, false, Some(&closed), || panic!("it is there")).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert!(answers.find(state, false, Some(&other)).is_none());
        assert!(answers.find(state, false, None).is_none());
    }

    #[test]
    fn shares_answer_until_there_is_a_newer_snapshot() {
        let answers = answers();
        let make = |answers: &Answers| {
            let make = || {
                answers.live.cumulative();
                Ok(vec![1])
            };
            answers.find_or_make(ALL, false, None, make).unwrap().0
        };
        let first = make(&answers);
        assert!(Arc::ptr_eq(&first, &make(&answers)));
        std::thread::sleep(std::time::Duration::from_millis(1_050));
        assert!(!Arc::ptr_eq(&first, &make(&answers)));
    }

    #[tokio::test]
    async fn sends_whole_bodies_or_fails() {
        let answers = answers();
        let long: Vec<u8> = (0..3 * PART + 5).map(|at| at as u8).collect();
        let body = answers.keep(ALL, false, None, long.clone().into()).body();
        assert_eq!(axum::body::to_bytes(body, usize::MAX).await.unwrap(), long);
        let given_up = answers.keep(ALL, false, None, long.into());
        let body = Arc::clone(&given_up).body();
        given_up.give_up();
        assert!(axum::body::to_bytes(body, usize::MAX).await.is_err());
        let empty = answers.keep(ALL, false, None, Bytes::new()).body();
        assert_eq!(axum::body::to_bytes(empty, usize::MAX).await.unwrap(), "");
    }

    #[test]
    fn recognizes_clients_that_accept_gzip() {
        for (accepted, takes) in [
            ("", false),
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("br", false),
            ("x-gzip2", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, accepted.parse().unwrap());
            assert_eq!(takes_gzip(&headers), takes, "{accepted}");
        }
    }
}
