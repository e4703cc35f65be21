//! Both parties of `ferret` through the public interface alone.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use blindread_ot::{
    FerretReceiver, FerretSender, OtEngine, OtError, OtKind, OtReceiver, OtReceiverEngine,
    OtSender, OtSenderEngine, ReceiverSetup, Role, SenderSetup, ferret_start_len,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const KINDS: [OtKind; 2] = [OtKind::RandomOt, OtKind::OneOf16];

fn softspoken(seed: u64) -> (OtSender, OtReceiver, ChaCha20Rng) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let (setup, request) = SenderSetup::start(b"one", &mut rng);
    let (receiver, answer) = ReceiverSetup::new(b"one")
        .respond(&request, &mut rng)
        .unwrap();
    (setup.finish(&answer).unwrap(), receiver, rng)
}

/// Both engines; `tamper` may change the corrections.
fn pair_with(
    seed: u64,
    tables: bool,
    tamper: impl FnOnce(&mut Vec<u8>),
) -> (FerretSender, FerretReceiver) {
    let (sender, receiver, mut rng) = softspoken(seed);
    let mut corrections = vec![];
    let receiver = FerretReceiver::start(receiver, tables, &mut corrections).unwrap();
    assert_eq!(corrections.len(), ferret_start_len(tables));
    tamper(&mut corrections);
    let sender = FerretSender::start(sender, tables, &mut &corrections[..], &mut rng).unwrap();
    (sender, receiver)
}

fn pair(seed: u64) -> (FerretSender, FerretReceiver) {
    pair_with(seed, true, |_| ())
}

/// What both parties have of some OTs.
struct Ots {
    /// Those that the parties disagree about.
    wrong: Vec<usize>,
    /// Choice, chosen pad and another pad of each.
    each: Vec<(u8, u32, u32)>,
    /// The sender's message.
    sums: Vec<u8>,
}

fn make(pair: &mut (FerretSender, FerretReceiver), kind: OtKind, n: usize, bits: u32) -> Ots {
    make_with(pair, kind, n, bits, |_| ())
}

