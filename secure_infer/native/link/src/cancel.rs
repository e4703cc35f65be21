//! A way to stop a session from outside, looked at wherever it waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const RUNNING: u8 = 0;
const STOP_WHEN_IDLE: u8 = 1;
const STOP_NOW: u8 = 2;

type Check = dyn Fn() -> bool + Send + Sync;

/// Shared between whoever may cancel and the session that looks.
#[derive(Clone, Default)]
pub struct Cancel {
    level: Arc<AtomicU8>,
    check: Option<Arc<Check>>,
    outer: Option<Arc<Cancel>>,
}

impl Cancel {
    /// One that is cancelled by [`Cancel::cancel`] only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that also asks `check`, about ten times a second while the session waits: true cancels.
    #[must_use]
    pub fn with_check(check: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            check: Some(Arc::new(check)),
            ..Self::default()
        }
    }

    /// One for a part: it stops with this one, but not the other way round.
    #[must_use]
    pub(crate) fn part(&self) -> Self {
        Self {
            outer: Some(Arc::new(self.clone())),
            ..Self::default()
        }
    }

    /// Stops the session at its next wait.
    pub fn cancel(&self) {
        self.level.store(STOP_NOW, Ordering::Release);
    }

    /// Stops the session where it waits for the next command; running work is finished first.
    pub fn cancel_when_idle(&self) {
        self.level.fetch_max(STOP_WHEN_IDLE, Ordering::AcqRel);
    }

    /// Whether work in progress must stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.level.load(Ordering::Acquire) == STOP_NOW
            || self.check.as_ref().is_some_and(|check| check())
            || self
                .outer
                .as_ref()
                .is_some_and(|outer| outer.is_cancelled())
    }

    /// Whether a session without work must stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.level.load(Ordering::Acquire) != RUNNING
            || self.is_cancelled()
            || self.outer.as_ref().is_some_and(|outer| outer.is_stopping())
    }
}
