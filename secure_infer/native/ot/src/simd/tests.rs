use proptest::prelude::*;

use super::*;
use crate::planes::{STREAM_BLOCKS, Streams};

fn words(seed: u128, len: usize) -> Vec<u128> {
    let mut words = vec![0; len];
    aes::portable_counter(&AesKey::new(seed), 1, 0, &mut words);
    words
}

fn chunk(seed: u128) -> Chunk {
    let mut chunk = Chunk::ZERO;
    for (word, random) in chunk.rows.as_flattened_mut().iter_mut().zip(words(seed, 256)) {
        *word = random;
    }
    chunk
}

fn check_combine<const PLANES: usize>(backend: Backend, seed: u128, count: usize) {
    let random = words(seed, 16 * STREAM_BLOCKS + 4 + 2 * PLANES * count);
    let streams: Streams = std::array::from_fn(|x| std::array::from_fn(|k| random[x * STREAM_BLOCKS + k]));
    let delta = std::array::from_fn(|j| (random[16 * STREAM_BLOCKS + j] & 1).wrapping_neg());
    let rest = &random[16 * STREAM_BLOCKS + 4..];
    let corrections: Vec<[Row; PLANES]> = (0..count)
        .map(|c| std::array::from_fn(|p| std::array::from_fn(|k| rest[2 * (c * PLANES + p) + k])))
        .collect();
    let combine = Combine::<PLANES> { streams: &streams, delta };
    let run = |backend: Backend| {
        let mut u = corrections.clone();
        let mut chunks = vec![Chunk::ZERO; count];
        backend.combine(&combine, 5, &mut u, &mut chunks);
        (u, chunks.iter().map(|chunk| chunk.rows).collect::<Vec<_>>())
    };
    assert!(run(backend) == run(Backend::PORTABLE));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn aes_kernels_any_input_equal_portable(
        seed: u128, domain: u64, first: u64, len in 0_usize..90,
    ) {
        let key = AesKey::new(seed);
        let input = words(seed, len);
        let multiples = std::array::from_fn(|x| words(!seed, 16)[x]);
        let run = |backend: Backend| {
            let (mut stream, mut hashes, mut bits) = (vec![0; len], input.clone(), vec![0; len]);
            backend.counter(&key, domain, first, &mut stream);
            backend.tmmo(&key, domain, first, &mut hashes);
            backend.tmmo_bits_of_16(&key, domain, first, &input, &multiples, &mut bits);
            (stream, hashes, bits)
        };
        let expected = run(Backend::PORTABLE);
        for backend in Backend::available() {
            prop_assert_eq!(&run(backend), &expected);
        }
    }

    #[test]
    fn transpose_any_chunk_equals_portable(seed: u128) {
        let mut expected = [0; CHUNK];
        Backend::PORTABLE.transpose(&mut chunk(seed), &mut expected);
        for backend in Backend::available() {
            let mut blocks = [0; CHUNK];
            backend.transpose(&mut chunk(seed), &mut blocks);
            prop_assert_eq!(blocks, expected);
        }
    }

    #[test]
    fn combine_any_streams_equals_portable(seed: u128, count in 1_usize..4) {
        for backend in Backend::available() {
            check_combine::<1>(backend, seed, count);
            check_combine::<4>(backend, seed, count);
        }
    }
}

#[test]
fn agrees_with_portable_every_available_backend_passes() {
    assert!(Backend::available().into_iter().all(agrees_with_portable));
}
