//! Where packets come from: the kernel, libpcap, a file. A source hands over blocks.

pub mod file;
pub mod filter;
pub mod interface;
pub mod kernel;
pub mod libpcap;
pub mod netlink;
pub mod replay;
pub mod target;
