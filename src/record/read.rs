//! How a value of a line of ours is read back, for the attempts of a process that is taken over from.
//!
//! A word of a closed list that this version does not know is not there; nothing else is judged.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use serde_json::Value as Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::addrs::{BalancerAddr, ListenAddr, OriginalAddr};
use crate::reason::{Outcome, Reason, Side};
use crate::record::id::EventId;
use crate::record::lifecycle::Lifecycle;
use crate::record::values::{AskedAuthority, Names, Text, UrlPath, UserId};

/// The words of fields that hold one of a closed list and can stand in the line of an attempt that is under way.
/// A tunnel's `sekisho.upstream_verdict` is one that was probed or kept.
const WORDS: [&str; 4] = ["tunnel", "connection", "probed", "kept"];

pub(super) trait Read: Sized {
    fn read(value: Json) -> Option<Self>;
}

impl Read for Text {
    fn read(value: Json) -> Option<Self> {
        value.as_str().map(Self::whole)
    }
}

impl Read for AskedAuthority {
    fn read(value: Json) -> Option<Self> {
        Text::read(value).map(Self::shown)
    }
}

impl Read for UrlPath {
    fn read(value: Json) -> Option<Self> {
        value.as_str().map(Self::from)
    }
}

impl Read for Names {
    fn read(value: Json) -> Option<Self> {
        value.as_array()?.iter().map(Json::as_str).collect()
    }
}

impl Read for &'static str {
    fn read(value: Json) -> Option<Self> {
        let said = value.as_str()?;
        WORDS.into_iter().find(|word| *word == said)
    }
}

impl Read for Outcome {
    fn read(value: Json) -> Option<Self> {
        value.as_str().and_then(Self::parse)
    }
}

impl Read for Reason {
    fn read(value: Json) -> Option<Self> {
        value.as_str().and_then(Self::parse)
    }
}

/// Found out by the process that ends the attempt.
impl Read for Side {
    fn read(_: Json) -> Option<Self> {
        None
    }
}

/// No attempt has one.
impl Read for Lifecycle {
    fn read(_: Json) -> Option<Self> {
        None
    }
}

impl Read for u64 {
    fn read(value: Json) -> Option<Self> {
        value.as_u64()
    }
}

impl Read for u16 {
    fn read(value: Json) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }
}

impl Read for Duration {
    fn read(value: Json) -> Option<Self> {
        value.as_u64().map(Self::from_nanos)
    }
}

impl Read for SystemTime {
    fn read(value: Json) -> Option<Self> {
        OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok().map(Into::into)
    }
}

impl Read for IpAddr {
    fn read(value: Json) -> Option<Self> {
        value.as_str()?.parse().ok()
    }
}

impl Read for ListenAddr {
    fn read(value: Json) -> Option<Self> {
        value.as_str()?.parse::<SocketAddr>().ok().map(Self::new)
    }
}

impl Read for BalancerAddr {
    fn read(value: Json) -> Option<Self> {
        value.as_str()?.parse::<SocketAddr>().ok().map(Self::new)
    }
}

impl Read for OriginalAddr {
    fn read(value: Json) -> Option<Self> {
        value.as_str()?.parse::<SocketAddr>().ok().map(Self::new)
    }
}

impl Read for EventId {
    fn read(value: Json) -> Option<Self> {
        Self::parse(value.as_str()?)
    }
}

/// No attempt has one.
impl Read for u32 {
    fn read(_: Json) -> Option<Self> {
        None
    }
}

/// No attempt has one.
impl Read for UserId {
    fn read(_: Json) -> Option<Self> {
        None
    }
}
