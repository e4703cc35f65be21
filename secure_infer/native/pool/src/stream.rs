//! A stream of items that pass a party's connection, then a thread, then the connection again, in order, round after
//! round.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

use crate::Workers;
use crate::helpers::LOOKS;

/// An item of a [stream](Workers::stream), and what is done with it in each of its rounds. A thread that takes an item
/// calls all three, so that what `before` brings into its caches is worked on there; but `after` has to wait for the
/// item before it, and is called by whoever ends that one.
pub trait Rounds<C: ?Sized>: Send {
    /// What every thread has of its own.
    type State: Send;
    /// A failure, which ends the stream.
    type Error: Send;

    /// Has the context for itself, and may wait with it for the peer.
    ///
    /// # Errors
    /// Any.
    fn before(
        &mut self,
        round: usize,
        state: &mut Self::State,
        context: &mut C,
    ) -> Result<(), Self::Error>;

    /// Called while other threads have the context.
    ///
    /// # Errors
    /// Any.
    fn work(&mut self, round: usize, state: &mut Self::State) -> Result<(), Self::Error>;

    /// Has the context for itself.
    ///
    /// # Errors
    /// Any.
    fn after(
        &mut self,
        round: usize,
        state: &mut Self::State,
        context: &mut C,
    ) -> Result<(), Self::Error>;
}

/// An item in one of its rounds.
struct Pass<T> {
    round: usize,
    item: T,
}

/// What a thread does next.
enum Next<T> {
    Work(usize, Pass<T>),
    /// Wait for another thread to end something.
    Wait,
    Stop,
}

/// What the threads take turns with.
struct Turns<'c, C: ?Sized, I: Iterator<Item: Rounds<C>>> {
    rounds: usize,
    context: &'c mut C,
    items: I,
    waiting: VecDeque<Pass<I::Item>>,
    /// How often an item was begun.
    begun: usize,
    /// How often an item was ended.
    ended: usize,
    /// How many are under way in rounds before the last one.
    unsent: usize,
    /// What has been worked on and waits for something begun earlier.
    worked: BTreeMap<usize, Worked<C, I::Item>>,
    failed: Option<<I::Item as Rounds<C>>::Error>,
    /// Somebody failed or panicked.
    stopped: bool,
    /// How many threads sleep.
    asleep: usize,
}

type Worked<C, T> = (Pass<T>, Result<(), <T as Rounds<C>>::Error>);

impl<'c, C, T, I> Turns<'c, C, I>
where
    C: ?Sized,
    T: Rounds<C>,
    I: Iterator<Item = T>,
{
    fn new(context: &'c mut C, mut items: I, rounds: usize, together: usize) -> Self {
        let first = items.by_ref().take(together);
        let waiting = first.map(|item| Pass { round: 0, item }).collect();
        Self {
            rounds,
            context,
            items,
            waiting,
            begun: 0,
            ended: 0,
            unsent: 0,
            worked: BTreeMap::new(),
            failed: None,
            stopped: rounds == 0,
            asleep: 0,
        }
    }

    fn fail(&mut self, error: T::Error) {
        self.failed = Some(error);
        self.stopped = true;
    }

    fn next(&mut self, state: &mut T::State) -> Next<T> {
        if self.stopped {
            return Next::Stop;
        }
        let under_way = self.begun - self.ended;
        if self.unsent > 0 && self.waiting.len() <= under_way {
            return Next::Wait;
        }
        let Some(mut pass) = self.waiting.pop_front() else {
            return if under_way > 0 {
                Next::Wait
            } else {
                Next::Stop
            };
        };
        if let Err(error) = pass.item.before(pass.round, state, self.context) {
            self.fail(error);
            return Next::Stop;
        }
        self.begun += 1;
        self.unsent += usize::from(pass.round + 1 < self.rounds);
        Next::Work(self.begun - 1, pass)
    }

    /// Ends what has been worked on, and whatever waited for it.
    fn end(&mut self, number: usize, worked: Worked<C, T>, state: &mut T::State) {
        self.worked.insert(number, worked);
        while !self.stopped
            && let Some((mut pass, result)) = self.worked.remove(&self.ended)
        {
            let after = |()| pass.item.after(pass.round, state, self.context);
            if let Err(error) = result.and_then(after) {
                return self.fail(error);
            }
            self.ended += 1;
            pass.round += 1;
            if pass.round < self.rounds {
                self.unsent -= 1;
                self.waiting.push_back(pass);
            } else if let Some(item) = self.items.next() {
                self.waiting.push_back(Pass { round: 0, item });
            }
        }
    }
}

