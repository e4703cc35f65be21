//! Workers through the public interface alone.

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use blindread_pool::{MAX_THREADS, Rounds, Workers, WorkersError};

#[test]
fn every_item_is_worked_on_once_whatever_the_number_of_threads() {
    for threads in [1, 2, 3, 7] {
        let workers = Workers::new(threads).unwrap();
        assert_eq!(workers.threads(), threads);
        for n in [0, 1, 2, 3, 1000] {
            let mut numbers = vec![0; n];
            workers.each(numbers.iter_mut().enumerate(), |(i, number)| {
                *number += i + 1;
            });
            assert_eq!(numbers, (1..=n).collect::<Vec<_>>());
            assert_eq!(workers.map(0..n, |i| i + 1), numbers);
        }
    }
}

#[test]
fn as_many_threads_as_promised_work_at_the_same_time() {
    let workers = Workers::new(3).unwrap();
    let (barrier, seen) = (Barrier::new(3), Mutex::new(HashSet::new()));
    // with fewer than three threads at work, nobody would get past the barrier
    workers.each(0..3, |_| {
        barrier.wait();
        seen.lock().unwrap().insert(thread::current().id());
    });
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), 3);
    assert!(seen.contains(&thread::current().id()));
}

#[test]
fn one_thread_works_in_the_caller_and_in_order() {
    let (own, order) = (thread::current().id(), Mutex::new(Vec::new()));
    Workers::one().each(0..100, |i| {
        assert_eq!(thread::current().id(), own);
        order.lock().unwrap().push(i);
    });
    assert_eq!(order.into_inner().unwrap(), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_state_belongs_to_one_thread_and_bounds_how_many_work() {
    let workers = Workers::new(4).unwrap();
    for count in 1..=5 {
        let mut sums = vec![0; count];
        workers.each_with(&mut sums, 0..1000, |sum, i| *sum += i);
        assert_eq!(sums.iter().sum::<i32>(), 499_500);
        if count == 5 {
            assert_eq!(sums[4], 0);
        }
    }
}

#[test]
fn the_first_failure_in_order_is_reported_and_nothing_left_out() {
    for threads in [1, 2, 3] {
        let workers = Workers::new(threads).unwrap();
        let mut done = vec![0; threads];
        let failed = workers.try_each_with(&mut done, 0..1000, |done, i| {
            *done += 1;
            if i % 300 == 299 { Err(i) } else { Ok(()) }
        });
        assert_eq!((failed, done.iter().sum()), (Err(299), 1000));
        let fine = workers.try_each_with(&mut done, 0..1000, |_, _| Ok::<(), ()>(()));
        assert_eq!(fine, Ok(()));
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_workers_survive_it() {
    for threads in [1, 2, 3] {
        let workers = Workers::new(threads).unwrap();
        for bad in [0, 499, 999] {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                workers.each(0..1000, |i| assert_ne!(i, bad, "item {i}"));
            }));
            let words = panicked.unwrap_err();
            let words = words.downcast_ref::<String>().unwrap();
            assert!(words.contains(&format!("item {bad}")), "{words}");
        }
        let done = AtomicUsize::new(0);
        workers.each(0..1000, |_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 1000);
    }
}

#[test]
fn two_parties_with_shared_and_with_own_threads_do_not_wait_for_each_other() {
    let shared = Workers::new(2).unwrap();
    for other in [shared.clone(), Workers::new(2).unwrap()] {
        let sum = |workers: &Workers| workers.map(0..500_u32, |i| i * i).iter().sum::<u32>();
        thread::scope(|scope| {
            let theirs = scope.spawn(|| sum(&other));
            assert_eq!(sum(&shared), 41_541_750);
            assert_eq!(theirs.join().unwrap(), 41_541_750);
        });
    }
}

#[test]
fn number_out_of_range_is_refused() {
    for got in [0, MAX_THREADS + 1, usize::MAX] {
        let refused = Workers::new(got).unwrap_err();
        assert_eq!(refused, WorkersError::Number { got });
    }
    let words = Workers::new(0).unwrap_err().to_string();
    assert_eq!(words, "threads: expected 1 to 256, got 0");
}

/// A step of a stream: its name, the round and the item.
type Step = (&'static str, usize, usize);

/// An item that passes a stream, and fails or panics where it is told to.
struct Numbered<'a> {
    number: usize,
    value: usize,
    work: &'a (dyn Fn(usize, usize) -> Result<(), Step> + Sync),
    fails: &'a (dyn Fn(Step) -> bool + Sync),
}

impl<'a> Numbered<'a> {
    fn new(
        number: usize,
        work: &'a (dyn Fn(usize, usize) -> Result<(), Step> + Sync),
        fails: &'a (dyn Fn(Step) -> bool + Sync),
    ) -> Self {
        Self {
            number,
            value: 0,
            work,
            fails,
        }
    }

    fn step(&self, step: Step) -> Result<(), Step> {
        if (self.fails)(step) {
            Err(step)
        } else {
            Ok(())
        }
    }
}

impl Rounds<Vec<Step>> for Numbered<'_> {
    /// How much this thread has worked.
    type State = usize;
    /// What this thread has begun and nobody has ended.
    type Kept = HashSet<usize>;
    type Error = Step;

    fn before(
        &mut self,
        round: usize,
        kept: &mut HashSet<usize>,
        seen: &mut Vec<Step>,
    ) -> Result<(), Step> {
        let step = ("before", round, self.number);
        self.step(step)?;
        kept.insert(self.number);
        assert_eq!(self.value, 2 * round);
        self.value += 1;
        seen.push(step);
        Ok(())
    }

    fn work(&mut self, round: usize, state: &mut usize) -> Result<(), Step> {
        self.step(("work", round, self.number))?;
        (self.work)(round, self.number)?;
        self.value += 1;
        *state += 1;
        Ok(())
    }

    fn after(
        &mut self,
        round: usize,
        kept: &mut HashSet<usize>,
        seen: &mut Vec<Step>,
    ) -> Result<(), Step> {
        let step = ("after", round, self.number);
        self.step(step)?;
        assert!(kept.remove(&self.number), "begun by another thread");
        assert_eq!(self.value, 2 * round + 2);
        seen.push(step);
        Ok(())
    }
}

