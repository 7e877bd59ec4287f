//! From packets to summaries: what belongs together is found, and added up until a minute is closed.

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
