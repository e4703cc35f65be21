//! A stream of items that pass a party's thread, then any thread, then the party's thread again, in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::Workers;
use crate::helpers::LOOKS;

/// What the threads share.
struct Queue<'s, S, T, E> {
    state: Mutex<State<'s, S, T, E>>,
    /// Something is finished, or somebody panicked.
    finished: Condvar,
}

struct State<'s, S, T, E> {
    /// Of the threads that don't work.
    spare: Vec<&'s mut S>,
    waiting: VecDeque<(usize, T)>,
    finished: BTreeMap<usize, (T, Result<(), E>)>,
    closed: bool,
    panicked: bool,
    /// The party's thread sleeps.
    asleep: bool,
}

/// What the party's thread does next.
enum Next<T, E> {
    After(T, Result<(), E>),
    Work(usize, T),
    GiveUp,
}

impl<'s, S, T, E> Queue<'s, S, T, E> {
    fn new(states: &'s mut [S]) -> Self {
        Self {
            state: Mutex::new(State {
                spare: states.iter_mut().collect(),
                waiting: VecDeque::new(),
                finished: BTreeMap::new(),
                closed: false,
                panicked: false,
                asleep: false,
            }),
            finished: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<'s, S, T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item; the state of a thread that should be called for it, if there is one.
    fn push(&self, index: usize, item: T) -> Option<&'s mut S> {
        let mut state = self.lock();
        state.waiting.push_back((index, item));
        state.spare.pop()
    }

    /// Works on what waits, until nothing has come for a while. It never waits, since its pool may serve other streams,
    /// which the peer may be waiting for.
    fn serve(&self, own: &'s mut S, work: impl Fn(&mut S, &mut T) -> Result<(), E>) {
        let _alarm = Alarm(self);
        let mut looks = 0;
        loop {
            let mut state = self.lock();
            if let Some((index, mut item)) = state.waiting.pop_front() {
                drop(state);
                let result = work(own, &mut item);
                self.finish(index, item, result);
                looks = 0;
            } else if state.closed || looks == LOOKS {
                state.spare.push(own);
                return;
            } else {
                drop(state);
                thread::yield_now();
                looks += 1;
            }
        }
    }

    fn finish(&self, index: usize, item: T, result: Result<(), E>) {
        let mut state = self.lock();
        state.finished.insert(index, (item, result));
        if state.asleep {
            self.finished.notify_one();
        }
    }

    /// The item `index` if it is finished.
    fn finished(&self, index: usize) -> Option<(T, Result<(), E>)> {
        self.lock().finished.remove(&index)
    }

    /// The item `index`, sooner or later; until then, others to work on.
    fn next(&self, index: usize) -> Next<T, E> {
        let mut looks = 0;
        let mut state = self.lock();
        loop {
            if let Some((item, result)) = state.finished.remove(&index) {
                return Next::After(item, result);
            }
            if let Some((index, item)) = state.waiting.pop_front() {
                return Next::Work(index, item);
            }
            if state.panicked {
                return Next::GiveUp;
            }
            if looks < LOOKS {
                looks += 1;
                drop(state);
                thread::yield_now();
                state = self.lock();
            } else {
                state.asleep = true;
                state = (self.finished.wait(state)).unwrap_or_else(PoisonError::into_inner);
                state.asleep = false;
            }
        }
    }
}

/// Sends the other threads home, whatever ends the stream.
struct Close<'a, 's, S, T, E>(&'a Queue<'s, S, T, E>);

impl<S, T, E> Drop for Close<'_, '_, S, T, E> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.waiting.clear();
    }
}

/// Tells the party's thread that an item will never be finished.
struct Alarm<'a, 's, S, T, E>(&'a Queue<'s, S, T, E>);

impl<S, T, E> Drop for Alarm<'_, '_, S, T, E> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().panicked = true;
            self.0.finished.notify_all();
        }
    }
}

impl Workers {
    /// For every item, in order: `before` on the calling thread, `work` on any thread, `after` on the calling thread,
    /// in order again. While others work, the calling thread goes on with later items; it works too when it would
    /// have to wait. With one thread, every item passes all three before the next one comes.
    ///
    /// # Errors
    /// The first one of `before`, `work` (in the items' order) or `after`; nothing is called on later items then, but
    /// `before` and `work` may have been.
    ///
    /// # Panics
    /// When one of the three does, and when there is no state.
    pub fn stream<S, C, T, E>(
        &self,
        states: &mut [S],
        context: &mut C,
        items: impl IntoIterator<Item = T>,
        mut before: impl FnMut(&mut C, &mut T) -> Result<(), E>,
        work: impl Fn(&mut S, &mut T) -> Result<(), E> + Sync,
        mut after: impl FnMut(&mut C, &mut T) -> Result<(), E>,
    ) -> Result<(), E>
    where
        S: Send,
        C: ?Sized,
        T: Send,
        E: Send,
    {
        assert!(
            !states.is_empty(),
            "states: expected one at least, got none"
        );
        let mut items = items.into_iter();
        let wanted = items.size_hint().1.unwrap_or(usize::MAX).max(1);
        let busy = self.threads().min(wanted).min(states.len());
        let (own, others) = states[..busy].split_at_mut(1);
        let own = &mut own[0];
        let Some(helpers) = self.helpers.as_ref().filter(|_| busy > 1) else {
            return items.try_for_each(|mut item| {
                before(context, &mut item)?;
                work(own, &mut item)?;
                after(context, &mut item)
            });
        };
        let queue = Queue::new(others);
        // enough that nobody waits for the calling thread, which may be held up by the peer
        let ahead = 2 * busy + 1;
        helpers.scope(|scope| {
            let (queue, work) = (&queue, &work);
            let _close = Close(queue);
            let (mut pushed, mut passed) = (0, 0);
            let mut more = true;
            while more || passed < pushed {
                while more && pushed - passed < ahead {
                    match items.next() {
                        None => more = false,
                        Some(mut item) => {
                            before(context, &mut item)?;
                            if let Some(state) = queue.push(pushed, item) {
                                scope.spawn(move || queue.serve(state, work));
                            }
                            pushed += 1;
                        }
                    }
                    while let Some((mut item, result)) = queue.finished(passed) {
                        result?;
                        after(context, &mut item)?;
                        passed += 1;
                    }
                }
                if passed == pushed {
                    continue;
                }
                match queue.next(passed) {
                    Next::After(mut item, result) => {
                        result?;
                        after(context, &mut item)?;
                        passed += 1;
                    }
                    Next::Work(index, mut item) => {
                        let result = work(own, &mut item);
                        queue.finish(index, item, result);
                    }
                    // the scope passes the panic on
                    Next::GiveUp => break,
                }
            }
            Ok(())
        })
    }
}