/// What threads keep that have begun nothing.
fn nothing(threads: usize) -> Vec<HashSet<usize>> {
    vec![HashSet::new(); threads]
}

fn only(seen: &[Step], what: &str) -> Vec<(usize, usize)> {
    let of = seen.iter().filter(|(step, ..)| *step == what);
    of.map(|&(_, round, item)| (round, item)).collect()
}

/// (round, item) in the order that a stream promises.
fn in_order(n: usize, rounds: usize, together: usize) -> Vec<(usize, usize)> {
    let mut queue: VecDeque<_> = (0..n.min(together)).map(|item| (0, item)).collect();
    let (mut next, mut order) = (together, Vec::new());
    while let Some((round, item)) = queue.pop_front() {
        order.push((round, item));
        if round + 1 < rounds {
            queue.push_back((round + 1, item));
        } else if next < n {
            queue.push_back((0, next));
            next += 1;
        }
    }
    order
}

#[test]
fn a_stream_has_one_order_of_rounds_and_items_before_and_after_the_work() {
    let (work, fails) = (|_, _| Ok(()), |_| false);
    for threads in [1, 2, 3, 7] {
        let workers = Workers::new(threads).unwrap();
        for (n, rounds, together) in [
            (0, 2, 4),
            (1, 3, 4),
            (2, 3, 2),
            (5, 4, 1),
            (9, 1, 16),
            (16, 3, 16),
            (300, 5, 16),
        ] {
            let (mut states, mut seen) = (vec![0; threads], Vec::new());
            let items = (0..n).map(|number| Numbered::new(number, &work, &fails));
            let mut kept = nothing(threads);
            let own = (&mut states[..], &mut kept[..]);
            let result = workers.stream(own, &mut seen, items, rounds, together);
            result.unwrap();
            assert_eq!(kept, nothing(threads));
            let order = in_order(n, rounds, together);
            assert_eq!(only(&seen, "before"), order);
            assert_eq!(only(&seen, "after"), order);
            assert_eq!(states.iter().sum::<usize>(), n * rounds);
        }
    }
}

