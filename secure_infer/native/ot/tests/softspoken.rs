//! Both parties through the public interface alone.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use blindread_ot::{
    OtError, OtReceiver, OtReceiverEngine, OtSender, OtSenderEngine, ReceiverSetup, SenderSetup,
    one_of_16_len, random_ot_len,
};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn pair(seed: u64) -> (OtSender, OtReceiver) {
    pair_of_sessions(seed, b"one", b"one")
}

fn pair_of_sessions(seed: u64, ours: &[u8], theirs: &[u8]) -> (OtSender, OtReceiver) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let (setup, request) = SenderSetup::start(ours, &mut rng);
    assert_eq!(request.len(), ReceiverSetup::REQUEST_LEN);
    let (receiver, answer) = ReceiverSetup::new(theirs)
        .respond(&request, &mut rng)
        .unwrap();
    assert_eq!(answer.len(), SenderSetup::ANSWER_LEN);
    (setup.finish(&answer).unwrap(), receiver)
}

struct RandomOts {
    choices: Vec<u8>,
    pads: Vec<u32>,
    entries: [Vec<u32>; 2],
}

fn random_ots(sender: &mut OtSender, receiver: &mut OtReceiver, n: usize, bits: u32) -> RandomOts {
    let mut corrections = vec![0xaa];
    let (mut choices, mut pads) = (vec![9; n], vec![9; n]);
    receiver
        .random_ot(n, bits, &mut corrections, &mut choices, &mut pads)
        .unwrap();
    assert_eq!(
        (corrections[0], corrections.len()),
        (0xaa, 1 + random_ot_len(n))
    );
    let mut entries = [vec![9; n], vec![9; n]];
    let [pads0, pads1] = &mut entries;
    sender
        .random_ot(n, bits, &mut &corrections[1..], [pads0, pads1])
        .unwrap();
    RandomOts {
        choices,
        pads,
        entries,
    }
}

struct TableOts {
    omega: Vec<u8>,
    pads: Vec<u8>,
    tables: Vec<u16>,
}

fn table_ots(sender: &mut OtSender, receiver: &mut OtReceiver, n: usize) -> TableOts {
    let mut corrections = vec![0xaa];
    let (mut omega, mut pads, mut tables) = (vec![99; n], vec![99; n], vec![99; n]);
    receiver
        .one_of_16(n, &mut corrections, &mut omega, &mut pads)
        .unwrap();
    assert_eq!(
        (corrections[0], corrections.len()),
        (0xaa, 1 + one_of_16_len(n))
    );
    sender
        .one_of_16(n, &mut &corrections[1..], &mut tables)
        .unwrap();
    TableOts {
        omega,
        pads,
        tables,
    }
}

fn check_random_ots(ots: &RandomOts, bits: u32) {
    for (k, choice) in ots.choices.iter().enumerate() {
        assert_eq!(ots.pads[k], ots.entries[usize::from(*choice)][k], "OT {k}");
        assert!(
            ots.entries
                .iter()
                .all(|pads| u64::from(pads[k]) >> bits == 0)
        );
    }
}

fn check_table_ots(ots: &TableOts) {
    for (k, omega) in ots.omega.iter().enumerate() {
        assert_eq!(u16::from(ots.pads[k]), ots.tables[k] >> omega & 1, "OT {k}");
    }
}

/// Fails when `ones` of `total` fair coins is six standard deviations off.
fn assert_fair(what: &str, ones: usize, total: usize) {
    let deviation = (2.0 * ones as f64 - total as f64).abs() / (total as f64).sqrt();
    assert!(deviation < 6.0, "{what}: {ones} of {total}");
}

#[test]
fn random_ot_around_chunk_and_batch_borders_chosen_pad_agrees() {
    let (mut sender, mut receiver) = pair(1);
    for (n, bits) in [
        (0, 1),
        (1, 32),
        (255, 27),
        (256, 14),
        (257, 1),
        (8191, 32),
        (8192, 31),
        (20_001, 27),
    ] {
        check_random_ots(&random_ots(&mut sender, &mut receiver, n, bits), bits);
    }
}

