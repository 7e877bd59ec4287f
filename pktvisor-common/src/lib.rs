//! What the kernel programs, the daemon and the dashboard of pktvisor share.
//!
//! * [`packet`]: the one walk over the headers of a packet, for the kernel and for user space.
//! * [`flow`]: the symmetric hash that keeps both directions of a flow together.
//! * [`loss`]: why something is lost or given up.
//! * [`outcome`]: what can become of a packet; every packet ends in exactly one outcome.
//! * [`direction`]: which way a packet goes, seen from HOST.
//! * [`sampling`]: which packets are inspected, and what each of them stands for.
//! * [`abi`]: the layout of what the kernel programs and the daemon hand each other.
//! * [`classify`]: what becomes of a packet: one decision for all inputs.
//! * [`kernel`]: what the kernel programs work out besides.
//! * [`ppp`]: protocol numbers of PPP.
//! * `api` (feature `api`): the JSON of the REST interface.
//! * `generate` (feature `generate`): manual pages and completions of the programs.
//! * `sketch` (feature `summary`): distinct counts, top lists, quantiles and latencies that merge.
//! * `summary` (feature `summary`): the summary of some minutes: how it merges, its byte form, its view.
//! * `iana` (feature `summary`): names of DNS types and response codes.
//! * [`time`]: units of packet time.
//! * `tls` (feature `tls`): what is wrong with certificates, in words.
//! * `report` (feature `api`): a view of that JSON as a report for a terminal.
#![cfg_attr(not(any(feature = "api", feature = "summary", feature = "tls", test)), no_std)]
#![forbid(unsafe_code)]

pub mod abi;
#[cfg(feature = "api")]
pub mod api;
pub mod classify;
pub mod direction;
pub mod flow;
#[cfg(feature = "generate")]
pub mod generate;
#[cfg(feature = "summary")]
pub mod iana;
pub mod kernel;
pub mod loss;
pub mod outcome;
pub mod packet;
pub mod ppp;
#[cfg(feature = "api")]
pub mod report;
pub mod sampling;
#[cfg(feature = "summary")]
pub mod sketch;
#[cfg(feature = "summary")]
pub mod summary;
pub mod time;
#[cfg(feature = "tls")]
pub mod tls;