#[test]
fn a_stream_ends_with_the_first_error_in_order_and_nothing_after_it() {
    let work = |_, _| Ok(());
    for threads in [1, 2, 4] {
        let workers = Workers::new(threads).unwrap();
        for failing in ["before", "work", "after"] {
            let (mut states, mut seen) = (vec![0; threads], Vec::new());
            let fails = |(step, round, item): Step| {
                step == failing && round == 1 && [50, 51].contains(&item)
            };
            let items = (0..100).map(|number| Numbered::new(number, &work, &fails));
            let own = (&mut states[..], &mut nothing(threads)[..]);
            let result = workers.stream(own, &mut seen, items, 2, 10);
            assert_eq!(result, Err((failing, 1, 50)));
            let (passed, order) = (only(&seen, "after"), in_order(100, 2, 10));
            assert_eq!(passed, order[..passed.len()]);
            assert!(!passed.contains(&(1, 50)));
            // the pool is as good as new
            assert_eq!(workers.map(0..9, |i| i), (0..9).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_panic_in_a_stream_reaches_the_caller_and_leaves_nobody_waiting() {
    let fails = |_| false;
    for threads in [1, 2, 4] {
        let workers = Workers::new(threads).unwrap();
        for bad in [0, 7, 99] {
            let work = |round, item| {
                assert_ne!((round, item), (1, bad), "as planned");
                Ok(())
            };
            // where few are together, the others wait for the one that panics
            for together in [1, 2, 16] {
                let caught = catch_unwind(AssertUnwindSafe(|| {
                    let items = (0..100).map(|number| Numbered::new(number, &work, &fails));
                    let own = (&mut vec![0; threads][..], &mut nothing(threads)[..]);
                    workers.stream(own, &mut Vec::new(), items, 3, together)
                }));
                assert!(caught.is_err());
            }
        }
    }
}

#[test]
fn a_stream_works_on_several_threads_at_the_same_time() {
    let (workers, barrier) = (Workers::new(3).unwrap(), Barrier::new(3));
    let (fails, mut states) = (|_| false, [0; 3]);
    // nobody gets on until all three have an item
    let work = |round, item| {
        if round == 0 && item < 3 {
            barrier.wait();
        }
        Ok(())
    };
    let items = (0..6).map(|number| Numbered::new(number, &work, &fails));
    let own = (&mut states[..], &mut nothing(3)[..]);
    let result = workers.stream(own, &mut Vec::new(), items, 4, 6);
    result.unwrap();
    assert_eq!(states.iter().sum::<usize>(), 24);
}

/// One party's end of a connection.
struct End {
    to_peer: Sender<(usize, usize)>,
    from_peer: Receiver<(usize, usize)>,
}

/// An item of which the one who asks sends in every round but the last, and the other answers; the answer is received in
/// the round that follows.
struct Talk {
    number: usize,
    last: usize,
    asks: bool,
}

impl Talk {
    fn recv(&self, round: usize, end: &End) -> Result<(), &'static str> {
        match end.from_peer.recv_timeout(Duration::from_secs(20)) {
            Ok(message) if message == (round, self.number) => Ok(()),
            Ok(_) => Err("another message"),
            Err(_) => Err("both wait for each other"),
        }
    }
}

impl Rounds<End> for Talk {
    type State = ();
    type Kept = ();
    type Error = &'static str;

    fn before(&mut self, round: usize, (): &mut (), end: &mut End) -> Result<(), &'static str> {
        if self.asks && round > 0 {
            self.recv(round - 1, end)
        } else if !self.asks && round < self.last {
            self.recv(round, end)
        } else {
            Ok(())
        }
    }

    fn work(&mut self, round: usize, (): &mut ()) -> Result<(), &'static str> {
        if (self.number + round).is_multiple_of(3) {
            thread::yield_now();
        }
        Ok(())
    }

    fn after(&mut self, round: usize, (): &mut (), end: &mut End) -> Result<(), &'static str> {
        if round == self.last {
            return Ok(());
        }
        let sent = end.to_peer.send((round, self.number));
        sent.map_err(|_| "the peer has gone")
    }
}

#[test]
fn parties_with_any_numbers_of_threads_do_not_wait_for_each_other() {
    let talk = |asks, n, threads, end: &mut End| {
        let items = (0..n).map(|number| Talk {
            number,
            last: 4,
            asks,
        });
        let workers = Workers::new(threads).unwrap();
        let own = (&mut vec![(); threads][..], &mut vec![(); threads][..]);
        workers.stream(own, end, items, 5, 8)
    };
    for (ours, theirs) in [(1, 1), (1, 2), (2, 1), (2, 2), (3, 7), (7, 3), (8, 8)] {
        for n in [1, 2, 3, 4, 5, 8, 9, 17, 100] {
            let (ask, answer) = (channel(), channel());
            let [mut here, mut there] = [(ask.0, answer.1), (answer.0, ask.1)]
                .map(|(to_peer, from_peer)| End { to_peer, from_peer });
            thread::scope(|scope| {
                let peer = scope.spawn(move || talk(false, n, theirs, &mut there));
                talk(true, n, ours, &mut here).unwrap();
                peer.join().unwrap().unwrap();
            });
        }
    }
}
