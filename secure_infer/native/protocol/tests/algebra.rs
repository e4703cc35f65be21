//! The formulas of each sub-protocol with ideal OTs: every table, every sign, every wrap.

use blindread_protocol::carry;
use blindread_protocol::mux;
use blindread_protocol::truncate::Truncation;
use proptest::prelude::*;

fn mask(bits: u32) -> u32 {
    u32::MAX >> (32 - bits)
}

/// Runs the chain on shares with ideal 1-of-16 OTs; returns D's masked sign bits, given H's final mask.
fn masked_signs(
    window: [u32; 2],
    y_h: &[u32],
    y_d: &[u32],
    final_pi: &[u8],
    random: &[u16],
) -> Vec<u8> {
    let n = y_h.len();
    let chunks = carry::chunks(window);
    let mut pi_in = vec![0u8; n];
    let mut carries = vec![0u8; n];
    for (j, &chunk) in chunks.iter().enumerate() {
        let mut pi_out = vec![0u8; n];
        if j + 1 == chunks.len() {
            carry::bits(y_h, window[1] - 1, &mut pi_out);
            pi_out
                .iter_mut()
                .zip(final_pi)
                .for_each(|(out, pi)| *out ^= pi);
        } else {
            pi_out
                .iter_mut()
                .zip(random)
                .for_each(|(out, r)| *out = (r >> j & 1) as u8);
        }
        let pads: Vec<u16> = random
            .iter()
            .map(|r| r.wrapping_mul(40503).rotate_left(j as u32))
            .collect();
        let omega: Vec<u8> = random.iter().map(|r| (r >> 7 & 15) as u8).collect();
        let mut picks: Vec<u8> = omega
            .iter()
            .zip(&pads)
            .map(|(&o, &p)| o | ((p >> o & 1) as u8) << 4)
            .collect();
        let (mut codes, mut answers, mut delta) = (vec![0; n], vec![0; n], vec![0; n]);
        carry::codes(chunk, y_h, &pi_in, &pi_out, &mut codes);
        let centre = carry::centre(window);
        carry::ask(chunk, y_d, centre, &carries, &mut picks, &mut delta);
        for ((&pick, &delta), &omega) in picks.iter().zip(&delta).zip(&omega) {
            assert_eq!(pick & 15, delta ^ omega);
            assert!(u32::from(pick & 15) < chunk.entries());
        }
        if j + 1 == chunks.len() {
            for bytes in [&mut codes, &mut picks] {
                carry::keep_choices(final_pi, bytes);
            }
        }
        carry::answer(chunk, &codes, &pads, &delta, &mut answers);
        carry::pick(&answers, &picks, &mut carries);
        if j + 1 == chunks.len() {
            for bytes in [&mut codes, &mut picks] {
                carry::leave_choices(bytes);
                assert_eq!(bytes, final_pi);
            }
        }
        pi_in = pi_out;
    }
    carries
        .iter()
        .zip(y_d)
        .map(|(c, y)| {
            let read = y.wrapping_add(carry::centre(window));
            c ^ 1 ^ (read >> (window[1] - 1) & 1) as u8
        })
        .collect()
}

#[test]
fn chunks_cover_every_window_once() {
    for low in 0..4 {
        for high in low + 2..=low + 16 {
            let mut at = low;
            for chunk in carry::chunks([low, high]) {
                assert_eq!((chunk.low, chunk.carry), (at, at > low));
                assert!(chunk.index_bits() <= 4 && chunk.width > 0);
                at += chunk.width;
            }
            assert_eq!(at, high - 1);
        }
    }
}

