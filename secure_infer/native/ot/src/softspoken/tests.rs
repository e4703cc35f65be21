use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::expand::{Kind, OneOf16, RandomOt};
use super::*;
use crate::engine::{OtReceiverEngine, OtSenderEngine};

fn pair(seed: u64) -> (OtSender, OtReceiver) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let (setup, request) = SenderSetup::start(b"test", &mut rng);
    let (receiver, answer) = ReceiverSetup::new(b"test").respond(&request, &mut rng).unwrap();
    (setup.finish(&answer).unwrap(), receiver)
}

/// Product in F_2[a]/(a^4 + a + 1), written independently of the code under test.
fn multiply(a: u8, b: u8) -> u8 {
    let mut product = (0..4).filter(|j| b >> j & 1 == 1).fold(0, |sum, j| sum ^ (a << j));
    for high in (4..8).rev() {
        if product >> high & 1 == 1 {
            product ^= 0b1_0011 << (high - 4);
        }
    }
    product
}

fn scale(u: u8, delta: u128) -> u128 {
    (0..32).fold(0, |sum, k| sum | u128::from(multiply(u, (delta >> (4 * k)) as u8 & 15)) << (4 * k))
}

fn check_relation<const PLANES: usize, K: Kind<PLANES>>() {
    let (mut sender, mut receiver) = pair(1);
    let mut corrections = Vec::new();
    let (u, v) = receiver.vole::<PLANES, K>(&mut corrections);
    let (w, multiples) = sender.vole::<PLANES, K>(&corrections);
    for x in 0..16 {
        assert_eq!(multiples[usize::from(x)], scale(x, multiples[1]));
    }
    for k in 0..u.len() {
        assert_eq!(w[k], v[k] ^ scale(u[k], multiples[1]), "OT {k}");
    }
    assert!(u.iter().all(|u| u32::from(*u) < 1 << PLANES));
}

#[test]
fn vole_over_f2_satisfies_w_is_v_plus_u_delta() {
    check_relation::<1, RandomOt>();
}

#[test]
fn vole_over_f16_satisfies_w_is_v_plus_u_delta() {
    check_relation::<4, OneOf16>();
}

#[test]
fn random_ot_any_size_chosen_pad_agrees() {
    let (mut sender, mut receiver) = pair(2);
    for (n, bits) in [(0, 1), (1, 32), (255, 27), (256, 14), (257, 1), (4096, 32), (9000, 27)] {
        let (mut corrections, mut choices, mut pads) = (Vec::new(), vec![0; n], vec![0; n]);
        receiver.random_ot(n, bits, &mut corrections, &mut choices, &mut pads).unwrap();
        assert_eq!(corrections.len(), random_ot_len(n));
        let (mut pads0, mut pads1) = (vec![0; n], vec![0; n]);
        sender.random_ot(n, bits, &corrections, &mut pads0, &mut pads1).unwrap();
        for k in 0..n {
            assert_eq!(pads[k], if choices[k] == 1 { pads1[k] } else { pads0[k] });
            assert!(bits == 32 || pads0[k] >> bits == 0 && pads1[k] >> bits == 0);
        }
    }
}

#[test]
fn one_of_16_any_size_chosen_pad_agrees() {
    let (mut sender, mut receiver) = pair(3);
    for n in [0, 1, 255, 256, 257, 1024, 3000] {
        let (mut corrections, mut omega, mut pads) = (Vec::new(), vec![0; n], vec![0; n]);
        receiver.one_of_16(n, &mut corrections, &mut omega, &mut pads).unwrap();
        assert_eq!(corrections.len(), one_of_16_len(n));
        let mut all = vec![0; n];
        sender.one_of_16(n, &corrections, &mut all).unwrap();
        for k in 0..n {
            assert_eq!(u16::from(pads[k]), all[k] >> omega[k] & 1);
        }
    }
}
