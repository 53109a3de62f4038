//! What an answer of the policy points at: the service with the line of its pattern, or one of the built-in rules.
//!
//! What may not be here: how the answer is found (`decision`).

use std::fmt;
use std::sync::Arc;

use super::pattern::HostPattern;
use crate::reason::Reason;

/// The rule behind a decision: the record's `rule.id` and `rule.name`, and where to find it in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule(Inner);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Inner {
    Builtin(Builtin),
    Service { title: Arc<Title>, pattern: HostPattern, line: usize },
}

/// What a service is called.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Title {
    pub(super) id: Arc<str>,
    pub(super) name: Arc<str>,
}

/// The rules that stand in no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Builtin {
    IpLiteral,
    ClientNotPermitted,
    NotAllowlisted,
    Lgwan,
    EchOuter,
    /// In the place of `NotAllowlisted`, in a time of observing.
    Observe,
}

impl Builtin {
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::IpLiteral => Reason::IpLiteral,
            Self::ClientNotPermitted => Reason::ClientNotPermitted,
            Self::NotAllowlisted | Self::Lgwan | Self::EchOuter | Self::Observe => Reason::NotAllowlisted,
        }
    }

    fn id(self) -> &'static str {
        match self {
            Self::IpLiteral => "builtin/ip-literal",
            Self::ClientNotPermitted => "builtin/client-not-permitted",
            Self::NotAllowlisted => "builtin/not-allowlisted",
            Self::Lgwan => "builtin/lgwan",
            Self::EchOuter => "builtin/ech-outer",
            Self::Observe => "builtin/observe",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::IpLiteral => "An IP address is never a destination",
            Self::ClientNotPermitted => "The client's address is in no [[clients]] network",
            Self::NotAllowlisted => "No [[service]] lists the name",
            Self::Lgwan => "Names under lgwan.jp never leave by the breakout",
            Self::EchOuter => "The outer name of encrypted hellos is no destination",
            Self::Observe => "Observing: no [[service]] lists the name",
        }
    }
}

impl Rule {
    pub(super) fn builtin(rule: Builtin) -> Self {
        Self(Inner::Builtin(rule))
    }

    pub(super) fn service(title: Arc<Title>, pattern: HostPattern, line: usize) -> Self {
        Self(Inner::Service { title, pattern, line })
    }

    /// `service/<ordinal from 1 in the order of the file>`, or `builtin/<word>`.
    pub fn id(&self) -> &str {
        match &self.0 {
            Inner::Builtin(rule) => rule.id(),
            Inner::Service { title, .. } => &title.id,
        }
    }

    /// The service's name, or a sentence for a built-in rule.
    pub fn name(&self) -> &str {
        match &self.0 {
            Inner::Builtin(rule) => rule.name(),
            Inner::Service { title, .. } => &title.name,
        }
    }

    /// [`Rule::id`] to keep: no copy of a service's.
    pub fn shared_id(&self) -> Arc<str> {
        match &self.0 {
            Inner::Builtin(rule) => rule.id().into(),
            Inner::Service { title, .. } => Arc::clone(&title.id),
        }
    }

    /// [`Rule::name`] to keep: no copy of a service's.
    pub fn shared_name(&self) -> Arc<str> {
        match &self.0 {
            Inner::Builtin(rule) => rule.name().into(),
            Inner::Service { title, .. } => Arc::clone(&title.name),
        }
    }

    /// The line on which the pattern that matched stands; a built-in rule has none.
    pub fn line(&self) -> Option<usize> {
        match &self.0 {
            Inner::Builtin(_) => None,
            Inner::Service { line, .. } => Some(*line),
        }
    }

    /// The pattern that matched; a built-in rule has none.
    pub fn pattern(&self) -> Option<&HostPattern> {
        match &self.0 {
            Inner::Builtin(_) => None,
            Inner::Service { pattern, .. } => Some(pattern),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id(), self.name())
    }
}
