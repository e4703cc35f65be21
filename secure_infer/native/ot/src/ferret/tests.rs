use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::engine::{OtReceiverEngine, OtSenderEngine};
use crate::{ReceiverSetup, SenderSetup};

fn pair(seed: u64) -> (FerretSender, FerretReceiver) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let (setup, request) = SenderSetup::start(b"one", &mut rng);
    let (receiver, answer) = ReceiverSetup::new(b"one")
        .respond(&request, &mut rng)
        .unwrap();
    let sender = setup.finish(&answer).unwrap();
    (
        FerretSender::new(sender, &mut rng),
        FerretReceiver::new(receiver, &mut rng),
    )
}

/// Refills until `n` OTs are ready; the messages.
fn refill(
    sender: &mut FerretSender,
    receiver: &mut FerretReceiver,
    kind: OtKind,
    n: usize,
) -> Vec<[Vec<u8>; 2]> {
    let mut messages = Vec::new();
    while let Some(refill) = sender.refill(kind, n) {
        assert_eq!(receiver.refill(kind, n), Some(refill));
        let (mut request, mut answer) = (Vec::new(), Vec::new());
        receiver.request_refill(refill, &mut request).unwrap();
        assert_eq!(request.len(), refill.request_len);
        sender.answer_refill(refill, &request, &mut answer).unwrap();
        assert_eq!(answer.len(), refill.answer_len);
        receiver.finish_refill(&answer).unwrap();
        messages.push([request, answer]);
    }
    assert_eq!(receiver.refill(kind, n), None);
    messages
}

/// u of samples that satisfy w = v + u*Delta.
fn check(
    sender: &mut FerretSender,
    receiver: &mut FerretReceiver,
    large: bool,
    groups: usize,
) -> Vec<u8> {
    let (u, v) = receiver.samples(large, groups);
    let (w, multiples) = sender.samples(large, groups);
    for (k, u) in u.iter().enumerate() {
        assert_eq!(w[k], v[k] ^ multiples[usize::from(*u)], "sample {k}");
    }
    u
}

#[test]
fn vole_over_f2_in_two_rounds_satisfies_w_is_v_plus_u_delta() {
    let (mut sender, mut receiver) = pair(1);
    refill(&mut sender, &mut receiver, OtKind::RandomOt, 1);
    let ready = sender.bits.ready();
    assert_eq!(ready, ROUND_GROUPS - seeds(false) / GROUP);
    let mut u = check(&mut sender, &mut receiver, false, ready - 3);
    let messages = refill(&mut sender, &mut receiver, OtKind::RandomOt, 4 * GROUP);
    assert_eq!(messages.len(), 1);
    assert!(messages[0][0].is_empty());
    assert_eq!(sender.rounds(), [2, 0]);
    // Three groups of the first round, then the second.
    u.extend(check(&mut sender, &mut receiver, false, 300));
    assert_eq!(sender.rounds(), [1, 0]);
    let ones = u.iter().filter(|u| **u == 1).count();
    let deviation = (2.0 * ones as f64 - u.len() as f64).abs() / (u.len() as f64).sqrt();
    assert!(deviation < 6.0, "{ones} of {}", u.len());
}

#[test]
fn vole_over_f16_in_two_rounds_satisfies_w_is_v_plus_u_delta() {
    let (mut sender, mut receiver) = pair(2);
    let messages = refill(&mut sender, &mut receiver, OtKind::OneOf16, 1);
    assert_eq!(messages.len(), 2, "random OTs for the trees first");
    let ready = sender.nibbles.ready();
    let mut u = check(&mut sender, &mut receiver, true, ready);
    let messages = refill(&mut sender, &mut receiver, OtKind::OneOf16, 1);
    assert_eq!(messages[0][0].len(), TREES / 2);
    u.extend(check(&mut sender, &mut receiver, true, 300));
    for value in 0..16 {
        let (count, mean) = (u.iter().filter(|u| **u == value).count(), u.len() / 16);
        let deviation = count.abs_diff(mean) as f64 / (mean as f64).sqrt();
        assert!(deviation < 6.0, "u = {value}: {count} of {}", u.len());
    }
}

#[test]
fn errors_of_a_round_lie_anywhere_in_their_bin_and_take_every_value() {
    let (mut sender, mut receiver) = pair(3);
    let messages = refill(&mut sender, &mut receiver, OtKind::OneOf16, 1);
    let values = receiver.error_values();
    assert!(values.len() == TREES && !values.contains(&0));
    for value in 1..16 {
        let count = values.iter().filter(|v| **v == value).count();
        assert!(
            count.abs_diff(TREES / 15) < 6 * 12,
            "value {value}: {count}"
        );
    }
    for bit in 0..4 {
        let ones = messages[1][0]
            .iter()
            .rev()
            .take(TREES / 2)
            .filter(|byte| *byte >> bit & 1 == 1)
            .count();
        assert!(
            ones.abs_diff(TREES / 4) < 6 * 16,
            "bit {bit} of corrections: {ones}"
        );
    }
}

#[test]
fn backends_give_what_portable_code_gives() {
    let run = |backend: Backend| {
        let (mut sender, mut receiver) = pair(4);
        sender.use_backend(backend);
        receiver.use_backend(backend);
        let messages = refill(&mut sender, &mut receiver, OtKind::OneOf16, 1);
        let (mut tables, mut omega, mut bits) = ([0; 5000], [0; 5000], [0; 5000]);
        sender.one_of_16(5000, &[], &mut tables).unwrap();
        receiver
            .one_of_16(5000, &mut Vec::new(), &mut omega, &mut bits)
            .unwrap();
        let (mut pads, mut choices) = ([[0; 5000]; 3], [0; 5000]);
        let [pads0, pads1, chosen] = &mut pads;
        sender.random_ot(5000, 27, &[], pads0, pads1).unwrap();
        receiver
            .random_ot(5000, 27, &mut Vec::new(), &mut choices, chosen)
            .unwrap();
        (messages, tables, omega, bits, pads, choices)
    };
    let expected = run(Backend::PORTABLE);
    for backend in Backend::available() {
        assert!(run(backend) == expected);
    }
}

#[test]
fn memory_of_a_long_run_is_that_of_two_rounds() {
    let (mut sender, mut receiver) = pair(5);
    for _ in 0..3 {
        for kind in [OtKind::OneOf16, OtKind::RandomOt] {
            refill(&mut sender, &mut receiver, kind, 1 << 17);
            assert!(sender.rounds().into_iter().all(|rounds| rounds <= 2));
            let large = kind == OtKind::OneOf16;
            let groups = [sender.bits.ready(), sender.nibbles.ready()][usize::from(large)] - 100;
            sender.samples(large, groups);
            receiver.samples(large, groups);
        }
    }
}
