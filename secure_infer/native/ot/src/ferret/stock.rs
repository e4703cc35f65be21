//! OTs that are made and not used yet.
//!
//! Each kind of OT reads a table of 4 MB at random, and a party has three of them. Large batches fetch a table into the
//! cache once for many OTs; calls take what they want of a batch.

use std::hint::black_box;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Elements in the order in which they are used; each is erased when it is taken.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Stock<T: Zeroize> {
    made: Vec<T>,
    /// Elements that are used.
    used: usize,
}

impl<T: Copy + Default + Zeroize> Stock<T> {
    pub(super) fn new() -> Self {
        Self {
            made: Vec::new(),
            used: 0,
        }
    }

    /// Elements that are not used.
    pub(super) fn left(&self) -> usize {
        self.made.len() - self.used
    }

    /// Room for `count` new elements, when all others are used.
    pub(super) fn refill(&mut self, count: usize) -> &mut [T] {
        debug_assert_eq!(self.left(), 0);
        self.used = 0;
        self.made.resize(count, T::default());
        &mut self.made
    }

    /// Moves as many elements as there is room for, of which there must be so many.
    pub(super) fn take(&mut self, out: &mut [T]) {
        let taken = &mut self.made[self.used..][..out.len()];
        out.copy_from_slice(taken);
        taken.fill(T::default());
        black_box(taken);
        self.used += out.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_in_order_and_are_erased_when_taken() {
        let mut stock = Stock::new();
        stock.refill(5).copy_from_slice(&[1_u8, 2, 3, 4, 5]);
        let mut out = [0; 3];
        stock.take(&mut out);
        assert_eq!((out, stock.left()), ([1, 2, 3], 2));
        assert_eq!(stock.made, [0, 0, 0, 4, 5]);
        stock.take(&mut out[..2]);
        assert_eq!(stock.left(), 0);
        stock.refill(2);
        assert_eq!(stock.left(), 2);
    }
}
