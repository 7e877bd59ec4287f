//! Turns packets into summaries: matches related packets and counts them in the bucket of the live minute.

pub mod anonymize;
pub mod batch;
pub mod bucket;
pub mod counts;
pub mod divided;
pub mod dns;
pub mod flows;
pub mod front;
pub mod geo;
pub mod host;
pub mod minute_clock;
pub mod pipeline;
pub mod scanner;
pub mod settings;
pub mod transaction;
pub mod worker;
pub mod workers;
