//! The longer pages, as text that is compiled: a name that no longer exists breaks the build of the documentation.
//!
//! * [`guide`], [`guide_ja`] (日本語): for operators, from an empty Debian 12 to a working pair, and each month from then on.
//! * [`journey`]: one connection from accept to record, in each mode; refusal, reload, drain.
//! * [`threats`]: every attack of the catalogue, and the type or module that stops it; what is left.
//! * [`scorecard`]: each attack and fault, and what it costs those who behave: figures.
//! * [`operations`]: signals, the admin listener, limits, what to do for each reason.
//! * [`changes`]: a running service: status, sessions, apply, trial, confirm, the last good configuration; who may do what.
//! * [`deployment`]: units, packet filter, package, monitoring; what was run of them, and what was not.
//! * [`hardening`]: the minting process, what is given up and by which kernel, the issuing key and its rotation.
//! * [`catalog`]: the catalogue of services, `catalog` and `tenant_name`, files of one's own.
//! * [`feeds`]: a vendor's own list of endpoints: imported, compared, approved, put back.
//! * [`learning`]: finding out what is used: observe, `suggest`, `check`, `replay`, enforce.
//! * [`proof`]: the tenant proof, what it shows and what it does not.
//! * [`failover`]: two boxes of which one may die, and balancers in front.
//! * [`pac`]: the script for browsers, and its listener.
//! * [`ismap`]: registration of services, their dates, what a passed date does.
//! * [`record`]: every field of the access record.
//! * [`performance`]: what it costs, and how that is measured.
//! * [`load`]: the load tool: scenarios, figures, what may be loaded.
//!
//! No code may be here but the tests that compare the pages with what they describe.

pub mod catalog;
pub mod changes;
pub mod deployment;
pub mod failover;
pub mod feeds;
pub mod guide;
pub mod guide_ja;
pub mod hardening;
pub mod ismap;
pub mod journey;
pub mod learning;
pub mod load;
pub mod operations;
pub mod pac;
pub mod performance;
pub mod proof;
pub mod record;
pub mod scorecard;
pub mod threats;

#[cfg(test)]
mod guide_tests;
#[cfg(test)]
mod tests;
