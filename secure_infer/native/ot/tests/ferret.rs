//! Both parties of `ferret` through the public interface alone.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use blindread_ot::{
    FerretReceiver, FerretSender, OtEngine, OtError, OtKind, OtReceiverEngine, OtSenderEngine,
    ReceiverSetup, Refill, SenderSetup,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const KINDS: [OtKind; 2] = [OtKind::RandomOt, OtKind::OneOf16];

fn pair(seed: u64) -> (FerretSender, FerretReceiver) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let (setup, request) = SenderSetup::start(b"one", &mut rng);
    let (receiver, answer) = ReceiverSetup::new(b"one")
        .respond(&request, &mut rng)
        .unwrap();
    (
        FerretSender::new(setup.finish(&answer).unwrap(), &mut rng),
        FerretReceiver::new(receiver, &mut rng),
    )
}

/// Refills until `n` OTs are ready; `tamper` may change requests (false) and answers (true).
fn refill_with(
    (sender, receiver): &mut (FerretSender, FerretReceiver),
    kind: OtKind,
    n: usize,
    mut tamper: impl FnMut(bool, Refill, &mut Vec<u8>),
) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(refill) = sender.refill(kind, n) {
        assert_eq!(receiver.refill(kind, n), Some(refill));
        let (mut request, mut answer) = (Vec::new(), Vec::new());
        receiver.request_refill(refill, &mut request).unwrap();
        tamper(false, refill, &mut request);
        sender.answer_refill(refill, &request, &mut answer).unwrap();
        tamper(true, refill, &mut answer);
        receiver.finish_refill(&answer).unwrap();
        messages.extend([request, answer]);
    }
    messages
}

fn refill(pair: &mut (FerretSender, FerretReceiver), kind: OtKind, n: usize) -> Vec<Vec<u8>> {
    refill_with(pair, kind, n, |_, _, _| ())
}

/// How many of `n` OTs the parties disagree about, and (choice, chosen pad, other pad) of each.
fn use_up(
    (sender, receiver): &mut (FerretSender, FerretReceiver),
    kind: OtKind,
    n: usize,
    bits: u32,
) -> (usize, Vec<(u8, u32, u32)>) {
    let (mut nothing, mut choices) = (Vec::new(), vec![99; n]);
    let ots: Vec<_> = if kind == OtKind::RandomOt {
        let (mut pads, mut pads0, mut pads1) = (vec![9; n], vec![9; n], vec![9; n]);
        receiver
            .random_ot(n, bits, &mut nothing, &mut choices, &mut pads)
            .unwrap();
        sender
            .random_ot(n, bits, &[], &mut pads0, &mut pads1)
            .unwrap();
        (0..n)
            .map(|k| {
                let entries = [pads0[k], pads1[k]];
                let choice = usize::from(choices[k]);
                (choices[k], pads[k], entries[choice], entries[1 - choice])
            })
            .collect()
    } else {
        let (mut pads, mut tables) = (vec![9; n], vec![9; n]);
        receiver
            .one_of_16(n, &mut nothing, &mut choices, &mut pads)
            .unwrap();
        sender.one_of_16(n, &[], &mut tables).unwrap();
        (0..n)
            .map(|k| {
                let entry = |x: u8| u32::from(tables[k] >> x & 1);
                let other = (choices[k] + 1 + (k % 15) as u8) & 15;
                (
                    choices[k],
                    u32::from(pads[k]),
                    entry(choices[k]),
                    entry(other),
                )
            })
            .collect()
    };
    assert!(nothing.is_empty());
    let wrong = ots.iter().filter(|ot| ot.1 != ot.2).count();
    (wrong, ots.iter().map(|ot| (ot.0, ot.2, ot.3)).collect())
}

/// Fails when `ones` of `total` fair coins is six standard deviations off.
fn assert_fair(what: &str, ones: usize, total: usize) {
    let deviation = (2.0 * ones as f64 - total as f64).abs() / (total as f64).sqrt();
    assert!(deviation < 6.0, "{what}: {ones} of {total}");
}

/// Compiles only if both engines can be given to another thread.
#[test]
fn engines_are_send() {
    fn sendable<T: Send>() {}
    sendable::<FerretSender>();
    sendable::<FerretReceiver>();
}

