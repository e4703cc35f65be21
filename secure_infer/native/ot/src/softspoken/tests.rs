use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::expand::{Kind, Nibble, OneOf4, RandomOt};
use super::*;
use crate::engine::{OtReceiverEngine, OtSenderEngine};
use crate::simd::Backend;

fn pair(seed: u64) -> (OtSender, OtReceiver) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let (setup, request) = SenderSetup::start(b"test", &mut rng);
    let (receiver, answer) = ReceiverSetup::new(b"test")
        .respond(&request, &mut rng)
        .unwrap();
    (setup.finish(&answer).unwrap(), receiver)
}

/// Product in F_2[a]/(a^4 + a + 1): carry-less, then reduced from the top.
fn multiply(a: u8, b: u8) -> u8 {
    let mut product = (0..4)
        .filter(|j| b >> j & 1 == 1)
        .fold(0, |sum, j| sum ^ (a << j));
    for high in (4..8).rev() {
        if product >> high & 1 == 1 {
            product ^= 0b1_0011 << (high - 4);
        }
    }
    product
}

fn scale(u: u8, delta: u128) -> u128 {
    (0..32).fold(0, |sum, k| {
        sum | u128::from(multiply(u, (delta >> (4 * k)) as u8 & 15)) << (4 * k)
    })
}

fn check_relation<const PLANES: usize, K: Kind<PLANES>>() {
    let (mut sender, mut receiver) = pair(1);
    let mut corrections = Vec::new();
    let (u, v) = receiver.vole_batch::<PLANES, K>(&mut corrections);
    let (w, multiples) = sender.vole_batch::<PLANES, K>(&corrections);
    for x in 0..16 {
        assert_eq!(multiples[usize::from(x)], scale(x, multiples[1]));
    }
    for k in 0..u.len() {
        let u = if PLANES == 2 {
            [0, 1, 6, 7][usize::from(u[k])]
        } else {
            u[k]
        };
        assert_eq!(w[k], v[k] ^ scale(u, multiples[1]), "OT {k}");
    }
    assert!(u.iter().all(|u| u32::from(*u) < 1 << PLANES));
    for value in 0..1 << PLANES {
        let count = u.iter().filter(|u| **u == value).count() << PLANES;
        assert!(
            count.abs_diff(u.len()) < u.len() / 2,
            "value {value} of u: {count} of {}",
            u.len()
        );
    }
}

#[test]
fn vole_over_f2_satisfies_w_is_v_plus_u_delta() {
    check_relation::<1, RandomOt>();
}

#[test]
fn vole_over_f4_satisfies_w_is_v_plus_u_delta() {
    check_relation::<2, OneOf4>();
}

#[test]
fn vole_over_f16_satisfies_w_is_v_plus_u_delta() {
    check_relation::<4, Nibble>();
}

/// OTs whose receiver's pad is not the sender's pad of that choice.
fn wrong_random_ots(
    sender: &mut OtSender,
    receiver: &mut OtReceiver,
    n: usize,
    flip: Option<usize>,
) -> Vec<usize> {
    let (mut corrections, mut choices, mut pads) = (Vec::new(), vec![0; n], vec![0; n]);
    receiver
        .random_ot(n, 32, &mut corrections, &mut choices, &mut pads)
        .unwrap();
    if let Some(at) = flip {
        corrections[at] ^= 0xff;
    }
    let (mut pads0, mut pads1) = (vec![0; n], vec![0; n]);
    sender
        .random_ot(n, 32, &mut &corrections[..], [&mut pads0, &mut pads1])
        .unwrap();
    (0..n)
        .filter(|&k| pads[k] != [pads0[k], pads1[k]][usize::from(choices[k])])
        .collect()
}

