//! Capture files of every format: whole, truncated and damaged. Results are compared with libpcap.

mod compress;
mod damage;
mod drops;
mod errors;
mod filter;
mod libpcap;
mod link;
mod link_types;
mod pcap;
mod pcapng;
mod support;
mod times;
