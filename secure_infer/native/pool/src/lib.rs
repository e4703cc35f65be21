//! The threads of one session of a party: a handle that is passed down to whoever has work to divide.
//!
//! Work is divided by position (blocks of a vector, polynomials, trees), and every position is computed in the same
//! way by whichever thread takes it; so results are the same, bit for bit, however many threads there are. The caller
//! works too: a party with N threads has N - 1 in its pool. [`Workers::one`] has no pool and runs everything in place.
//! Threads may wait for the peer, in a [stream](Workers::stream) and [abreast](Workers::abreast); so sessions don't share
//! a pool.
//!
//! Why rayon: an image takes some ten thousand short divisions of borrowed data, too many to start threads for
//! ([`std::thread::scope`]), and a pool that outlives them and still borrows is not to be had without `unsafe`. Rayon's
//! is the one that everybody tests. Its parallel iterators are left out: blocks with scratch memory of their own, taken
//! from one iterator, are all that is needed here.
#![forbid(unsafe_code)]

mod helpers;
mod stream;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use helpers::Helpers;

/// More would only wait for each other.
pub const MAX_THREADS: usize = 256;

/// Threads that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkersError {
    /// A number that makes no sense.
    #[error("threads: expected 1 to {MAX_THREADS}, got {got}")]
    Number {
        /// The number asked for.
        got: usize,
    },
    /// The operating system refused.
    #[error("threads: expected {wanted} of them, got {reason}")]
    Refused {
        /// The number asked for.
        wanted: usize,
        /// What the operating system said.
        reason: String,
    },
}

/// One party's threads. Clones share them; they end with the last clone.
#[derive(Clone, Default)]
pub struct Workers {
    helpers: Option<Arc<Helpers>>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Workers, {} threads>", self.threads())
    }
}

impl Workers {
    /// The calling thread alone.
    #[must_use]
    pub const fn one() -> Self {
        Self { helpers: None }
    }

    /// The calling thread and `threads` - 1 others, which sleep when there is nothing to do.
    ///
    /// # Errors
    /// [`WorkersError`] for a number out of range, or when the operating system has no more threads.
    pub fn new(threads: usize) -> Result<Self, WorkersError> {
        match threads {
            0 => Err(WorkersError::Number { got: threads }),
            1 => Ok(Self::one()),
            2..=MAX_THREADS => Helpers::new(threads - 1)
                .map(|helpers| Self {
                    helpers: Some(Arc::new(helpers)),
                })
                .map_err(|reason| WorkersError::Refused {
                    wanted: threads,
                    reason,
                }),
            _ => Err(WorkersError::Number { got: threads }),
        }
    }

    /// How many threads work together, the calling one included.
    #[must_use]
    pub fn threads(&self) -> usize {
        1 + self.helpers.as_ref().map_or(0, |helpers| helpers.count())
    }

    /// Calls `work` on every item, in no particular order.
    ///
    /// # Panics
    /// When `work` does, after the other threads have finished what is left.
    pub fn each<I>(&self, items: I, work: impl Fn(I::Item) + Sync)
    where
        I: IntoIterator<IntoIter: Send, Item: Send>,
    {
        let mut states = vec![(); self.threads()];
        self.each_with(&mut states, items, |(), item| work(item));
    }

    /// As [`Self::each`], with one of `states` for every thread that takes part: there work at most as many as there are
    /// states.
    ///
    /// # Panics
    /// As [`Self::each`], and when there is no state.
    pub fn each_with<S, I>(&self, states: &mut [S], items: I, work: impl Fn(&mut S, I::Item) + Sync)
    where
        S: Send,
        I: IntoIterator<IntoIter: Send, Item: Send>,
    {
        assert!(
            !states.is_empty(),
            "states: expected one at least, got none"
        );
        let items = items.into_iter();
        let wanted = items.size_hint().1.unwrap_or(usize::MAX).max(1);
        let busy = self.threads().min(wanted).min(states.len());
        if let [own] = &mut states[..busy] {
            items.for_each(|item| work(own, item));
            return;
        }
        let queue = Mutex::new(items.fuse());
        let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        self.abreast(&mut states[..busy], |state| {
            while let Some(item) = take() {
                work(state, item);
            }
        });
    }

    /// Calls `work` with all of `states` at the same time: with the first one here, with each of the others in another
    /// thread. So they may wait for each other, or for a peer.
    ///
    /// # Panics
    /// When `work` does, after the other threads have finished, and when there are more states than threads.
    pub fn abreast<S: Send>(&self, states: &mut [S], work: impl Fn(&mut S) + Sync) {
        let (count, threads) = (states.len(), self.threads());
        assert!(
            count <= threads,
            "states: expected {threads} at most, got {count}"
        );
        let Some((own, others)) = states.split_first_mut() else {
            return;
        };
        let Some(helpers) = self.helpers.as_ref().filter(|_| !others.is_empty()) else {
            return work(own);
        };
        helpers.scope(|scope| {
            for state in others {
                let work = &work;
                scope.spawn(move || work(state));
            }
            work(own);
        });
    }

    /// As [`Self::each_with`], for work that can fail.
    ///
    /// # Errors
    /// That of the first item in order whose work failed, after all the others were worked on as well.
    ///
    /// # Panics
    /// As [`Self::each_with`].
    pub fn try_each_with<S, I, E>(
        &self,
        states: &mut [S],
        items: I,
        work: impl Fn(&mut S, I::Item) -> Result<(), E> + Sync,
    ) -> Result<(), E>
    where
        S: Send,
        E: Send,
        I: IntoIterator<IntoIter: Send, Item: Send>,
    {
        let failed = Mutex::new(None);
        let items = items.into_iter().enumerate();
        self.each_with(states, items, |state, (index, item)| {
            if let Err(error) = work(state, item) {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                match &*failed {
                    Some((first, _)) if *first < index => {}
                    _ => *failed = Some((index, error)),
                }
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// The results of `work` on every item, in the items' order.
    ///
    /// # Panics
    /// As [`Self::each`].
    pub fn map<I, R: Send>(&self, items: I, work: impl Fn(I::Item) -> R + Sync) -> Vec<R>
    where
        I: IntoIterator<IntoIter: ExactSizeIterator + Send, Item: Send>,
    {
        let items = items.into_iter();
        let mut results: Vec<Option<R>> = (0..items.len()).map(|_| None).collect();
        self.each(items.zip(&mut results), |(item, result)| {
            *result = Some(work(item));
        });
        results.into_iter().flatten().collect()
    }
}
