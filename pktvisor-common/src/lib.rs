//! Code shared by the kernel programs, the daemon and the dashboard of pktvisor.
//!
//! * [`packet`]: the walk over packet headers, for the kernel and for user space.
//! * [`flow`]: the symmetric hash that keeps both directions of a flow together.
//! * [`loss`]: reasons for losses.
//! * [`outcome`]: the outcomes of a packet. Every packet has exactly one.
//! * [`direction`]: the direction of a packet relative to HOST.
//! * [`sampling`]: selection of the packets to inspect, and their weights.
//! * [`abi`]: the layout of the data that the kernel programs and the daemon exchange.
//! * [`classify`]: the decision on how a packet is processed, for all inputs.
//! * [`kernel`]: further computations of the kernel programs.
//! * [`ppp`]: protocol numbers of PPP.
//! * `api` (feature `api`): the JSON types of the REST API.
//! * `generate` (feature `generate`): manual pages and shell completions of the programs.
//! * `sketch` (feature `summary`): mergeable distinct counts, top lists, quantiles and latencies.
//! * `summary` (feature `summary`): summaries of one or several minutes, their merge and byte form.
//! * `iana` (feature `summary`): names of DNS types and response codes.
//! * [`time`]: moments and spans of packet time.
//! * `tls` (feature `tls`): descriptions of certificate problems.
//! * `moment` (feature `api`): times and spans as people write them.
//! * `report` (feature `api`): a text report of a view, for a terminal.
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
#[cfg(feature = "api")]
pub mod moment;
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
