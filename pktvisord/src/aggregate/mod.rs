//! Turns packets into summaries: matches related packets and counts them in the bucket of the live minute.

mod addresses;
pub mod anonymize;
pub(crate) mod batch;
pub(crate) mod bucket;
pub(crate) mod divided;
pub(crate) mod dns;
pub mod flows;
pub mod front;
pub mod geo;
pub mod host;
pub(crate) mod minute_clock;
pub(crate) mod names;
pub mod pipeline;
pub mod scanner;
pub mod settings;
pub(crate) mod transaction;
pub mod worker;
pub(crate) mod workers;
