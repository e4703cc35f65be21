//! Workers through the public interface alone.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

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

/// What the calling thread saw, in order: ("before" | "after", item).
type Seen = Vec<(&'static str, usize)>;

fn only(seen: &Seen, what: &str) -> Vec<usize> {
    let of = seen.iter().filter(|(step, _)| *step == what);
    of.map(|&(_, item)| item).collect()
}

#[test]
fn a_stream_passes_the_caller_in_order_before_and_after_the_work() {
    for threads in [1, 2, 3, 7] {
        let workers = Workers::new(threads).unwrap();
        for n in [0, 1, 2, 5, 1000] {
            let (mut states, mut seen) = (vec![0; threads], Seen::new());
            let items = (0..n).map(|i| (i, 0));
            let result: Result<(), ()> = workers.stream(
                &mut states,
                &mut seen,
                items,
                |seen, (i, value)| {
                    *value = 10 * *i;
                    seen.push(("before", *i));
                    Ok(())
                },
                |state, (_, value)| {
                    *value += 1;
                    *state += 1;
                    Ok(())
                },
                |seen, (i, value)| {
                    assert_eq!(*value, 10 * *i + 1);
                    seen.push(("after", *i));
                    Ok(())
                },
            );
            result.unwrap();
            let all: Vec<usize> = (0..n).collect();
            assert_eq!(only(&seen, "before"), all);
            assert_eq!(only(&seen, "after"), all);
            assert_eq!(states.iter().sum::<usize>(), n);
        }
    }
}

#[test]
fn a_stream_ends_with_the_first_error_in_order_and_nothing_after_it() {
    for threads in [1, 2, 4] {
        let workers = Workers::new(threads).unwrap();
        for failing in ["before", "work", "after"] {
            let (mut states, mut seen) = (vec![(); threads], Seen::new());
            let fails = |step: &str, i: usize| match i {
                50 | 51 if step == failing => Err((failing, i)),
                _ => Ok(()),
            };
            let result = workers.stream(
                &mut states,
                &mut seen,
                0..100,
                |_, i| fails("before", *i),
                |(), i| fails("work", *i),
                |seen, i| {
                    fails("after", *i)?;
                    seen.push(("after", *i));
                    Ok(())
                },
            );
            assert_eq!(result, Err((failing, 50)));
            let passed = only(&seen, "after");
            assert_eq!(passed, (0..passed.len()).collect::<Vec<_>>());
            assert!(passed.len() <= 50);
            // the pool is as good as new
            assert_eq!(workers.map(0..9, |i| i), (0..9).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_panic_in_a_stream_reaches_the_caller_and_leaves_nobody_waiting() {
    for threads in [1, 2, 4] {
        let workers = Workers::new(threads).unwrap();
        for bad in [0, 7, 99] {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let work = |(): &mut (), i: &mut usize| {
                    assert_ne!(*i, bad, "as planned");
                    Ok::<_, ()>(())
                };
                let mut states = vec![(); threads];
                workers.stream(
                    &mut states,
                    &mut (),
                    0..100,
                    |_, _| Ok(()),
                    work,
                    |_, _| Ok(()),
                )
            }));
            assert!(caught.is_err());
        }
    }
}

#[test]
fn a_stream_works_on_several_threads_while_the_caller_is_held_up() {
    let workers = Workers::new(3).unwrap();
    let barrier = Barrier::new(3);
    // the caller waits before the third item until two others are at work on the first two
    let result: Result<(), ()> = workers.stream(
        &mut [(); 3],
        &mut (),
        0..3,
        |(), i| {
            if *i == 2 {
                barrier.wait();
            }
            Ok(())
        },
        |(), i| {
            if *i < 2 {
                barrier.wait();
            }
            Ok(())
        },
        |(), _| Ok(()),
    );
    result.unwrap();
}