#[test]
fn random_ot_flipped_correction_byte_spoils_exactly_its_eight_ots() {
    let (mut sender, mut receiver) = pair(4);
    let tree = (1..TREES)
        .find(|tree| digit(sender.delta(), *tree) != 0)
        .unwrap();
    let at = (tree - 1) * 32 + 5;
    assert_eq!(
        wrong_random_ots(&mut sender, &mut receiver, 300, Some(at)),
        (40..48).collect::<Vec<_>>()
    );
    assert_eq!(wrong_random_ots(&mut sender, &mut receiver, 300, None), []);
}

#[test]
fn one_of_16_flipped_correction_byte_spoils_about_half_of_its_pads() {
    let (mut sender, mut receiver) = pair(4);
    let tree = (1..TREES)
        .find(|tree| digit(sender.delta(), *tree) != 0)
        .unwrap();
    let n = 256 * 40;
    let (mut corrections, mut omega, mut pads) = (Vec::new(), vec![0; n], vec![0; n]);
    receiver
        .one_of_16(n, &mut corrections, &mut omega, &mut pads)
        .unwrap();
    for chunk in corrections.chunks_mut(one_of_16_len(256)) {
        chunk[(tree - 1) * 64 + 38] ^= 0xff;
    }
    let mut tables = vec![0; n];
    sender
        .one_of_16(n, &mut &corrections[..], &mut tables)
        .unwrap();
    let wrong: Vec<usize> = (0..n)
        .filter(|&k| tables[k] >> omega[k] & 1 != u16::from(pads[k]))
        .collect();
    assert!(wrong.iter().all(|k| (48..56).contains(&(k % 256))));
    assert!((100..220).contains(&wrong.len()), "{} of 320", wrong.len());
}

#[test]
fn backends_of_both_parties_differ_results_agree() {
    for (ours, theirs) in Backend::available()
        .into_iter()
        .flat_map(|a| Backend::available().into_iter().map(move |b| (a, b)))
    {
        let (mut sender, mut receiver) = pair(5);
        sender.use_backend(ours);
        receiver.use_backend(theirs);
        assert_eq!(
            wrong_random_ots(&mut sender, &mut receiver, 1000, None),
            [],
            "{ours:?} {theirs:?}"
        );
        let (mut corrections, mut omega, mut pads, mut tables) =
            (Vec::new(), [0; 700], [0; 700], [0; 700]);
        receiver
            .one_of_16(700, &mut corrections, &mut omega, &mut pads)
            .unwrap();
        sender
            .one_of_16(700, &mut &corrections[..], &mut tables)
            .unwrap();
        assert!((0..700).all(|k| tables[k] >> omega[k] & 1 == u16::from(pads[k])));
    }
}

#[test]
fn streams_of_kinds_calls_and_setups_all_differ() {
    let mut streams: Vec<Vec<u8>> = Vec::new();
    for seed in [6, 7] {
        let (_, mut receiver) = pair(seed);
        for _ in 0..2 {
            let mut corrections = Vec::new();
            receiver
                .random_ot(256, 32, &mut corrections, &mut [0; 256], &mut [0; 256])
                .unwrap();
            receiver
                .one_of_16(256, &mut corrections, &mut [0; 256], &mut [0; 256])
                .unwrap();
            streams.extend(corrections.chunks(32).map(<[u8]>::to_vec));
        }
    }
    let count = streams.len();
    streams.sort_unstable();
    streams.dedup();
    assert_eq!((count, streams.len()), (4 * 31 * 5, 4 * 31 * 5));
}

#[test]
fn hash_key_any_change_of_the_answer_changes_it() {
    let mut rng = ChaCha20Rng::seed_from_u64(8);
    let (setup, request) = SenderSetup::start(b"test", &mut rng);
    let (mut receiver, mut answer) = ReceiverSetup::new(b"test")
        .respond(&request, &mut rng)
        .unwrap();
    // The correction that the sender does not use: its trees stay right, the hashes must not.
    let unused = usize::from(base_choices(setup.delta) & 1 == 0);
    answer[POINT_LEN + 16 * unused] ^= 1;
    let mut sender = setup.finish(&answer).unwrap();
    assert_eq!(
        wrong_random_ots(&mut sender, &mut receiver, 256, None).len(),
        256
    );
}