proptest! {
    #[test]
    fn sign_is_exact_outside_the_dead_zone(
        low in 0u32..6, length in 2u32..14, ring in 20u32..=31, seed in any::<u64>(), values in prop::collection::vec(any::<i32>(), 64)
    ) {
        let window = [low, low + length];
        let limit = (1i32 << (window[1] - 1)) - (1 << low);
        prop_assume!(limit > 0);
        let mut state = seed | 1;
        let mut next = || { state ^= state << 13; state ^= state >> 7; state ^= state << 17; state };
        let y: Vec<i32> = values.iter().map(|v| v.rem_euclid(2 * limit - 1) - limit + 1).collect();
        let y_h: Vec<u32> = y.iter().map(|_| next() as u32 & mask(ring)).collect();
        let y_d: Vec<u32> = y.iter().zip(&y_h).map(|(&y, &h)| (y as u32).wrapping_sub(h) & mask(ring)).collect();
        let pi: Vec<u8> = y.iter().map(|_| (next() & 1) as u8).collect();
        let random: Vec<u16> = y.iter().map(|_| next() as u16).collect();
        let beta = masked_signs(window, &y_h, &y_d, &pi, &random);
        for i in 0..y.len() {
            let half = (1i32 << low) >> 1;
            if !(-half..half).contains(&y[i]) {
                prop_assert_eq!(beta[i] ^ pi[i], u8::from(y[i] >= 0), "y = {}", y[i]);
            }
        }
    }

    #[test]
    fn multiplexer_gives_the_product_under_the_chosen_mask(
        y in any::<[u32; 2]>(), pads in any::<[u32; 5]>(), bits in any::<[bool; 3]>(), ring in 8u32..=31
    ) {
        let m = mask(ring);
        let [b, pi, c] = bits.map(u8::from);
        let [y_h, y_d] = y.map(|y| y & m);
        let [tau, second_d, first_h, second_h, target] = pads.map(|p| p & m);
        let pad = if pi == 0 { tau } else { second_d };
        let (mut corrections, mut zero, mut one) = ([0], [0], [0]);
        let inputs = mux::HospitalInputs {
            y: &[y_h], pi: &[pi], pad: &[pad], first: &[first_h], second: &[second_h], target: &[target],
        };
        mux::prepare(&inputs, m, &mut corrections, &mut zero, &mut one);
        let (pads, mut w) = ([if c == 0 { first_h } else { second_h }], [0u32]);
        mux::receive(&[c], &corrections, m, &pads, &mut w);
        let beta = [b ^ pi];
        let (mut flips, mut elements, mut z) = ([0], [0], [y_d]);
        mux::request(&beta, &z, &[c], &[tau.wrapping_sub(second_d)], m, &mut flips, &mut elements);
        mux::answer(&zero, &one, &[pi], &flips, m, &mut elements);
        mux::finish(&beta, &flips, &w, &[tau], m, &elements, &mut z);
        let expected = if b == 1 { y_h.wrapping_add(y_d) } else { 0 };
        prop_assert_eq!(z[0].wrapping_add(target) & m, expected & m);
    }

    #[test]
    fn extension_keeps_the_value_and_the_share_that_the_hospital_wants(
        from in 8u32..=30, more in 1u32..=23, value in any::<i64>(), target in any::<u32>(), c in 0u8..2,
        pads in any::<[u32; 2]>()
    ) {
        let to = (from + more).min(31);
        let t = Truncation { from_bits: from, to_bits: to, shift: 0 };
        let limit = 1i64 << (from - 2);
        let y = value.rem_euclid(2 * limit) - limit;
        let (target, g) = ([target & mask(to)], mask(t.ot_bits()));
        let y_h = [target[0] & mask(from)];
        let mut y_d = [(y as u32).wrapping_sub(y_h[0]) & mask(from)];
        let [first, second] = pads.map(|p| [p & g]);
        let (mut rho, mut corrections, mut zero, mut one) = ([0], [0], [0], [0]);
        let (mut flips, mut answers) = ([c], [0]);
        t.towards(&target, &mut rho);
        let mut share = [0];
        t.hospital_share(&y_h, &rho, &mut share);
        prop_assert_eq!(share, target);
        t.prepare(&y_h, &rho, (&first, &second), &mut corrections, &mut zero, &mut one);
        let (pads, mut w) = (if c == 0 { first } else { second }, [0u32]);
        mux::receive(&[c], &corrections, g, &pads, &mut w);
        t.offset(&mut y_d);
        t.request(&y_d, &mut flips);
        t.answer(&zero, &one, &flips, &mut answers);
        t.finish(&mut y_d, &flips, &w, &answers);
        prop_assert_eq!(target[0].wrapping_add(y_d[0]) & mask(to), y as u32 & mask(to));
    }

    #[test]
    fn truncation_errs_by_at_most_one(
        from in 20u32..=31, to in 8u32..=31, shift in 1u32..16, value in any::<i64>(), h in any::<u32>(),
        pads in any::<[u32; 3]>(), c in 0u8..2
    ) {
        let t = Truncation { from_bits: from, to_bits: to, shift };
        let limit = 1i64 << (from - 2);
        let y = value.rem_euclid(2 * limit) - limit - (1 << shift);
        // The result must fit into the new ring.
        prop_assume!((y.abs() >> shift) + 2 < 1 << (to - 1));
        let y_h = h & mask(from);
        let mut y_d = [(y as u32).wrapping_sub(y_h) & mask(from)];
        let bits = t.ot_bits();
        let g = if bits == 0 { 0 } else { mask(bits) };
        let [rho, first, second] = pads.map(|p| [p & g]);
        let (mut corrections, mut zero, mut one) = ([0], [0], [0]);
        let (mut flips, mut answers) = ([c], [0]);
        t.offset(&mut y_d);
        let mut share = [0];
        if bits == 0 {
            t.hospital_share(&[y_h], &[], &mut share);
            t.finish_alone(&mut y_d);
        } else {
            t.hospital_share(&[y_h], &rho, &mut share);
            t.prepare(&[y_h], &rho, (&first, &second), &mut corrections, &mut zero, &mut one);
            let (pads, mut w) = (if c == 0 { first } else { second }, [0u32]);
            mux::receive(&[c], &corrections, g, &pads, &mut w);
            t.request(&y_d, &mut flips);
            t.answer(&zero, &one, &flips, &mut answers);
            t.finish(&mut y_d, &flips, &w, &answers);
        }
        let x = share[0].wrapping_add(y_d[0]) & mask(to);
        let x = i64::from((x << (32 - to)) as i32 >> (32 - to));
        prop_assert!((x as f64 - y as f64 / (1u64 << shift) as f64).abs() <= 1.0, "y = {y}, x = {x}");
    }
}