#[test]
fn engine_names_are_read_back_and_others_refused() {
    for engine in OtEngine::ALL {
        assert_eq!(OtEngine::from_name(engine.name()), Some(engine));
    }
    assert_eq!(OtEngine::from_name("silver"), None);
}

#[test]
fn softspoken_never_wants_a_refill() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (setup, request) = SenderSetup::start(b"one", &mut rng);
    let (mut receiver, answer) = ReceiverSetup::new(b"one")
        .respond(&request, &mut rng)
        .unwrap();
    let sender = setup.finish(&answer).unwrap();
    for kind in KINDS {
        assert_eq!(sender.refill(kind, usize::MAX), None);
        assert_eq!(receiver.refill(kind, usize::MAX), None);
    }
    let refused = Err(OtError::Refill { expected: "none" });
    assert_eq!(receiver.finish_refill(&[]), refused);
}

#[test]
fn calls_of_any_size_and_order_chosen_pad_agrees() {
    let mut pair = pair(2);
    for (kind, n, bits) in [
        (OtKind::OneOf16, 1, 1),
        (OtKind::RandomOt, 255, 27),
        (OtKind::RandomOt, 0, 1),
        (OtKind::OneOf16, 2049, 1),
        (OtKind::RandomOt, 257, 32),
        (OtKind::OneOf16, 0, 1),
        (OtKind::RandomOt, 20_001, 1),
        (OtKind::OneOf16, 5001, 1),
    ] {
        refill(&mut pair, kind, n);
        let (wrong, ots) = use_up(&mut pair, kind, n, bits);
        assert_eq!(wrong, 0);
        let fits = |pad: u32| u64::from(pad) >> bits == 0;
        assert!(ots.iter().all(|ot| fits(ot.1) && fits(ot.2)));
    }
}

#[test]
fn more_ots_than_a_round_makes_take_several_refills() {
    let mut pair = pair(3);
    let n = 5_000_000;
    assert_eq!(refill(&mut pair, OtKind::RandomOt, n).len(), 4);
    assert_eq!(use_up(&mut pair, OtKind::RandomOt, n, 32).0, 0);
}

#[test]
fn choices_and_pads_look_uniform_and_the_other_pad_independent() {
    const N: usize = 1 << 18;
    let mut pair = pair(4);
    for (kind, entries, bits) in [(OtKind::RandomOt, 2, 27), (OtKind::OneOf16, 16, 1)] {
        refill(&mut pair, kind, N);
        let (wrong, ots) = use_up(&mut pair, kind, N, bits);
        assert_eq!(wrong, 0);
        for choice in 0..entries {
            let count = ots.iter().filter(|ot| ot.0 == choice).count();
            let mean = N / usize::from(entries);
            let deviation = count.abs_diff(mean) as f64 / (mean as f64).sqrt();
            assert!(deviation < 6.0, "{kind:?}, choice {choice}: {count}");
        }
        for bit in 0..bits {
            let count = |test: &dyn Fn(&(u8, u32, u32)) -> u32| {
                ots.iter().filter(|ot| test(ot) >> bit & 1 == 1).count()
            };
            assert_fair("chosen pads", count(&|ot| ot.1), N);
            assert_fair("other pads", count(&|ot| ot.2), N);
            assert_fair("chosen and other", count(&|ot| ot.1 ^ ot.2), N);
            assert_fair(
                "pad and choice",
                count(&|ot| ot.1 ^ u32::from(ot.0) << bit),
                N,
            );
        }
        let serial = ots.windows(2).filter(|two| two[0].1 & 1 != two[1].1 & 1);
        assert_fair("neighbours", serial.count(), N - 1);
    }
}

#[test]
fn two_connections_share_no_message_and_no_ot() {
    let (mut one, mut two) = (pair(5), pair(6));
    for kind in KINDS {
        let (ours, theirs) = (refill(&mut one, kind, 1), refill(&mut two, kind, 1));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let equal = ours.iter().zip(theirs).filter(|(a, b)| a == b).count();
            assert!(equal < ours.len() / 64, "{equal} of {}", ours.len());
        }
        let ots = |pair| use_up(pair, kind, 4096, 32).1;
        let (ours, theirs) = (ots(&mut one), ots(&mut two));
        let equal = ours.iter().zip(&theirs).filter(|(a, b)| a == b).count();
        // Choice and two one-bit pads agree now and then over F_16.
        assert!(equal < 4096 / 32, "{kind:?}: {equal}");
    }
}

