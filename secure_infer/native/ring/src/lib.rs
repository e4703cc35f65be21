//! blindread-ring.
