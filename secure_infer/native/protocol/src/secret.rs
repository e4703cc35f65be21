//! Vectors of secrets, erased when they are used up, or part by part when each part is.

use std::hint::black_box;
use std::ops::{Deref, DerefMut};

use blindread_pool::Workers;

/// Elements that a thread erases at once.
const BLOCK: usize = 1 << 16;

/// Elements that are zeroed on drop; neither printed nor cloned.
///
/// By one pass and a barrier that makes the compiler believe that zeros are read afterwards; `zeroize` makes two passes
/// over a vector, of a volatile write for every element.
#[derive(Default)]
pub(crate) struct Secret<T: Copy + Default + Send>(Vec<T>);

impl<T: Copy + Default + Send> Secret<T> {
    /// `len` zeros.
    pub(crate) fn new(len: usize) -> Self {
        Self(vec![T::default(); len])
    }

    /// A copy.
    pub(crate) fn copy(elements: &[T]) -> Self {
        Self(elements.to_vec())
    }

    /// Room for `len` elements, whatever they are; the memory is kept for the next time.
    pub(crate) fn room(&mut self, len: usize) -> &mut [T] {
        if self.0.len() < len {
            *self = Self::new(len);
        }
        &mut self.0[..len]
    }

    /// Makes them `len` elements, whatever they are.
    pub(crate) fn fit(&mut self, len: usize) {
        if let Some(rest) = self.0.get_mut(len..) {
            wipe(rest);
        }
        self.0.resize(len, T::default());
    }

    /// Elements that there is memory for.
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// The elements themselves, which nobody erases any more.
    pub(crate) fn take(mut self) -> Vec<T> {
        std::mem::take(&mut self.0)
    }

    /// Whether nothing is left of elements that were [wiped](wipe) part by part.
    pub(crate) fn is_wiped(&self) -> bool
    where
        T: PartialEq,
    {
        self.0.iter().all(|element| *element == T::default())
    }

    /// Zeroes the elements from `start` on now, with several threads.
    pub(crate) fn wipe_from(&mut self, start: usize, workers: &Workers) {
        let rest = self.0.get_mut(start..).unwrap_or_default();
        workers.each(rest.chunks_mut(BLOCK), wipe);
    }

    /// Zeroes the elements now, with several threads; the memory that they were in.
    pub(crate) fn erase(mut self, workers: &Workers) -> Vec<T> {
        self.wipe_from(0, workers);
        self.take()
    }
}

impl<T: Copy + Default + Send> From<Vec<T>> for Secret<T> {
    fn from(elements: Vec<T>) -> Self {
        Self(elements)
    }
}

/// Zeroes elements, best while they are still in the cache.
pub(crate) fn wipe<T: Copy + Default>(elements: &mut [T]) {
    elements.fill(T::default());
    black_box(elements);
}

impl<T: Copy + Default + Send> Drop for Secret<T> {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl<T: Copy + Default + Send> Deref for Secret<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Copy + Default + Send> DerefMut for Secret<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}
