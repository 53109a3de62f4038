//! The operator's guide, in Japanese. Its text is `guide_ja.md` beside this file, which the package brings too.
//!
#![doc = include_str!("guide_ja.md")]
