//! Only scenes with programs that people run belong here: curl, wget, openssl, Python, Node and Chromium, each as a process of its
//! own, with Node's HTTP stack as the origin. None shares a line with the proxy or with the cast of the other scenes.
//!
//! A program that is missing makes its scene say `SKIPPED real client …` on standard error; `tests/run` installs what it can and
//! counts those lines. Every scene asserts what the client got, what the origin saw, and what the record says.

pub mod browser;
mod curl;
mod scripts;
pub mod stage;
