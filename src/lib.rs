//! sekisho
#![forbid(unsafe_code)]
pub mod addrs;
pub mod admit;
pub mod client;
pub mod drain;
pub mod inspect;
pub mod names;
pub mod reason;
pub mod reply;
pub mod tunnel;
