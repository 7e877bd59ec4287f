//! What the kernel programs, the daemon and the dashboard of pktvisor share.
//!
//! * [`packet`]: the one walk over the headers of a packet, for the kernel and for user space.
//! * [`flow`]: the symmetric hash that keeps both directions of a flow together.
//! * [`outcome`]: what can become of a packet; every packet ends in exactly one outcome.
//! * `api` (feature `api`): the JSON of the REST interface.
//! * `report` (feature `api`): a view of that JSON as a report for a terminal.
#![cfg_attr(not(feature = "api"), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "api")]
pub mod api;
pub mod flow;
pub mod outcome;
pub mod packet;
#[cfg(feature = "api")]
pub mod report;
