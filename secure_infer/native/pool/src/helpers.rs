//! The further threads of a party, kept awake between short tasks.
//!
//! The walk of an image has some thousand divisions of work a few tens of microseconds apart, and waking up a thread
//! takes as long. So a thread that has run out of work looks for more for a while before it sleeps, and so does the
//! party's thread before it sleeps until the others are done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rayon::{Scope as RayonScope, ThreadPool, ThreadPoolBuilder, Yield};

/// How long a thread looks for work: longer than the party's thread computes alone between two divisions, shorter than
/// a round trip.
const LINGER: Duration = Duration::from_micros(200);

/// How often a thread looks for what it needs before it sleeps or goes: waking one up takes longer than most gaps.
pub(crate) const LOOKS: usize = 200;

pub(crate) struct Helpers {
    pool: ThreadPool,
    /// How many look for work, or work and will look for more.
    awake: Arc<AtomicUsize>,
}

/// Where tasks may borrow: they are done when it ends.
pub(crate) struct Scope<'a, 'scope> {
    scope: &'a RayonScope<'scope>,
    running: Arc<AtomicUsize>,
}

/// Counts one less when it ends, whatever ends it.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Helpers {
    /// Starts threads, or what the operating system says against it.
    pub(crate) fn new(count: usize) -> Result<Self, String> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|index| format!("worker-{}", index + 1))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            pool,
            awake: Arc::default(),
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Calls `work` here; returns when the tasks that it spawned are done, too.
    pub(crate) fn scope<'scope, R>(&self, work: impl FnOnce(&Scope<'_, 'scope>) -> R) -> R {
        let result = self.pool.in_place_scope(|scope| {
            let scope = Scope {
                scope,
                running: Arc::default(),
            };
            let result = work(&scope);
            let done = || scope.running.load(Ordering::Acquire) == 0;
            (0..LOOKS)
                .take_while(|_| !done())
                .for_each(|_| thread::yield_now());
            result
        });
        while self.awake.load(Ordering::Relaxed) < self.count() {
            let awake = Counted::new(&self.awake);
            self.pool.spawn(move || {
                let _awake = awake;
                linger();
            });
        }
        result
    }
}

impl<'scope> Scope<'_, 'scope> {
    /// Has another thread call `task`.
    pub(crate) fn spawn(&self, task: impl FnOnce() + Send + 'scope) {
        let running = Counted::new(&self.running);
        self.scope.spawn(move |_| {
            let _running = running;
            task();
        });
    }
}

/// Works for whoever has spawned something, until nobody has for a while.
fn linger() {
    let mut since = Instant::now();
    while since.elapsed() < LINGER {
        if let Some(Yield::Executed) = rayon::yield_now() {
            since = Instant::now();
        } else {
            thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_without_work_looks_for_some_and_then_sleeps() {
        let helpers = Helpers::new(2).unwrap();
        for _ in 0..100 {
            let sum = AtomicUsize::new(0);
            helpers.scope(|scope| {
                for number in 1..=4 {
                    let sum = &sum;
                    scope.spawn(move || {
                        sum.fetch_add(number, Ordering::Relaxed);
                    });
                }
            });
            assert_eq!(sum.into_inner(), 10);
            assert!(helpers.awake.load(Ordering::Relaxed) <= 2);
        }
        // a test's limit of time is the only one here
        while helpers.awake.load(Ordering::Acquire) > 0 {
            thread::sleep(LINGER);
        }
    }
}
