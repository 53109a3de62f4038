//! The operator's guide, in English. Its text is `guide.md` beside this file, which the package brings too.
//!
#![doc = include_str!("guide.md")]
