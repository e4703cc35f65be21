//! A stream of items that pass a party's connection, then a thread, then the connection again, in order, round after
//! round.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

use crate::Workers;
use crate::helpers::LOOKS;

/// An item of a [stream](Workers::stream), and what is done with it in each of its rounds. A thread that takes an item
/// calls all three, so that what `before` brings into its caches is worked on there; but `after` has to wait for the
/// item before it, and is called by whoever ends that one.
pub trait Rounds<C: ?Sized>: Send {
    /// What every thread has of its own, to work with.
    type State: Send;
    /// What every thread has of its own besides, for `before` and for `after`, whoever calls it: memory that goes back
    /// to the thread whose caches it is in.
    type Kept: Send;
    /// A failure, which ends the stream.
    type Error: Send;

    /// Has the context for itself, and may wait with it for the peer.
    ///
    /// # Errors
    /// Any.
    fn before(
        &mut self,
        round: usize,
        kept: &mut Self::Kept,
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
        kept: &mut Self::Kept,
        context: &mut C,
    ) -> Result<(), Self::Error>;
}

/// An item in one of its rounds.
struct Pass<T> {
    round: usize,
    item: T,
}

impl<T> Pass<T> {
    /// The first; in a place of its own, since it is handed from thread to thread.
    fn new(item: T) -> Box<Self> {
        Box::new(Self { round: 0, item })
    }
}

/// A pass that was begun: its number, and who works on it.
struct Turn<T> {
    number: usize,
    thread: usize,
    pass: Box<Pass<T>>,
}

/// What a thread does next.
enum Next<T> {
    Work(Turn<T>),
    /// Wait for another thread to end something.
    Wait,
    Stop,
}

/// What the threads take turns with.
struct Turns<'c, C: ?Sized, I: Iterator<Item: Rounds<C>>> {
    rounds: usize,
    context: &'c mut C,
    kept: &'c mut [<I::Item as Rounds<C>>::Kept],
    items: I,
    waiting: VecDeque<Box<Pass<I::Item>>>,
    /// How often an item was ended.
    ended: usize,
    /// What was begun since, in order; what has been worked on waits there for what was begun earlier.
    under_way: VecDeque<Option<Worked<C, I::Item>>>,
    /// How many are under way in rounds before the last one.
    unsent: usize,
    failed: Option<<I::Item as Rounds<C>>::Error>,
    /// Somebody failed or panicked.
    stopped: bool,
    /// How many threads sleep.
    asleep: usize,
}

type Worked<C, T> = (Turn<T>, Result<(), <T as Rounds<C>>::Error>);

impl<'c, C, T, I> Turns<'c, C, I>
where
    C: ?Sized,
    T: Rounds<C>,
    I: Iterator<Item = T>,
{
    fn new(
        context: &'c mut C,
        kept: &'c mut [T::Kept],
        mut items: I,
        rounds: usize,
        together: usize,
    ) -> Self {
        let first = items.by_ref().take(together);
        let waiting = first.map(Pass::new).collect();
        Self {
            rounds,
            context,
            kept,
            items,
            waiting,
            ended: 0,
            under_way: VecDeque::new(),
            unsent: 0,
            failed: None,
            stopped: rounds == 0,
            asleep: 0,
        }
    }

    fn fail(&mut self, error: T::Error) {
        self.failed = Some(error);
        self.stopped = true;
    }

    fn next(&mut self, thread: usize) -> Next<T> {
        if self.stopped {
            return Next::Stop;
        }
        let under_way = self.under_way.len();
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
        let kept = &mut self.kept[thread];
        if let Err(error) = pass.item.before(pass.round, kept, self.context) {
            self.fail(error);
            return Next::Stop;
        }
        self.under_way.push_back(None);
        self.unsent += usize::from(pass.round + 1 < self.rounds);
        Next::Work(Turn {
            number: self.ended + under_way,
            thread,
            pass,
        })
    }

    /// Ends what has been worked on, and whatever waited for it.
    fn end(&mut self, worked: Worked<C, T>) {
        let place = worked.0.number - self.ended;
        self.under_way[place] = Some(worked);
        while !self.stopped
            && let Some((turn, result)) = self.under_way.front_mut().and_then(Option::take)
        {
            self.under_way.pop_front();
            self.ended += 1;
            let (mut pass, kept) = (turn.pass, &mut self.kept[turn.thread]);
            let after = |()| pass.item.after(pass.round, kept, self.context);
            if let Err(error) = result.and_then(after) {
                return self.fail(error);
            }
            pass.round += 1;
            if pass.round < self.rounds {
                self.unsent -= 1;
                self.waiting.push_back(pass);
            } else if let Some(item) = self.items.next() {
                self.waiting.push_back(Pass::new(item));
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
fn take_part<C, T, I>(
    turns: &Mutex<Turns<'_, C, I>>,
    ended: &Condvar,
    thread: usize,
    state: &mut T::State,
) where
    C: ?Sized,
    T: Rounds<C>,
    I: Iterator<Item = T>,
{
    let _alarm = Alarm { turns, ended };
    let mut turn = lock(turns);
    let mut looks = 0;
    loop {
        match turn.next(thread) {
            Next::Work(mut taken) => {
                drop(turn);
                let result = taken.pass.item.work(taken.pass.round, state);
                turn = lock(turns);
                turn.end((taken, result));
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
    /// then through the second, and so on. An item that has passed its last round gives its place to the next one. There
    /// work at most as many threads as have a state and something to keep. The order in which [`Rounds::before`] and [`Rounds::after`] are called is the same with any number of threads; the
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
    /// When one of the three does, and when no thread has a state and something to keep.
    pub fn stream<C, T, I>(
        &self,
        (states, kept): (&mut [T::State], &mut [T::Kept]),
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
        let owners = states.len().min(kept.len());
        assert!(owners > 0, "states: expected one at least, got none");
        let mut turns = Turns::new(context, kept, items.into_iter(), rounds, together);
        let busy = self.threads().min(turns.waiting.len()).min(owners);
        let (own, others) = states[..busy.max(1)].split_at_mut(1);
        let own = &mut own[0];
        let failed = match self.helpers.as_ref().filter(|_| busy > 1) {
            None => {
                while let Next::Work(mut taken) = turns.next(0) {
                    let result = taken.pass.item.work(taken.pass.round, own);
                    turns.end((taken, result));
                }
                turns.failed
            }
            Some(helpers) => {
                let (turns, ended) = (Mutex::new(turns), Condvar::new());
                helpers.scope(|scope| {
                    for (other, state) in others.iter_mut().enumerate() {
                        let (turns, ended) = (&turns, &ended);
                        scope.spawn(move || take_part(turns, ended, other + 1, state));
                    }
                    take_part(&turns, &ended, 0, own);
                });
                let turns = turns.into_inner();
                turns.unwrap_or_else(PoisonError::into_inner).failed
            }
        };
        failed.map_or(Ok(()), Err)
    }
}
