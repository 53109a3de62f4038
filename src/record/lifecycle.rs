//! The events of the service itself that stand in the record beside the attempts.
//!
//! Their words, and what a line of one holds: who writes them is `server` (start, reload) and the record itself (the rest).

use std::time::SystemTime;

use crate::record::fields::Fields;
use crate::record::values::Value;

macro_rules! lifecycles {
    ($($(#[$doc:meta])* $variant:ident = $word:literal;)+) => {
        /// `sekisho.lifecycle`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Lifecycle {
            $($(#[$doc])* $variant,)+
        }

        impl Lifecycle {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// `None`: it is no word of this version's.
            pub(super) fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
            }
        }
    };
}

lifecycles! {
    /// The first line of a run; says how the file it found had ended.
    Start = "start";
    /// The last line of a run that ended in order.
    Stop = "stop";
    /// A new configuration is in force.
    Reload = "reload";
    /// A configuration was refused; the one before stays in force.
    ReloadFailed = "reload_failed";
    /// Something in the configuration is not as it should be, found while running.
    ConfigProblem = "config_problem";
    /// The first line of a file that was opened while running; behind the lines that had waited where it had been unwritable or
    /// removed.
    Reopen = "reopen";
    /// The file could not be opened anew; the one before stays in use.
    ReopenFailed = "reopen_failed";
    /// The last line of a file that was left while running: the record goes on in another.
    Continued = "continued";
    /// The last line of a process that was taken over from: the record goes on in another. Where nothing follows it but a start of its own,
    /// what came behind it is missing.
    HandedOver = "handed_over";
    /// The record could not be written for `event.duration` from `@timestamp` on, and can again.
    RecordRecovered = "record_recovered";
    /// The service's own requests through itself fail.
    SelfProbeFailed = "self_probe_failed";
    /// They come out as they must again.
    SelfProbeRecovered = "self_probe_recovered";
    /// What the tenant proof asked did not arrive as it must. `message` says what.
    TenantProofFailed = "tenant_proof_failed";
    /// It did; said when it does again, and from time to time.
    TenantProofHolds = "tenant_proof_holds";
    /// Overloaded: who holds its share gets no further connection. `message` says what presses.
    Shedding = "shedding";
    /// Overloaded: no new connection is taken up. `message` says what presses.
    Refusing = "refusing";
    /// No longer overloaded.
    Normal = "normal";
    /// A time of observing has begun, or goes on at a start: names that nothing lists are let through. `message` says until when.
    Observing = "observing";
    /// It is over: what is not permitted is refused, and tunnels that were only observed are cut.
    Enforcing = "enforcing";
    /// Another process wanted to take over, and did not come as far as to serve. `message` says why.
    TakeoverFailed = "takeover_failed";
    /// The process that was taken over from has ended. `message` says what came from it.
    TakenOver = "taken_over";
    /// Somebody asked for something on the control socket and was given it. `message` says what.
    Control = "control";
    /// Somebody asked and was refused. `message` says what and why.
    ControlRefused = "control_refused";
    /// A configuration is on trial: in force until it is confirmed or its time is over. `message` says until when.
    TrialBegun = "trial_begun";
    /// It was confirmed, and is the file's now.
    TrialConfirmed = "trial_confirmed";
    /// It is over: the file is in force again. `message` says why.
    TrialRolledBack = "trial_rolled_back";
    /// The configuration's file is broken, and the last good one is in force, as `--last-good` asks. `message` says which.
    LastGood = "last_good";
    /// The process with the issuing key has ended, and the service stops. `message` says how it ended.
    MintingEnded = "minting_ended";
    /// The process with the issuing key gives no answer: what has no leaf yet cannot be inspected. `message` says since when it is waited for.
    MintingStalled = "minting_stalled";
    /// It answers again.
    MintingRecovered = "minting_recovered";
    /// The service could not restrict itself in some way, found when it began or at a reload. `message` says in which, and why.
    Unrestricted = "unrestricted";
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
