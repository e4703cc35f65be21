//! blindread-link.
