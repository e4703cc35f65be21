//! Workers through the public interface alone.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use blindread_pool::{MAX_THREADS, Workers, WorkersError};

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

/// What `work` panicked with.
fn panic_of<R>(work: impl FnOnce() -> R) -> String {
    let words = catch_unwind(AssertUnwindSafe(work)).err().unwrap();
    words.downcast_ref::<String>().unwrap().clone()
}

/// The pool is as good as new.
fn assert_usable(workers: &Workers) {
    assert_eq!(workers.map(0..99, |i| i), (0..99).collect::<Vec<_>>());
}

#[test]
fn every_state_has_its_own_thread_at_the_same_time_and_the_first_one_the_callers() {
    let workers = Workers::new(4).unwrap();
    // threads that have just started, and threads that look for more work
    for count in (1..=4).cycle().take(400) {
        let (barrier, mut seen) = (Barrier::new(count), vec![None; count]);
        workers.abreast(&mut seen, |seen| {
            barrier.wait();
            *seen = Some(thread::current().id());
        });
        assert_eq!(seen[0], Some(thread::current().id()));
        assert_eq!(seen.iter().flatten().collect::<HashSet<_>>().len(), count);
    }
}

#[test]
fn without_a_state_nothing_is_worked_on() {
    for threads in [1, 3] {
        let workers = Workers::new(threads).unwrap();
        workers.abreast(&mut [0; 0], |_| panic!("no state"));
    }
}

#[test]
fn more_states_than_threads_are_refused_before_any_is_worked_on() {
    for threads in [1, 2, 3] {
        let (workers, mut states) = (Workers::new(threads).unwrap(), vec![0; threads + 1]);
        let words = panic_of(|| workers.abreast(&mut states, |state| *state += 1));
        let expected = format!("states: expected {threads} at most, got {}", threads + 1);
        assert_eq!((words, states), (expected, vec![0; threads + 1]));
        assert_usable(&workers);
    }
}

#[test]
fn a_panic_abreast_reaches_the_caller_after_the_other_threads_have_finished() {
    let workers = Workers::new(3).unwrap();
    for bad in 0..3 {
        let (barrier, mut states) = (Barrier::new(3), [0, 1, 2].map(|number| (number, false)));
        let words = panic_of(|| {
            workers.abreast(&mut states, |(number, done)| {
                barrier.wait();
                assert_ne!(*number, bad, "state {bad}");
                // long enough for a caller that doesn't wait to be found out
                thread::sleep(Duration::from_millis(20));
                *done = true;
            });
        });
        assert!(words.contains(&format!("state {bad}")), "{words}");
        assert_eq!(
            states.map(|(number, done)| done || number == bad),
            [true; 3]
        );
        assert_usable(&workers);
    }
}

/// A call of a stream: its name and the item.
type Call = (&'static str, usize);

/// What the stream of the items below `n` returns, and the calls of `before` and `after`: any call may `act`.
fn stream(
    workers: &Workers,
    n: usize,
    act: impl Fn(Call) -> Result<(), Call> + Sync,
) -> (Result<(), Call>, Vec<Call>) {
    let (mut states, mut seen) = (vec![0; workers.threads()], Vec::new());
    let begin = |seen: &mut Vec<Call>, (item, by): &mut (usize, _)| {
        act(("before", *item))?;
        seen.push(("before", *item));
        *by = Some(thread::current().id());
        Ok(())
    };
    let work = |worked: &mut usize, (item, by): &mut (usize, _)| {
        assert_eq!(*by, Some(thread::current().id()), "begun by another thread");
        *worked += 1;
        act(("work", *item))
    };
    let end = |seen: &mut Vec<Call>, (item, _): &mut (usize, _)| {
        act(("after", *item))?;
        seen.push(("after", *item));
        Ok(())
    };
    let items = (0..n).map(|item| (item, None));
    let result = workers.stream(&mut states, &mut seen, items, begin, work, end);
    if result.is_ok() {
        assert_eq!(states.iter().sum::<usize>(), n);
    }
    (result, seen)
}

fn only(seen: &[Call], name: &str) -> Vec<usize> {
    let calls = seen.iter().filter(|call| call.0 == name);
    calls.map(|&(_, item)| item).collect()
}

#[test]
fn a_stream_has_the_order_of_its_items_before_and_after_the_work() {
    for threads in [1, 2, 3, 7] {
        let workers = Workers::new(threads).unwrap();
        for n in [0, 1, 2, 3, 16, 1000] {
            let (result, seen) = stream(&workers, n, |(name, item)| {
                if name == "work" && item.is_multiple_of(3) {
                    // an item that comes later is ready before this one
                    thread::yield_now();
                }
                Ok(())
            });
            assert_eq!(result, Ok(()));
            assert_eq!(only(&seen, "before"), (0..n).collect::<Vec<_>>());
            assert_eq!(only(&seen, "after"), (0..n).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_stream_works_with_no_more_threads_than_it_has_states() {
    let workers = Workers::new(4).unwrap();
    for count in 1..=5 {
        let (mut sums, mut ended) = (vec![0; count], 0);
        let add = |sum: &mut usize, item: &mut usize| {
            *sum += *item;
            Ok::<_, ()>(())
        };
        let end = |ended: &mut usize, _: &mut usize| {
            *ended += 1;
            Ok(())
        };
        let result = workers.stream(&mut sums, &mut ended, 0..1000, |_, _| Ok(()), add, end);
        assert_eq!((result, ended), (Ok(()), 1000));
        assert_eq!(sums.iter().sum::<usize>(), 499_500);
        if count == 5 {
            assert_eq!(sums[4], 0);
        }
    }
}

#[test]
fn a_stream_ends_with_the_first_error_in_order_and_nothing_after_it() {
    for threads in [1, 2, 4] {
        let workers = Workers::new(threads).unwrap();
        for failing in ["before", "work", "after"] {
            for first in [0, 50, 98] {
                let fails = [first, first + 1].map(|item| (failing, item));
                let act = |call| match fails.contains(&call) {
                    true => Err(call),
                    false => Ok(()),
                };
                let (result, seen) = stream(&workers, 100, act);
                assert_eq!(result, Err((failing, first)));
                let ended = only(&seen, "after");
                assert_eq!(ended, (0..ended.len()).collect::<Vec<_>>());
                // what was begun before an item that cannot begin may have ended or not
                match failing {
                    "before" => assert!(ended.len() <= first),
                    _ => assert_eq!(ended.len(), first),
                }
                assert_usable(&workers);
            }
        }
    }
}

#[test]
fn a_panic_in_a_stream_reaches_the_caller_and_leaves_nobody_waiting() {
    for threads in [1, 2, 4] {
        let workers = Workers::new(threads).unwrap();
        for bad in ["before", "work", "after"] {
            for item in [0, 7, 99] {
                let words = panic_of(|| {
                    stream(&workers, 100, |call| {
                        assert_ne!(call, (bad, item), "as planned");
                        Ok(())
                    })
                });
                assert!(words.contains("as planned"), "{words}");
                assert_usable(&workers);
            }
        }
    }
}

#[test]
fn a_stream_works_on_several_threads_at_the_same_time() {
    let (workers, barrier) = (Workers::new(3).unwrap(), Barrier::new(3));
    // nobody gets on until all three have an item
    let (result, seen) = stream(&workers, 12, |(name, item)| {
        if name == "work" && item < 3 {
            barrier.wait();
        }
        Ok(())
    });
    assert_eq!((result, seen.len()), (Ok(()), 24));
}
