use proptest::prelude::*;

use super::*;

fn random(seed: u64, len: usize) -> Vec<u128> {
    use rand_core::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(seed);
    (0..len)
        .map(|_| u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()))
        .collect()
}

fn bit(row: &Row, k: usize) -> u8 {
    (row[k / 128] >> (k % 128)) as u8 & 1
}

/// Element k of `PLANES` rows.
fn element(rows: &[Row], k: usize) -> u8 {
    rows.iter()
        .enumerate()
        .fold(0, |sum, (plane, row)| sum | bit(row, k) << plane)
}

/// Product in F_2[a]/(a^4 + a + 1), by repeated doubling.
fn multiply(a: u8, b: u8) -> u8 {
    let (mut product, mut power) = (0, a);
    for j in 0..4 {
        product ^= power * (b >> j & 1);
        power = ((power << 1) & 15) ^ ((power >> 3) * 3);
    }
    product
}

/// u = sum r_x and sum x*r_x + delta*correction, an OT at a time.
fn check_combine<const PLANES: usize>(seed: u64, delta: u8, chunk: usize) {
    let words = random(seed, LEAVES * STREAM_BLOCKS + 2 * PLANES);
    let streams: Streams =
        std::array::from_fn(|x| std::array::from_fn(|k| words[x * STREAM_BLOCKS + k]));
    let correction: [Row; PLANES] = *words[LEAVES * STREAM_BLOCKS..]
        .as_chunks::<2>()
        .0
        .first_chunk()
        .unwrap();
    let masks = std::array::from_fn(|j| u128::from(delta >> j & 1).wrapping_neg());
    let (u, v) = Combine {
        streams: &streams,
        delta: masks,
    }
    .chunk(chunk, &correction);
    // F_4 within F_16: its second plane counts a + a^2.
    let embed = |x: u8| {
        if PLANES == 2 {
            [0, 1, 6, 7][usize::from(x)]
        } else {
            x
        }
    };
    for k in 0..CHUNK {
        let (mut sum, mut weighted) = (0, multiply(delta, embed(element(&correction, k))));
        for (x, stream) in streams.iter().enumerate() {
            let rows = &stream.as_chunks::<2>().0[chunk * PLANES..][..PLANES];
            sum ^= element(rows, k);
            weighted ^= multiply(x as u8, embed(element(rows, k)));
        }
        assert_eq!((element(&u, k), element(&v, k)), (sum, weighted), "OT {k}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn combine_over_f2_any_streams_equals_sums_by_element(seed: u64, delta in 0_u8..16, chunk in 0_usize..4) {
        check_combine::<1>(seed, delta, chunk);
    }

    #[test]
    fn combine_over_f4_any_streams_equals_sums_by_element(seed: u64, delta in 0_u8..16, chunk in 0_usize..4) {
        check_combine::<2>(seed, delta, chunk);
    }

    #[test]
    fn combine_over_f16_any_streams_equals_sums_by_element(seed: u64, delta in 0_u8..16, chunk in 0_usize..4) {
        check_combine::<4>(seed, delta, chunk);
    }

    #[test]
    fn portable_transpose_any_chunk_moves_every_bit(seed: u64) {
        let mut chunk = Chunk::ZERO;
        chunk.rows.as_flattened_mut().copy_from_slice(&random(seed, 2 * ROWS));
        let mut blocks = [0; CHUNK];
        portable_transpose(&chunk, &mut blocks);
        for (k, block) in blocks.iter().enumerate() {
            for (i, row) in chunk.rows.iter().enumerate() {
                prop_assert_eq!((block >> i) as u8 & 1, bit(row, k));
            }
        }
    }

    #[test]
    fn elements_any_rows_and_length_match_bits(seed: u64, len in 0..=CHUNK) {
        let rows: [Row; 4] = *random(seed, 8).as_chunks::<2>().0.first_chunk().unwrap();
        let mut out = vec![0; len];
        elements(&rows, &mut out);
        for (k, value) in out.iter().enumerate() {
            prop_assert_eq!(*value, element(&rows, k));
        }
        prop_assert_eq!(row_from_bytes(&row_bytes(&rows[2])), rows[2]);
    }
}
