//! Only scenes that drive the built binary from outside belong in this test: they start `sekisho`, talk to it over sockets, and
//! read its record. Nothing here but `corpus` uses the library, so no parser is shared between the proxy and its judge.
//!
//! `SEKISHO_BIN` names another binary than the one cargo built; `SEKISHO_MIXED` the size of the conservation scene; with
//! `SEKISHO_SYSTEM=long` the scenes of steered clients go as many rounds as the issue says.

// The fuzz targets that `corpus` replays know the crate of their macro by this name.
extern crate self as libfuzzer_sys;

mod support;

mod admin;
mod autoconfig;
mod balanced;
mod certificates;
mod cli;
mod config;
mod control;
mod corpus;
mod deploy;
mod failover;
mod faults;
mod feed;
mod framing;
mod hello;
mod inspect_h1;
mod inspect_h2;
mod ismap;
mod issuing;
mod learning;
mod lifecycle;
mod limits;
mod listener;
mod load;
mod minting;
mod names;
mod overload;
mod pac;
mod policy;
mod proof;
mod real_clients;
mod record;
mod restricted;
mod scorecard;
mod slow;
mod steered;
mod structure;
mod tenant;
mod tunnel;
mod upgrade;
mod upstream;
