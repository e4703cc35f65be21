use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::engine::{OtReceiverEngine, OtSenderEngine};
use crate::simd::Backend;
use crate::{ReceiverSetup, SenderSetup};

fn pair(seed: u64) -> (FerretSender, FerretReceiver) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let (setup, request) = SenderSetup::start(b"one", &mut rng);
    let (receiver, answer) = ReceiverSetup::new(b"one")
        .respond(&request, &mut rng)
        .unwrap();
    let sender = setup.finish(&answer).unwrap();
    let mut corrections = Vec::new();
    let receiver = FerretReceiver::start(receiver, true, &mut corrections).unwrap();
    let sender = FerretSender::start(sender, true, &mut &corrections[..], &mut rng).unwrap();
    (sender, receiver)
}

/// u of samples that satisfy w = v + u*Delta, and the message that they took.
fn check(
    (sender, receiver): &mut (FerretSender, FerretReceiver),
    large: bool,
    groups: usize,
) -> (Vec<u8>, Vec<u8>) {
    let mut places = sender.places();
    let expected = groups_len(&mut places, large, groups);
    let mut sums = Vec::new();
    let (w, multiples) = sender.samples(large, groups, &mut sums);
    assert_eq!(sums.len(), expected);
    let v = receiver.samples(large, groups, &sums);
    let u: Vec<u8> = v.iter().map(|v| (v & CHOICE) as u8).collect();
    for (k, u) in u.iter().enumerate() {
        assert_eq!(w[k], v[k] ^ multiples[usize::from(*u)], "sample {k}");
    }
    assert!(w.iter().all(|w| w & CHOICE == 0) && multiples[1] & CHOICE == 1);
    (u, sums)
}

#[test]
fn vole_over_f2_in_two_rounds_satisfies_w_is_v_plus_u_delta() {
    let mut pair = pair(1);
    check(&mut pair, false, 1);
    assert_eq!(pair.0.ready(), [usable(false) - 1, 0]);
    let (mut u, sums) = check(&mut pair, false, usable(false) - 1 - 3);
    let begun = (usable(false) - 3).div_ceil(TREE_GROUPS);
    assert_eq!(sums.len(), (begun - 1) * tree_len(false));
    // Three groups of the first round, then the second; the rest of the first one's trees grow for its seeds.
    let (more, sums) = check(&mut pair, false, 300);
    assert_eq!(pair.0.ready(), [usable(false) - 297, 0]);
    let trees = TREES - begun + 297_usize.div_ceil(TREE_GROUPS);
    assert_eq!(sums.len(), trees * tree_len(false));
    u.extend(more);
    let ones = u.iter().filter(|u| **u == 1).count();
    let deviation = (2.0 * ones as f64 - u.len() as f64).abs() / (u.len() as f64).sqrt();
    assert!(deviation < 6.0, "{ones} of {}", u.len());
}

#[test]
fn vole_over_f16_in_two_rounds_satisfies_w_is_v_plus_u_delta() {
    let mut pair = pair(2);
    let (mut u, sums) = check(&mut pair, true, 1);
    let bits = (TREE_OTS / GROUP).div_ceil(TREE_GROUPS);
    assert_eq!(sums.len(), bits * tree_len(false) + tree_len(true));
    u.extend(check(&mut pair, true, usable(true) - 1).0);
    assert_eq!(pair.0.ready(), [usable(false) - TREE_OTS / GROUP, 0]);
    u.extend(check(&mut pair, true, 300).0);
    for value in 0..16 {
        let (count, mean) = (u.iter().filter(|u| **u == value).count(), u.len() / 16);
        let deviation = count.abs_diff(mean) as f64 / (mean as f64).sqrt();
        assert!(deviation < 6.0, "u = {value}: {count} of {}", u.len());
    }
}

#[test]
fn a_call_may_take_several_rounds_of_both_kinds() {
    let mut pair = pair(3);
    // Few enough bits are left that the second round over F_16 begins a round of them.
    check(&mut pair, false, usable(false) - 100);
    check(&mut pair, true, 2 * usable(true) + 5);
    let [bits, nibbles] = pair.0.ready();
    assert_eq!(nibbles, usable(true) - 5);
    assert_eq!(bits, usable(false) - (3 * TREE_OTS / GROUP - 100));
    check(&mut pair, false, 9);
}

#[test]
fn errors_of_a_round_lie_anywhere_in_their_bin_and_take_every_value() {
    let mut pair = pair(4);
    check(&mut pair, true, 1);
    let bins = pair.1.errors();
    assert_eq!(bins.len(), TREES);
    for value in 0..16 {
        let count = bins.iter().filter(|bin| bin.1 == value).count();
        assert!(
            count.abs_diff(TREES / 16) < 6 * 12,
            "value {value}: {count}"
        );
    }
    for bit in 0..LOG_BIN {
        let ones = bins.iter().filter(|bin| bin.0 >> bit & 1 == 1).count();
        assert!(ones.abs_diff(TREES / 2) < 6 * 23, "level {bit}: {ones}");
    }
}

#[test]
fn backends_give_what_portable_code_gives() {
    let run = |backend: Backend| {
        let (mut sender, mut receiver) = pair(5);
        sender.use_backend(backend);
        receiver.use_backend(backend);
        let (mut tables, mut omega, mut bits) = ([0; 5000], [0; 5000], [0; 5000]);
        let mut sums = Vec::new();
        sender.one_of_16(5000, &mut sums, &mut tables).unwrap();
        receiver
            .one_of_16(5000, &mut &sums[..], &mut omega, &mut bits)
            .unwrap();
        let (mut pads, mut choices) = ([[0; 5000]; 3], [0; 5000]);
        let [pads0, pads1, chosen] = &mut pads;
        let mut more = Vec::new();
        sender
            .random_ot(5000, 27, &mut more, [pads0, pads1])
            .unwrap();
        receiver
            .random_ot(5000, 27, &mut &more[..], &mut choices, chosen)
            .unwrap();
        let messages = [sums, more];
        (messages, tables, omega, bits, pads, choices)
    };
    let expected = run(Backend::PORTABLE);
    for backend in Backend::available() {
        assert!(run(backend) == expected);
    }
}