#[test]
fn one_of_16_around_chunk_and_batch_borders_chosen_pad_agrees() {
    let (mut sender, mut receiver) = pair(2);
    for n in [0, 1, 2, 3, 255, 256, 257, 2047, 2048, 2049, 5001] {
        check_table_ots(&table_ots(&mut sender, &mut receiver, n));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_order_of_both_kinds_agrees(calls in prop::collection::vec((any::<bool>(), 0_usize..3000, 1_u32..=32), 1..5)) {
        let (mut sender, mut receiver) = pair(3);
        for (table, n, bits) in calls {
            if table {
                check_table_ots(&table_ots(&mut sender, &mut receiver, n));
            } else {
                check_random_ots(&random_ots(&mut sender, &mut receiver, n, bits), bits);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_bytes_from_the_peer_never_panic(seed: u64, request: Vec<u8>, answer: Vec<u8>, correction: u8) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut full = request.repeat(1 + ReceiverSetup::REQUEST_LEN / request.len().max(1));
        full.resize(ReceiverSetup::REQUEST_LEN, 7);
        prop_assert!(ReceiverSetup::new(b"one").respond(&request, &mut rng).is_err());
        // A string of 32 bytes, repeated, is a valid request where it is a point: one time in eight.
        if let Err(error) = ReceiverSetup::new(b"one").respond(&full, &mut rng) {
            prop_assert!(matches!(error, OtError::InvalidPoint { .. }), "{}", error);
        }
        let mut full = answer.repeat(1 + SenderSetup::ANSWER_LEN / answer.len().max(1));
        full.resize(SenderSetup::ANSWER_LEN, 1);
        let (setup, _) = SenderSetup::start(b"one", &mut rng);
        prop_assert!(setup.finish(&answer).is_err());
        let (setup, _) = SenderSetup::start(b"one", &mut rng);
        // A random string is a point now and then; then the engine works, on nonsense.
        if let Ok(mut sender) = setup.finish(&full) {
            let corrections = vec![correction; one_of_16_len(300)];
            prop_assert!(sender.one_of_16(300, &mut &corrections[..], &mut [0; 300]).is_ok());
        }
    }
}

/// Compiles only if both engines can be given to another thread.
#[test]
fn engines_are_send() {
    fn sendable<T: Send>() {}
    sendable::<OtSender>();
    sendable::<OtReceiver>();
}

#[test]
fn kinds_used_in_different_orders_by_the_parties_agree() {
    let (mut sender, mut receiver) = pair(4);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let (mut choices, mut pads) = ([0; 300], [0; 300]);
    let (mut omega, mut bits) = ([0; 300], [0; 300]);
    receiver
        .random_ot(300, 32, &mut first, &mut choices, &mut pads)
        .unwrap();
    receiver
        .one_of_16(300, &mut second, &mut omega, &mut bits)
        .unwrap();
    let (mut pads0, mut pads1, mut tables) = ([0; 300], [0; 300], [0; 300]);
    sender
        .one_of_16(300, &mut &second[..], &mut tables)
        .unwrap();
    sender
        .random_ot(300, 32, &mut &first[..], [&mut pads0, &mut pads1])
        .unwrap();
    check_table_ots(&TableOts {
        omega: omega.to_vec(),
        pads: bits.to_vec(),
        tables: tables.to_vec(),
    });
    let entries = [pads0.to_vec(), pads1.to_vec()];
    check_random_ots(
        &RandomOts {
            choices: choices.to_vec(),
            pads: pads.to_vec(),
            entries,
        },
        32,
    );
}

#[test]
fn random_ot_choices_and_pads_look_uniform_and_the_other_pad_independent() {
    const N: usize = 1 << 16;
    let (mut sender, mut receiver) = pair(5);
    let ots = random_ots(&mut sender, &mut receiver, N, 32);
    assert_fair(
        "choices",
        ots.choices.iter().filter(|choice| **choice == 1).count(),
        N,
    );
    for bit in 0..32 {
        let ones = |pads: &[u32]| pads.iter().filter(|pad| **pad >> bit & 1 == 1).count();
        assert_fair("pads of 0", ones(&ots.entries[0]), N);
        assert_fair("pads of 1", ones(&ots.entries[1]), N);
        let differ: Vec<u32> = ots.entries[0]
            .iter()
            .zip(&ots.entries[1])
            .map(|(a, b)| a ^ b)
            .collect();
        assert_fair("difference of the pads", ones(&differ), N);
        let with_choice: Vec<u32> = ots
            .pads
            .iter()
            .zip(&ots.choices)
            .map(|(a, c)| a ^ u32::from(*c) << bit)
            .collect();
        assert_fair("pad and choice", ones(&with_choice), N);
        let serial: Vec<u32> = ots.pads.windows(2).map(|pair| pair[0] ^ pair[1]).collect();
        assert_fair("neighbours", ones(&serial), N - 1);
    }
}

#[test]
fn one_of_16_entries_and_pads_look_uniform_and_the_other_pads_independent() {
    const N: usize = 1 << 16;
    let (mut sender, mut receiver) = pair(6);
    let ots = table_ots(&mut sender, &mut receiver, N);
    for bit in 0..4 {
        assert_fair(
            "bit of omega",
            ots.omega
                .iter()
                .filter(|omega| **omega >> bit & 1 == 1)
                .count(),
            N,
        );
    }
    for entry in 0..16 {
        let count = ots.omega.iter().filter(|omega| **omega == entry).count();
        assert!(count.abs_diff(N / 16) < 6 * 62, "omega {entry}: {count}");
        assert_fair(
            "pads of an entry",
            ots.tables
                .iter()
                .filter(|table| **table >> entry & 1 == 1)
                .count(),
            N,
        );
    }
    for distance in 1..16 {
        let other = |k: usize| ots.tables[k] >> (ots.omega[k] ^ distance) & 1;
        let differ = (0..N)
            .filter(|&k| other(k) != u16::from(ots.pads[k]))
            .count();
        assert_fair("chosen and other pad", differ, N);
    }
}

#[test]
fn setup_with_different_sessions_nothing_agrees() {
    let (mut sender, mut receiver) = pair_of_sessions(7, b"to the developer", b"to the hospital");
    let ots = random_ots(&mut sender, &mut receiver, 1000, 32);
    assert!(
        (0..1000).all(|k| ots.entries[0][k] != ots.pads[k] && ots.entries[1][k] != ots.pads[k])
    );
}

#[test]
fn setup_messages_of_wrong_length_or_content_are_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(8);
    let (setup, mut request) = SenderSetup::start(b"one", &mut rng);
    let error = ReceiverSetup::new(b"one")
        .respond(&request[1..], &mut rng)
        .err()
        .unwrap();
    assert_eq!(
        error,
        OtError::Length {
            what: "base OT request",
            expected: 8192,
            got: 8191
        }
    );
    assert_eq!(error.code(), "ot.length");
    assert_eq!(
        error.to_string(),
        "base OT request: expected 8192, got 8191"
    );

    let (_, answer) = ReceiverSetup::new(b"one")
        .respond(&request, &mut rng)
        .unwrap();
    let error = setup.finish(&answer[..4127]).err();
    assert_eq!(
        error,
        Some(OtError::Length {
            what: "OT set-up answer",
            expected: 4128,
            got: 4127
        })
    );
    let (setup, _) = SenderSetup::start(b"one", &mut rng);
    let error = setup.finish(&[0; 4128]).err();
    assert_eq!(
        error,
        Some(OtError::InvalidPoint {
            what: "base OT answer",
            index: 0
        })
    );

    request[32 * 9..32 * 10].fill(0xff);
    let error = ReceiverSetup::new(b"one")
        .respond(&request, &mut rng)
        .err()
        .unwrap();
    assert_eq!(
        error,
        OtError::InvalidPoint {
            what: "base OT request",
            index: 9
        }
    );
    assert_eq!(error.code(), "ot.invalid_point");
}

#[test]
fn extension_wrong_lengths_and_widths_are_refused_and_nothing_is_consumed() {
    let (mut sender, mut receiver) = pair(9);
    let length = |what, expected, got| {
        Err(OtError::Length {
            what,
            expected,
            got,
        })
    };
    let mut sink = Vec::new();
    assert_eq!(
        receiver.random_ot(5, 8, &mut sink, &mut [0; 4], &mut [0; 5]),
        length("choices of random OTs", 5, 4)
    );
    assert_eq!(
        receiver.random_ot(5, 8, &mut sink, &mut [0; 5], &mut [0; 6]),
        length("pads of random OTs", 5, 6)
    );
    for bits in [0, 33, u32::MAX] {
        let error = Err(OtError::Bits { got: bits });
        assert_eq!(
            receiver.random_ot(5, bits, &mut sink, &mut [0; 5], &mut [0; 5]),
            error
        );
        assert_eq!(
            sender.random_ot(5, bits, &mut &[0; 992][..], [&mut [0; 5], &mut [0; 5]]),
            error
        );
    }
    assert_eq!(
        receiver.one_of_16(5, &mut sink, &mut [0; 6], &mut [0; 5]),
        length("omega of one-of-sixteen OTs", 5, 6)
    );
    assert_eq!(
        receiver.one_of_16(5, &mut sink, &mut [0; 5], &mut [0; 4]),
        length("pads of one-of-sixteen OTs", 5, 4)
    );
    assert!(sink.is_empty());
    for got in [0, 991] {
        let error = length("message of the other party", 992, got);
        assert_eq!(
            sender.random_ot(5, 8, &mut &vec![0; got][..], [&mut [0; 5], &mut [0; 5]]),
            error
        );
    }
    assert_eq!(
        sender.one_of_16(257, &mut &[0; 3968][..], &mut [0; 257]),
        length("message of the other party", 7936, 3968)
    );
    assert_eq!(
        sender.one_of_16(5, &mut &[0; 3968][..], &mut [0; 4]),
        length("pads of one-of-sixteen OTs", 5, 4)
    );
    assert_eq!(
        sender.random_ot(5, 8, &mut &[0; 992][..], [&mut [0; 4], &mut [0; 5]]),
        length("pads of choice 0", 5, 4)
    );
    assert_eq!(
        sender.random_ot(5, 8, &mut &[0; 992][..], [&mut [0; 5], &mut [0; 4]]),
        length("pads of choice 1", 5, 4)
    );
    check_random_ots(&random_ots(&mut sender, &mut receiver, 500, 8), 8);
    check_table_ots(&table_ots(&mut sender, &mut receiver, 500));
}
