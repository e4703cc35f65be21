//! Keeps a party's secrets out of files that the operating system would write.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps, and debuggers of other processes of the same user.
///
/// Returns whether both could be set. Swap and snapshots are the operator's to exclude.
#[must_use]
pub fn forbid_dumps() -> bool {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let no_core = setrlimit(Resource::Core, none).is_ok();
    let not_dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok();
    no_core && not_dumpable
}
