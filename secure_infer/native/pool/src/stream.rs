//! A stream of items that pass a party's connection, then a thread, then the connection again, in order.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

use crate::Workers;
use crate::helpers::LOOKS;

/// What is done with every item, and with what.
struct Rules<'a, B, W, A> {
    before: &'a B,
    work: &'a W,
    after: &'a A,
    /// How many items may be under way: while a thread works on one, another one waits behind it.
    limit: usize,
}

/// What a thread does next.
enum Next<T> {
    /// Work on this item, of this number.
    Work(usize, T),
    /// Wait for another thread to end something.
    Wait,
    Stop,
}

/// An item that has been worked on.
type Worked<T, E> = (T, Result<(), E>);

/// What the threads take turns with.
struct Turns<'c, C: ?Sized, I: Iterator, E> {
    context: &'c mut C,
    items: I,
    /// How many items were ended.
    ended: usize,
    /// What was begun since, in order; what has been worked on waits there for what was begun earlier.
    under_way: VecDeque<Option<Worked<I::Item, E>>>,
    failed: Option<E>,
    /// Somebody failed or panicked.
    stopped: bool,
    /// How many threads sleep.
    asleep: usize,
}

impl<C, I, E> Turns<'_, C, I, E>
where
    C: ?Sized,
    I: Iterator,
{
    fn fail(&mut self, error: E) {
        self.failed = Some(error);
        self.stopped = true;
    }

    fn next(
        &mut self,
        limit: usize,
        before: impl Fn(&mut C, &mut I::Item) -> Result<(), E>,
    ) -> Next<I::Item> {
        if self.stopped {
            return Next::Stop;
        }
        let under_way = self.under_way.len();
        if under_way == limit {
            return Next::Wait;
        }
        let Some(mut item) = self.items.next() else {
            return if under_way > 0 {
                Next::Wait
            } else {
                Next::Stop
            };
        };
        if let Err(error) = before(self.context, &mut item) {
            self.fail(error);
            return Next::Stop;
        }
        self.under_way.push_back(None);
        Next::Work(self.ended + under_way, item)
    }

    /// Ends what has been worked on, and whatever waited for it.
    fn end(
        &mut self,
        number: usize,
        worked: Worked<I::Item, E>,
        after: impl Fn(&mut C, &mut I::Item) -> Result<(), E>,
    ) {
        self.under_way[number - self.ended] = Some(worked);
        while !self.stopped
            && let Some((mut item, result)) = self.under_way.front_mut().and_then(Option::take)
        {
            self.under_way.pop_front();
            self.ended += 1;
            if let Err(error) = result.and_then(|()| after(self.context, &mut item)) {
                self.fail(error);
            }
        }
    }
}

/// Wakes everybody up when a thread panics.
struct Alarm<'a, 'c, C: ?Sized, I: Iterator, E> {
    turns: &'a Mutex<Turns<'c, C, I, E>>,
    ended: &'a Condvar,
}

impl<C: ?Sized, I: Iterator, E> Drop for Alarm<'_, '_, C, I, E> {
    fn drop(&mut self) {
        if thread::panicking() {
            let turns = self.turns.lock();
            turns.unwrap_or_else(PoisonError::into_inner).stopped = true;
            self.ended.notify_all();
        }
    }
}

/// The lock, after a while of looking: most turns are shorter than waking up takes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    for _ in 0..LOOKS {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => thread::yield_now(),
        }
    }
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One thread's part of a stream.
fn take_part<S, C, I, E>(
    turns: &Mutex<Turns<'_, C, I, E>>,
    ended: &Condvar,
    rules: &Rules<
        '_,
        impl Fn(&mut C, &mut I::Item) -> Result<(), E>,
        impl Fn(&mut S, &mut I::Item) -> Result<(), E>,
        impl Fn(&mut C, &mut I::Item) -> Result<(), E>,
    >,
    state: &mut S,
) where
    C: ?Sized,
    I: Iterator,
{
    let _alarm = Alarm { turns, ended };
    let mut turn = lock(turns);
    let mut looks = 0;
    loop {
        match turn.next(rules.limit, rules.before) {
            Next::Work(number, mut item) => {
                drop(turn);
                let result = (rules.work)(state, &mut item);
                turn = lock(turns);
                turn.end(number, (item, result), rules.after);
                looks = 0;
            }
            Next::Wait if looks < LOOKS => {
                drop(turn);
                thread::yield_now();
                turn = lock(turns);
                looks += 1;
                continue;
            }
            Next::Wait => {
                turn.asleep += 1;
                turn = ended.wait(turn).unwrap_or_else(PoisonError::into_inner);
                turn.asleep -= 1;
                continue;
            }
            Next::Stop => break,
        }
        if turn.asleep > 0 {
            ended.notify_all();
        }
    }
    if turn.asleep > 0 {
        ended.notify_all();
    }
}

impl Workers {
    /// Has `before` and `after` called on every item in their order, with the context, and `work` in between on as many
    /// threads as have a state. A thread that takes an item calls `before` and `work`, so that what `before` brings into its
    /// caches is worked on there; `after` has to wait for the item before it, and is called by whoever ends that one. The
    /// next `before` may come before the `after` of what is under way: what is received, or sent, depends on nothing that
    /// the peer gets from this stream.
    ///
    /// # Errors
    /// The first one of `before`, `work` (in order) or `after`; no `after` is called on later items then, but `before`
    /// and `work` may have been.
    ///
    /// # Panics
    /// When one of the three does, and when there is no state.
    pub fn stream<S, C, T, E>(
        &self,
        states: &mut [S],
        context: &mut C,
        items: impl IntoIterator<Item = T, IntoIter: Send>,
        before: impl Fn(&mut C, &mut T) -> Result<(), E> + Sync,
        work: impl Fn(&mut S, &mut T) -> Result<(), E> + Sync,
        after: impl Fn(&mut C, &mut T) -> Result<(), E> + Sync,
    ) -> Result<(), E>
    where
        S: Send,
        C: Send + ?Sized,
        T: Send,
        E: Send,
    {
        assert!(
            !states.is_empty(),
            "states: expected one at least, got none"
        );
        let busy = self.threads().min(states.len());
        let states = &mut states[..busy];
        let mut items = items.into_iter();
        if let [own] = states {
            return items.try_for_each(|mut item| {
                before(context, &mut item)?;
                work(own, &mut item)?;
                after(context, &mut item)
            });
        }
        let turns = Mutex::new(Turns {
            context,
            items,
            ended: 0,
            under_way: VecDeque::new(),
            failed: None,
            stopped: false,
            asleep: 0,
        });
        let (ended, rules) = (
            Condvar::new(),
            Rules {
                before: &before,
                work: &work,
                after: &after,
                limit: 2 * busy,
            },
        );
        self.abreast(states, |state| take_part(&turns, &ended, &rules, state));
        let turns = turns.into_inner();
        let failed = turns.unwrap_or_else(PoisonError::into_inner).failed;
        failed.map_or(Ok(()), Err)
    }
}