/// Wakes everybody up when a thread panics.
struct Alarm<'a, 'c, C: ?Sized, I: Iterator<Item: Rounds<C>>> {
    turns: &'a Mutex<Turns<'c, C, I>>,
    ended: &'a Condvar,
}

impl<C: ?Sized, I: Iterator<Item: Rounds<C>>> Drop for Alarm<'_, '_, C, I> {
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
fn take_part<C, T, I>(turns: &Mutex<Turns<'_, C, I>>, ended: &Condvar, state: &mut T::State)
where
    C: ?Sized,
    T: Rounds<C>,
    I: Iterator<Item = T>,
{
    let _alarm = Alarm { turns, ended };
    let mut turn = lock(turns);
    let mut looks = 0;
    loop {
        match turn.next(state) {
            Next::Work(number, mut pass) => {
                drop(turn);
                let result = pass.item.work(pass.round, state);
                turn = lock(turns);
                turn.end(number, (pass, result), state);
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
    /// Passes `items` through `rounds` rounds, `together` of them at a time: these through the first round, in their order,
    /// then through the second, and so on. An item that has passed its last round gives its place to the next one. The
    /// order in which [`Rounds::before`] and [`Rounds::after`] are called is the same with any number of threads; the
    /// next `before` may come before the `after` of what is under way. In the last round nothing is sent that the peer
    /// waits for in this stream.
    ///
    /// While anything under way has something to send, more must be waiting than is under way before the next `before`:
    /// so two parties that pass the same items through the same rounds, each of which receives what the other has sent of
    /// that item last, don't wait for each other, whatever their numbers of threads (`docs/decisions/0010` has the proof).
    ///
    /// # Errors
    /// The first one of `before`, `work` (in order) or `after`; no `after` is called on later items then, but `before`
    /// and `work` may have been.
    ///
    /// # Panics
    /// When one of the three does, and when there is no state.
    pub fn stream<C, T, I>(
        &self,
        states: &mut [T::State],
        context: &mut C,
        items: I,
        rounds: usize,
        together: usize,
    ) -> Result<(), T::Error>
    where
        C: Send + ?Sized,
        T: Rounds<C>,
        I: IntoIterator<Item = T, IntoIter: Send>,
    {
        assert!(
            !states.is_empty(),
            "states: expected one at least, got none"
        );
        let mut turns = Turns::new(context, items.into_iter(), rounds, together);
        let busy = self.threads().min(turns.waiting.len()).min(states.len());
        let (own, others) = states[..busy.max(1)].split_at_mut(1);
        let own = &mut own[0];
        let failed = match self.helpers.as_ref().filter(|_| busy > 1) {
            None => {
                while let Next::Work(number, mut pass) = turns.next(own) {
                    let result = pass.item.work(pass.round, own);
                    turns.end(number, (pass, result), own);
                }
                turns.failed
            }
            Some(helpers) => {
                let (turns, ended) = (Mutex::new(turns), Condvar::new());
                helpers.scope(|scope| {
                    for state in others {
                        let (turns, ended) = (&turns, &ended);
                        scope.spawn(move || take_part(turns, ended, state));
                    }
                    take_part(&turns, &ended, own);
                });
                let turns = turns.into_inner();
                turns.unwrap_or_else(PoisonError::into_inner).failed
            }
        };
        failed.map_or(Ok(()), Err)
    }
}
