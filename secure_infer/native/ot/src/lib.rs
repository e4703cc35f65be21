//! blindread-ot.
