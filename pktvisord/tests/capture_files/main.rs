//! Capture files as they are met: every form, whole, cut and damaged, beside what libpcap reads.

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
