//! sekisho
#![forbid(unsafe_code)]
pub mod addrs;
pub mod names;
pub mod reason;
