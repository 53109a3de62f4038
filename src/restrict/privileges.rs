//! Dumps and capabilities.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities,
};

/// Keys and what clients send are in no core dump and in no other process's reach (J02). Root's reach is longer.
///
/// # Errors
/// What did not go, in a sentence.
pub fn keep_out_of_dumps() -> Result<(), String> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|error| format!("core dumps could not be switched off: {error}"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| format!("the process could not be made undumpable: {error}"))
}

/// Gives up every capability but `kept`, in every set. A process without any has nothing to give up.
pub(super) fn drop_capabilities(kept: CapabilitySet) -> Result<(), String> {
    let failed = |error: rustix::io::Errno| format!("capabilities could not be given up: {error}");
    let had = capabilities(None).map_err(failed)?;
    if had.permitted.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(kept).iter() {
            // One that this kernel does not know is in no set.
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    let _ = clear_ambient_capability_set();
    let left = had.permitted & kept;
    let sets = CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(failed)?;
    let now = capabilities(None).map_err(failed)?;
    if now == sets { Ok(()) } else { Err(format!("capabilities are left: {:?}", now.permitted - left)) }
}
