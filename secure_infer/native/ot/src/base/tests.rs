use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;

const CHOICES: u128 = 0x0123_4567_89ab_cdef_f0e1_d2c3_b4a5_9687;

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

#[test]
fn base_ot_every_instance_receiver_has_the_chosen_key_alone() {
    let session = session_id(b"a");
    let (receiver, request) = BaseReceiver::new(session, CHOICES, &mut rng(1));
    let sent = base_send(&session, &request, &mut rng(2)).unwrap();
    let (keys, _) = receiver.finish(&sent.answer).unwrap();
    assert_eq!((sent.keys.len(), keys.len()), (BASE_OTS, BASE_OTS));
    for (instance, (pair, key)) in sent.keys.iter().zip(&keys).enumerate() {
        let choice = (CHOICES >> instance & 1) as usize;
        assert_eq!(pair[choice], *key);
        assert_ne!(pair[1 - choice], *key);
    }
    let mut all: Vec<u128> = sent.keys.as_flattened().to_vec();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 2 * BASE_OTS);
}

#[test]
fn base_ot_different_sessions_share_no_key() {
    let (receiver, request) = BaseReceiver::new(session_id(b"a"), CHOICES, &mut rng(1));
    let sent = base_send(&session_id(b"b"), &request, &mut rng(2)).unwrap();
    let (keys, _) = receiver.finish(&sent.answer).unwrap();
    assert!(
        sent.keys
            .iter()
            .zip(&keys)
            .all(|(pair, key)| !pair.contains(key))
    );
}

#[test]
fn base_send_request_of_wrong_length_is_refused() {
    let session = session_id(b"a");
    let (_, mut request) = BaseReceiver::new(session, CHOICES, &mut rng(1));
    for len in [0, 1, REQUEST_LEN - 1, REQUEST_LEN - 32, REQUEST_LEN + 1] {
        request.resize(len, 0);
        let error = base_send(&session, &request, &mut rng(2)).err();
        assert_eq!(
            error,
            Some(OtError::Length {
                what: REQUEST,
                expected: REQUEST_LEN,
                got: len
            })
        );
    }
}

#[test]
fn base_send_request_with_invalid_point_is_refused_with_its_index() {
    let session = session_id(b"a");
    // Not canonical (p), negative (1), not on the curve (RFC 9496, appendix A.2), and the identity.
    let mut modulus = [0xff; 32];
    (modulus[0], modulus[31]) = (0xed, 0x7f);
    let mut negative = [0; 32];
    negative[0] = 1;
    let mut off_curve = [0; 32];
    off_curve.copy_from_slice(&bytes(
        "26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371",
    ));
    for (index, bad) in [
        (0, modulus),
        (7, negative),
        (200, off_curve),
        (255, [0; 32]),
    ] {
        let (_, mut request) = BaseReceiver::new(session, CHOICES, &mut rng(1));
        request[32 * index..32 * index + 32].copy_from_slice(&bad);
        let error = base_send(&session, &request, &mut rng(2)).err();
        assert_eq!(
            error,
            Some(OtError::InvalidPoint {
                what: REQUEST,
                index
            })
        );
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|k| u8::from_str_radix(&hex[2 * k..2 * k + 2], 16).unwrap())
        .collect()
}

#[test]
fn finish_identity_or_short_answer_is_refused() {
    let (receiver, _) = BaseReceiver::new(session_id(b"a"), CHOICES, &mut rng(1));
    let error = receiver.finish(&[0; 32]).err();
    assert_eq!(
        error,
        Some(OtError::InvalidPoint {
            what: ANSWER,
            index: 0
        })
    );
    let error = receiver.finish(&[0; 31]).err();
    assert_eq!(
        error,
        Some(OtError::Length {
            what: ANSWER,
            expected: 32,
            got: 31
        })
    );
}
