//! A ticket's life: made, claimed, spent. Each state is a type and each change consumes the old one.
//!
//! Reference: protocol.md, section 6 (abort) and section 2 (erasing and single use).
//! Function: a pool gives out numbers that rise and never repeat within a session; a ticket leaves the
//! pool before the first byte of its image leaves this side, so nothing can bring it back.
//! Security: material exists in memory only and is wiped when dropped (by the protocol crate); a
//! failure between claiming and spending drops it.

use std::collections::BTreeMap;

use crate::error::LinkError;

/// A ticket that waits for an image.
pub struct Made<T> {
    id: u64,
    material: T,
}

/// A ticket that has been taken for one image, and can't be given back.
pub struct Claimed<T> {
    id: u64,
    material: T,
}

/// What remains of a ticket: its number.
#[derive(Debug, PartialEq, Eq)]
pub struct Spent {
    id: u64,
}

impl<T> Made<T> {
    fn claim(self) -> Claimed<T> {
        Claimed {
            id: self.id,
            material: self.material,
        }
    }
}

impl<T> Claimed<T> {
    /// The ticket's number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Hands the material to the protocol, which consumes it.
    pub fn spend(self) -> (T, Spent) {
        (self.material, Spent { id: self.id })
    }
}

impl Spent {
    /// The ticket's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// The unspent tickets of one session.
pub struct Pool<T> {
    tickets: BTreeMap<u64, Made<T>>,
    last: u64,
    limit: usize,
}

/// A number that [`Pool::reserve`] gave out; only it can become a ticket.
pub struct Reserved {
    id: u64,
}

impl Reserved {
    /// The number of the ticket to be.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl<T> Pool<T> {
    /// An empty pool for at most `limit` unspent tickets.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            tickets: BTreeMap::new(),
            last: 0,
            limit,
        }
    }

    /// How many tickets are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.tickets.len()
    }

    /// How many tickets may be ready at once.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The next unused number.
    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.last + 1
    }

    /// Takes a number for good: it is used up even if the ticket is never finished.
    ///
    /// # Errors
    /// [`LinkError::TicketLimit`], [`LinkError::TicketReused`].
    pub fn reserve(&mut self, id: u64) -> Result<Reserved, LinkError> {
        if self.tickets.len() >= self.limit {
            return Err(LinkError::TicketLimit { limit: self.limit });
        }
        if id <= self.last || id == u64::MAX {
            return Err(LinkError::TicketReused {
                last: self.last,
                id,
            });
        }
        self.last = id;
        Ok(Reserved { id })
    }

    /// Keeps a finished ticket.
    pub fn add(&mut self, reserved: Reserved, material: T) {
        self.tickets.insert(
            reserved.id,
            Made {
                id: reserved.id,
                material,
            },
        );
    }

    /// Takes the oldest ticket.
    ///
    /// # Errors
    /// [`LinkError::NoTicket`].
    pub fn claim_next(&mut self) -> Result<Claimed<T>, LinkError> {
        self.tickets
            .pop_first()
            .map(|(_, made)| made.claim())
            .ok_or(LinkError::NoTicket)
    }

    /// Takes the ticket of this number.
    ///
    /// # Errors
    /// [`LinkError::TicketUnknown`] if there is none, or it was taken before.
    pub fn claim(&mut self, id: u64) -> Result<Claimed<T>, LinkError> {
        self.tickets
            .remove(&id)
            .map(Made::claim)
            .ok_or(LinkError::TicketUnknown { id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool_of(ids: &[u64]) -> Pool<u64> {
        let mut pool = Pool::new(3);
        for &id in ids {
            let reserved = pool.reserve(id).unwrap();
            pool.add(reserved, 10 * id);
        }
        pool
    }

    #[test]
    fn pool_claiming_twice_finds_no_ticket_the_second_time() {
        let mut pool = pool_of(&[1, 2]);
        let (material, spent) = pool.claim(2).unwrap().spend();
        assert_eq!((material, spent.id()), (20, 2));
        assert_eq!(pool.claim(2).err().unwrap().code(), "ticket_unknown");
        assert_eq!(pool.claim_next().unwrap().id(), 1);
        assert_eq!(pool.claim_next().err().unwrap().code(), "no_ticket");
    }

    #[test]
    fn pool_old_number_is_refused_even_when_its_ticket_was_never_finished() {
        let mut pool = pool_of(&[1]);
        let _unfinished = pool.reserve(2).unwrap();
        assert_eq!(pool.reserve(2).err().unwrap().code(), "ticket_reused");
        assert_eq!(pool.reserve(1).err().unwrap().code(), "ticket_reused");
        assert_eq!(pool.reserve(0).err().unwrap().code(), "ticket_reused");
        assert_eq!(
            pool.reserve(u64::MAX).err().unwrap().code(),
            "ticket_reused"
        );
        assert_eq!(pool.next_id(), 3);
    }

    #[test]
    fn pool_full_refuses_another_ticket() {
        let mut pool = pool_of(&[1, 2, 3]);
        assert_eq!(pool.reserve(4).err().unwrap().code(), "ticket_limit");
        pool.claim_next().unwrap();
        assert!(pool.reserve(4).is_ok());
    }
}
