#![no_main]

include!("common/capture.rs");
