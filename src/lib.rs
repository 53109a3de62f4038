//! sekisho
#![forbid(unsafe_code)]
pub mod addrs;
pub mod admin;
pub mod admit;
pub mod cli;
pub mod client;
pub mod config;
pub mod connection;
pub mod drain;
pub mod exchange;
pub mod flight;
pub mod forward;
pub mod http1;
pub mod identify;
pub mod inspect;
pub mod names;
pub mod policy;
pub mod reason;
pub mod record;
pub mod reply;
pub mod server;
pub mod telemetry;
pub mod tunnel;
pub mod upstream;
