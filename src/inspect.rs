//! inspect
pub mod fields;
