//! The events of the service itself that stand in the record beside the attempts.
//!
//! Their words, and what a line of one holds: who writes them is `server` (start, reload) and the record itself (the rest).

use std::time::SystemTime;

use crate::record::fields::Fields;
use crate::record::values::Value;

/// `sekisho.lifecycle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lifecycle {
    /// The first line of a run; says how the file it found had ended.
    Start,
    /// The last line of a run that ended in order.
    Stop,
    /// A new configuration is in force.
    Reload,
    /// A configuration was refused; the one before stays in force.
    ReloadFailed,
    /// Something in the configuration is not as it should be, found while running.
    ConfigProblem,
    /// The first line of a file that was opened while running; behind the lines that had waited where it had been unwritable or
    /// removed.
    Reopen,
    /// The file could not be opened anew; the one before stays in use.
    ReopenFailed,
    /// The last line of a file that was left while running: the record goes on in another.
    Continued,
    /// The last line of a process that was taken over from: the record goes on in another. Where nothing follows it but a start of its own,
    /// what came behind it is missing.
    HandedOver,
    /// The record could not be written for `event.duration` from `@timestamp` on, and can again.
    RecordRecovered,
    /// The service's own requests through itself fail.
    SelfProbeFailed,
    /// They come out as they must again.
    SelfProbeRecovered,
    /// What the tenant proof asked did not arrive as it must. `message` says what.
    TenantProofFailed,
    /// It did; said when it does again, and from time to time.
    TenantProofHolds,
    /// Overloaded: who holds its share gets no further connection. `message` says what presses.
    Shedding,
    /// Overloaded: no new connection is taken up. `message` says what presses.
    Refusing,
    /// No longer overloaded.
    Normal,
    /// A time of observing has begun, or goes on at a start: names that nothing lists are let through. `message` says until when.
    Observing,
    /// It is over: what is not permitted is refused, and tunnels that were only observed are cut.
    Enforcing,
    /// Another process wanted to take over, and did not come as far as to serve. `message` says why.
    TakeoverFailed,
    /// The process that was taken over from has ended. `message` says what came from it.
    TakenOver,
    /// Somebody asked for something on the control socket and was given it. `message` says what.
    Control,
    /// Somebody asked and was refused. `message` says what and why.
    ControlRefused,
    /// A configuration is on trial: in force until it is confirmed or its time is over. `message` says until when.
    TrialBegun,
    /// It was confirmed, and is the file's now.
    TrialConfirmed,
    /// It is over: the file is in force again. `message` says why.
    TrialRolledBack,
    /// The configuration's file is broken, and the last good one is in force, as `--last-good` asks. `message` says which.
    LastGood,
    /// The process with the issuing key has ended, and the service stops. `message` says how it ended.
    MintingEnded,
    /// The process with the issuing key gives no answer: what has no leaf yet cannot be inspected. `message` says since when it is waited for.
    MintingStalled,
    /// It answers again.
    MintingRecovered,
    /// The service could not restrict itself in some way, found when it began or at a reload. `message` says in which, and why.
    Unrestricted,
}

impl Lifecycle {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reload => "reload",
            Self::ReloadFailed => "reload_failed",
            Self::ConfigProblem => "config_problem",
            Self::Reopen => "reopen",
            Self::ReopenFailed => "reopen_failed",
            Self::Continued => "continued",
            Self::HandedOver => "handed_over",
            Self::RecordRecovered => "record_recovered",
            Self::SelfProbeFailed => "self_probe_failed",
            Self::SelfProbeRecovered => "self_probe_recovered",
            Self::TenantProofFailed => "tenant_proof_failed",
            Self::TenantProofHolds => "tenant_proof_holds",
            Self::Shedding => "shedding",
            Self::Refusing => "refusing",
            Self::Normal => "normal",
            Self::Observing => "observing",
            Self::Enforcing => "enforcing",
            Self::TakeoverFailed => "takeover_failed",
            Self::TakenOver => "taken_over",
            Self::Control => "control",
            Self::ControlRefused => "control_refused",
            Self::TrialBegun => "trial_begun",
            Self::TrialConfirmed => "trial_confirmed",
            Self::TrialRolledBack => "trial_rolled_back",
            Self::LastGood => "last_good",
            Self::MintingEnded => "minting_ended",
            Self::MintingStalled => "minting_stalled",
            Self::MintingRecovered => "minting_recovered",
            Self::Unrestricted => "unrestricted",
        }
    }
}

impl Value for Lifecycle {
    const KIND: &'static str = "keyword";

    fn write(&self, out: &mut Vec<u8>) {
        self.as_str().write(out);
    }
}

/// The fields of a lifecycle line.
pub(super) fn lifecycle(kind: Lifecycle, message: &str) -> Fields {
    let mut fields = Fields::default();
    fields.rare.message = Some(message.into());
    as_lifecycle(&mut fields, kind);
    fields
}

/// Makes `fields` a lifecycle line of now.
pub(super) fn as_lifecycle(fields: &mut Fields, kind: Lifecycle) {
    fields.at = Some(SystemTime::now());
    fields.action = Some("lifecycle");
    fields.rare.lifecycle = Some(kind);
}