#[test]
fn a_changed_answer_spoils_the_bins_of_its_tree() {
    for (kind, blocks) in [(OtKind::RandomOt, 11), (OtKind::OneOf16, 13)] {
        let mut pair = pair(7);
        refill_with(&mut pair, kind, 1, |is_answer, refill, message| {
            if is_answer && refill.kind == kind {
                assert_eq!(message.len(), 16 * 2048 * blocks);
                message[16 * 5 * blocks] ^= 1;
            }
        });
        // Level 0 of tree 5, hence a half of its 2048 leaves and what follows from their sums; no other tree.
        for tree in 0..8 {
            let (wrong, _) = use_up(&mut pair, kind, 2048, 32);
            assert_eq!(wrong > 300, tree == 5, "tree {tree}: {wrong} wrong");
        }
    }
}

#[test]
fn a_changed_request_spoils_the_ots() {
    for kind in KINDS {
        let mut pair = pair(8);
        refill_with(&mut pair, kind, 1, |is_answer, refill, message| {
            if !is_answer && refill.kind == kind {
                // Corrections of the first elements of the LPN secret, which most samples do not meet.
                message[..200_000].iter_mut().for_each(|byte| *byte ^= 0xa5);
            }
        });
        let (wrong, _) = use_up(&mut pair, kind, 4096, 32);
        assert!(wrong > 250, "{kind:?}: {wrong}");
    }
}

#[test]
fn wrong_lengths_and_steps_out_of_turn_are_refused_and_nothing_is_consumed() {
    let mut pair = pair(9);
    let length = |what, expected, got| {
        Err(OtError::Length {
            what,
            expected,
            got,
        })
    };
    for kind in KINDS {
        while let Some(refill) = pair.0.refill(kind, 1) {
            let (sender, receiver) = &mut pair;
            let (mut request, mut answer) = (Vec::new(), Vec::new());
            assert_eq!(
                receiver.finish_refill(&[]),
                Err(OtError::Refill {
                    expected: "a request first"
                })
            );
            receiver.request_refill(refill, &mut request).unwrap();
            assert_eq!(
                receiver.request_refill(refill, &mut Vec::new()),
                Err(OtError::Refill {
                    expected: "the answer to the last request"
                })
            );
            let n = refill.request_len;
            for got in [0, n - 1, n + 1] {
                assert_eq!(
                    sender.answer_refill(refill, &vec![0; got], &mut answer),
                    length("refill request", n, got)
                );
            }
            sender.answer_refill(refill, &request, &mut answer).unwrap();
            let n = answer.len();
            for got in [0, n - 1] {
                assert_eq!(
                    receiver.finish_refill(&answer[..got]),
                    length("refill answer", n, got)
                );
            }
            receiver.finish_refill(&answer).unwrap();
        }
    }
    let (sender, receiver) = &mut pair;
    let (mut none, two, mut pads) = (Vec::new(), [0; 2], [0; 5]);
    assert_eq!(
        sender.one_of_16(5, &two, &mut pads),
        length("corrections of one-of-sixteen OTs", 0, 2)
    );
    assert_eq!(
        receiver.one_of_16(5, &mut none, &mut [0; 5], &mut [0; 4]),
        length("pads of one-of-sixteen OTs", 5, 4)
    );
    assert_eq!(
        sender.random_ot(5, 33, &[], &mut [0; 5], &mut [0; 5]),
        Err(OtError::Bits { got: 33 })
    );
    let many = 1 << 23;
    let ready = 16_384 - 1112 - 88;
    assert_eq!(
        sender.random_ot(many, 1, &[], &mut vec![0; many], &mut vec![0; many]),
        Err(OtError::Exhausted {
            expected: many,
            got: 256 * ready
        })
    );
    for kind in KINDS {
        assert_eq!(use_up(&mut pair, kind, 5000, 32).0, 0);
    }
}
