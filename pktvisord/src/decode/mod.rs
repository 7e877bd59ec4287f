//! From bytes to what they say: link layers, fragments, DNS. Nothing here adds anything up.

pub mod block;
pub mod defrag;
pub mod dns;
pub mod link;
