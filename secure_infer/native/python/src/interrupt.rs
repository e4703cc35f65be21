//! Ctrl-C for calls that run without the interpreter's lock.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use blindread_link::Cancel;
use pyo3::prelude::*;

use crate::error::Failure;

/// How often Python is asked; taking its lock more often would slow the session down.
const PERIOD: Duration = Duration::from_millis(100);

thread_local! {
    /// When this thread has asked: signals reach Python's main thread only, so no other one may ask in its place.
    static LAST: Cell<Instant> = Cell::new(Instant::now());
}

/// Looks for Python's signals wherever a session waits, and keeps the exception that one raised.
pub struct Interrupt {
    cancel: Cancel,
    raised: Arc<Mutex<Option<PyErr>>>,
}

impl Interrupt {
    pub fn new() -> Self {
        let raised = Arc::new(Mutex::new(None));
        let keep = raised.clone();
        let check = move || {
            if LAST.with(|last| last.get().elapsed() < PERIOD) {
                return false;
            }
            LAST.set(Instant::now());
            let signal = Python::try_attach(|py| py.check_signals().err()).flatten();
            let found = signal.is_some();
            if found {
                *keep.lock().unwrap_or_else(PoisonError::into_inner) = signal;
            }
            found
        };
        Self {
            cancel: Cancel::with_check(check),
            raised,
        }
    }

    /// What a session looks at.
    pub fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    /// Runs `work` without the interpreter's lock; a signal's exception takes the place of its error.
    pub fn run<R: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce() -> Result<R, Failure> + Send,
    ) -> PyResult<R> {
        py.detach(work).map_err(|failure| {
            let raised = self
                .raised
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            match raised {
                Some(exception) if failure.is_cancelled() => exception,
                _ => failure.into(),
            }
        })
    }
}
