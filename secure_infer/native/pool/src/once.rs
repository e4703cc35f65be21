//! A stream of one round, of closures.

use std::marker::PhantomData;

use crate::{Rounds, Workers};

struct Once<'a, S, T, B, W, A> {
    item: T,
    before: &'a B,
    work: &'a W,
    after: &'a A,
    state: PhantomData<fn(S)>,
}

impl<C, S, T, E, B, W, A> Rounds<C> for Once<'_, S, T, B, W, A>
where
    C: ?Sized,
    S: Send,
    T: Send,
    E: Send,
    B: Fn(&mut C, &mut T) -> Result<(), E> + Sync,
    W: Fn(&mut S, &mut T) -> Result<(), E> + Sync,
    A: Fn(&mut C, &mut T) -> Result<(), E> + Sync,
{
    type State = S;
    type Kept = ();
    type Error = E;

    fn before(&mut self, _round: usize, (): &mut (), context: &mut C) -> Result<(), E> {
        (self.before)(context, &mut self.item)
    }

    fn work(&mut self, _round: usize, state: &mut S) -> Result<(), E> {
        (self.work)(state, &mut self.item)
    }

    fn after(&mut self, _round: usize, (): &mut (), context: &mut C) -> Result<(), E> {
        (self.after)(context, &mut self.item)
    }
}

impl Workers {
    /// Passes `items` through one round, see [`Self::stream`]: `before` and `after` in their order, with the context,
    /// `work` on several threads. What is received, or sent, depends on nothing that the peer gets from this stream.
    ///
    /// # Errors
    /// As [`Self::stream`].
    ///
    /// # Panics
    /// As [`Self::stream`].
    pub fn stream_once<S, C, T, E>(
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
        let items = items.into_iter().map(|item| Once {
            item,
            before: &before,
            work: &work,
            after: &after,
            state: PhantomData,
        });
        // while a thread works on one, another one waits behind it
        let kept = &mut vec![(); states.len()][..];
        self.stream((states, kept), context, items, 1, 2 * self.threads())
    }
}
