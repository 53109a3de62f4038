//! The spine's words for how an attempt ended: how far it got, whose doing it was, why, and what the connection may carry next.

use crate::admit::{Refused, Whose};
use crate::policy::Disagreement;
use crate::reason::{Reason, Side};
use crate::reply::KeepAlive;

/// How far an attempt got (`sekisho.stage`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Admit,
    Claim,
    Decide,
    Dial,
    Verify,
    Establish,
    Reconcile,
    Relay,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Claim => "claim",
            Self::Decide => "decide",
            Self::Dial => "dial",
            Self::Verify => "verify",
            Self::Establish => "establish",
            Self::Reconcile => "reconcile",
            Self::Relay => "relay",
        }
    }
}

/// Why an attempt went no further.
#[derive(Debug)]
pub struct Ended {
    pub side: Side,
    pub stage: Stage,
    pub reason: Reason,
    pub detail: Option<String>,
    /// Whether this ending leaves the client's next request to be found on its connection.
    pub keep_alive: KeepAlive,
    /// The answer is held back for a while: the client comes too fast.
    pub held_back: bool,
}

impl Ended {
    pub fn new(side: Side, stage: Stage, reason: Reason) -> Self {
        Self { side, stage, reason, detail: None, keep_alive: KeepAlive::Yes, held_back: false }
    }

    /// The service ends it: it is stopping and its patience is over, or there has to be room.
    pub fn cut(stage: Stage, reason: Reason) -> Self {
        Self::new(Side::Sekisho, stage, reason).last()
    }

    /// A limit is used up; what comes next on the connection may find leave again.
    pub fn limited(stage: Stage, refused: Refused) -> Self {
        let side = if refused.whose == Whose::Client { Side::Client } else { Side::Sekisho };
        let reason = refused.reason();
        Self { held_back: reason == Reason::RateLimited, ..Self::new(side, stage, reason).because(refused) }
    }

    pub fn because(self, detail: impl ToString) -> Self {
        Self { detail: Some(detail.to_string()), ..self }
    }

    /// Nothing more may come by this connection.
    pub fn last(self) -> Self {
        Self { keep_alive: KeepAlive::No, ..self }
    }
}

impl From<Disagreement> for Ended {
    fn from(disagreement: Disagreement) -> Self {
        Self::new(Side::Client, Stage::Reconcile, disagreement.reason()).because(disagreement)
    }
}

/// What the client's connection may carry after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Request,
    Close,
    Abort,
    /// Another process has it.
    Moved,
}