/// `n` OTs; `tamper` may change the sender's message.
fn make_with(
    (sender, receiver): &mut (FerretSender, FerretReceiver),
    kind: OtKind,
    n: usize,
    bits: u32,
    tamper: impl FnOnce(&mut [u8]),
) -> Ots {
    let (mut sums, mut choices) = (vec![], vec![99; n]);
    let len = sender.sums_len(kind, n);
    assert_eq!(receiver.sums_len(kind, n), len);
    let ots: Vec<_> = if kind == OtKind::RandomOt {
        let (mut pads, mut pads0, mut pads1) = (vec![9; n], vec![9; n], vec![9; n]);
        sender
            .random_ot(n, bits, &mut sums, [&mut pads0, &mut pads1])
            .unwrap();
        tamper(&mut sums);
        receiver
            .random_ot(n, bits, &mut &sums[..], &mut choices, &mut pads)
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
        sender.one_of_16(n, &mut sums, &mut tables).unwrap();
        tamper(&mut sums);
        receiver
            .one_of_16(n, &mut &sums[..], &mut choices, &mut pads)
            .unwrap();
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
    assert_eq!(sums.len(), len);
    Ots {
        wrong: (0..n).filter(|k| ots[*k].1 != ots[*k].2).collect(),
        each: ots.iter().map(|ot| (ot.0, ot.2, ot.3)).collect(),
        sums,
    }
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
fn one_side_speaks() {
    assert_eq!(OtEngine::Ferret.speaker(), Role::Sender);
    assert_eq!(OtEngine::SoftSpoken.speaker(), Role::Receiver);
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
        let Ots { wrong, each, .. } = make(&mut pair, kind, n, bits);
        assert_eq!(wrong, []);
        let fits = |pad: u32| u64::from(pad) >> bits == 0;
        assert!(each.iter().all(|ot| fits(ot.1) && fits(ot.2)));
    }
}

#[test]
fn what_is_left_of_a_batch_takes_no_message() {
    let mut pair = pair(11);
    for kind in KINDS {
        let lens =
            [1, 100, 16_283, 1, 16_383, 32_768, 1].map(|n| make(&mut pair, kind, n, 32).sums.len());
        // Batches of 2^14, 2^14 and 2^15 OTs, then one of 2^16; over F_16, a round's random OTs before all.
        let tree = if kind == OtKind::RandomOt {
            11 * 16
        } else {
            13 * 16
        };
        let batch = |ots: usize| ots / 2048 * tree;
        assert_eq!(lens[1..3], [0, 0]);
        assert_eq!(
            lens[3..],
            [batch(1 << 14), 0, batch(1 << 15), batch(1 << 16)]
        );
        assert!(lens[0] >= batch(1 << 14));
    }
}

#[test]
fn more_ots_than_a_round_makes_begin_the_next_one() {
    let mut pair = pair(3);
    let ots = make(&mut pair, OtKind::RandomOt, 5_000_000, 32);
    assert_eq!(ots.wrong, []);
    // All trees of one round, and those of three batches for 5,000,000 - (4,194,304 - 284,672) OTs of the next one.
    assert_eq!(ots.sums.len(), 11 * 16 * (2048 + 3 * 256));
    assert_eq!(make(&mut pair, OtKind::OneOf16, 5_000_000, 1).wrong, []);
    assert_eq!(make(&mut pair, OtKind::RandomOt, 300, 32).wrong, []);
}

#[test]
fn choices_and_pads_look_uniform_and_the_other_pad_independent() {
    const N: usize = 1 << 18;
    let mut pair = pair(4);
    for (kind, entries, bits) in [(OtKind::RandomOt, 2, 27), (OtKind::OneOf16, 16, 1)] {
        let Ots {
            wrong, each: ots, ..
        } = make(&mut pair, kind, N, bits);
        assert_eq!(wrong, []);
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
        let (ours, theirs) = (
            make(&mut one, kind, 4096, 32),
            make(&mut two, kind, 4096, 32),
        );
        let equal = (ours.sums.iter().zip(&theirs.sums)).filter(|(a, b)| a == b);
        assert!(equal.count() < ours.sums.len() / 64, "{kind:?}");
        let equal = (ours.each.iter().zip(&theirs.each)).filter(|(a, b)| a == b);
        // Choice and two one-bit pads agree now and then over F_16.
        assert!(equal.count() < 4096 / 32, "{kind:?}");
    }
}

#[test]
fn a_changed_sum_spoils_the_bin_of_its_tree() {
    for (kind, blocks) in [(OtKind::RandomOt, 11), (OtKind::OneOf16, 13)] {
        let mut pair = pair(7);
        // The first call over F_16 begins with the random OTs of the trees. A batch has 8 trees.
        make(&mut pair, kind, 8 * 2048, 32);
        let ots = make_with(&mut pair, kind, 8 * 2048, 32, |sums| {
            assert_eq!(sums.len(), 8 * 16 * blocks);
            sums[16 * 5 * blocks] ^= 1;
        });
        // Level 0 of tree 5, hence a half of its 2048 leaves and what follows from their sums; no other tree.
        assert!(ots.wrong.len() > 300);
        assert!(ots.wrong.iter().all(|at| at / 2048 == 5));
        assert_eq!(make(&mut pair, kind, 2048, 32).wrong, []);
    }
}

#[test]
fn changed_corrections_spoil_the_ots() {
    for (kind, at) in [(OtKind::RandomOt, 0), (OtKind::OneOf16, 1_103_104)] {
        // Corrections of the first elements of the LPN secret, which most samples do not meet.
        let mut pair = pair_with(8, true, |corrections| {
            let changed = &mut corrections[at..at + 200_000];
            changed.iter_mut().for_each(|byte| *byte ^= 0xa5);
        });
        let wrong = make(&mut pair, kind, 4096, 32).wrong.len();
        assert!(wrong > 250, "{kind:?}: {wrong}");
    }
}

#[test]
fn wrong_lengths_and_kinds_are_refused_and_nothing_is_consumed() {
    let length = |what, expected, got| {
        Err(OtError::Length {
            what,
            expected,
            got,
        })
    };
    let n = ferret_start_len(true);
    let what = "message of the other party";
    for got in [0, n - 1] {
        let (sender, _, mut rng) = softspoken(9);
        let refused = FerretSender::start(sender, true, &mut &vec![0; got][..], &mut rng);
        assert!(matches!(refused, Err(OtError::Length { what: w, .. }) if w == what));
    }
    let mut pair = pair(9);
    let (sender, receiver) = &mut pair;
    let (mut sent, mut pads) = (vec![], [0; 5]);
    assert_eq!(
        sender.one_of_16(4, &mut sent, &mut pads),
        length("pads of one-of-sixteen OTs", 4, 5)
    );
    assert_eq!(
        sender.random_ot(5, 33, &mut sent, [&mut [0; 5], &mut [0; 5]]),
        Err(OtError::Bits { got: 33 })
    );
    assert_eq!(
        receiver.one_of_16(5, &mut sent, &mut [0; 5], &mut [0; 4]),
        length("pads of one-of-sixteen OTs", 5, 4)
    );
    for got in [0, 1407] {
        let sums = vec![0; got];
        assert_eq!(
            receiver.random_ot(5, 8, &mut &sums[..], &mut [0; 5], &mut [0; 5]),
            length(what, 8 * 176, got)
        );
    }
    assert!(sent.is_empty());
    for kind in KINDS {
        assert_eq!(make(&mut pair, kind, 5000, 32).wrong, []);
    }

    let (mut sender, mut receiver) = pair_with(10, false, |_| ());
    let refused = Err(OtError::NotSetUp);
    assert_eq!(sender.one_of_16(5, &mut sent, &mut pads), refused.clone());
    assert_eq!(
        receiver.one_of_16(5, &mut sent, &mut [0; 5], &mut [0; 5]),
        refused
    );
    assert_eq!(make(&mut (sender, receiver), KINDS[0], 300, 8).wrong, []);
}
