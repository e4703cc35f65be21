use proptest::prelude::*;

use super::*;
use crate::ferret::params::K;
use crate::planes::{STREAM_BLOCKS, Streams};

fn words(seed: u128, len: usize) -> Vec<u128> {
    let mut words = vec![0; len];
    aes::portable_counter(&AesKey::new(seed), 1, 0, &mut words);
    words
}

fn chunk_of(seed: u128) -> [u128; CHUNK] {
    let mut blocks = [0; CHUNK];
    aes::portable_counter(&AesKey::new(seed), 1, 0, &mut blocks);
    blocks
}

fn chunk(seed: u128) -> Chunk {
    let mut chunk = Chunk::ZERO;
    for (word, random) in chunk
        .rows
        .as_flattened_mut()
        .iter_mut()
        .zip(words(seed, 256))
    {
        *word = random;
    }
    chunk
}

fn check_combine<const PLANES: usize>(backend: Backend, seed: u128, count: usize) {
    let random = words(seed, 16 * STREAM_BLOCKS + 4 + 2 * PLANES * count);
    let streams: Streams =
        std::array::from_fn(|x| std::array::from_fn(|k| random[x * STREAM_BLOCKS + k]));
    let delta = std::array::from_fn(|j| (random[16 * STREAM_BLOCKS + j] & 1).wrapping_neg());
    let rest = &random[16 * STREAM_BLOCKS + 4..];
    let corrections: Vec<[Row; PLANES]> = (0..count)
        .map(|c| std::array::from_fn(|p| std::array::from_fn(|k| rest[2 * (c * PLANES + p) + k])))
        .collect();
    let combine = Combine::<PLANES> {
        streams: &streams,
        delta,
    };
    let run = |backend: Backend| {
        let mut u = corrections.clone();
        let mut chunks: Vec<Chunk> = (0..count).map(|_| Chunk::ZERO).collect();
        backend.combine(&combine, 5, &mut u, &mut chunks);
        (u, chunks.iter().map(|chunk| chunk.rows).collect::<Vec<_>>())
    };
    assert!(run(backend) == run(Backend::PORTABLE));
}

/// Nodes after two levels of `grow`, and what it returned.
fn grown<R>(
    input: &[u128],
    grow: impl FnOnce(&mut [u128], &mut [u128]) -> R,
) -> (Vec<u128>, Vec<u128>, R) {
    let (mut left, mut right) = (input.to_vec(), input.to_vec());
    let sums = grow(&mut left, &mut right);
    (left, right, sums)
}

fn grown_by(
    backend: Backend,
    key: &AesKey,
    input: &[u128],
) -> (Vec<u128>, Vec<u128>, [[u128; 2]; 2]) {
    grown(input, |left, right| {
        [
            backend.grow::<false>(key, left, right),
            backend.grow::<true>(key, left, right),
        ]
    })
}

fn check_rows<const LARGE: bool>(backend: Backend, seed: u128, secret: &Secret) {
    let run = |backend: Backend| {
        let stream: Stream = words(seed, code::WORDS / 8).try_into().unwrap();
        let mut blocks = [0; GROUP];
        blocks.copy_from_slice(&words(!seed, GROUP));
        backend.add_rows::<LARGE>(secret, &stream, &mut blocks);
        blocks
    };
    assert!(run(backend) == run(Backend::PORTABLE));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tree_kernels_any_nodes_equal_portable(seed: u128, len in 0_usize..90) {
        let (key, input) = (AesKey::new(seed), words(!seed, len));
        for backend in Backend::available() {
            prop_assert_eq!(
                grown_by(backend, &key, &input),
                grown_by(Backend::PORTABLE, &key, &input)
            );
        }
    }

    #[test]
    fn sums_over_rows_any_words_equal_portable(seed: u128) {
        let secret = code::secret(&words(3, K));
        for backend in Backend::available() {
            check_rows::<false>(backend, seed, &secret);
            check_rows::<true>(backend, seed, &secret);
        }
    }

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
            backend.mmo_bits_of_16(&key, &input, &multiples, &mut bits);
            let mut untweaked = input.clone();
            backend.mmo(&key, &mut untweaked);
            let mut pairs = vec![0; len];
            let [first, second] = [!seed, seed ^ 1].map(chunk_of);
            let four = std::array::from_fn(|x| multiples[x]);
            backend.mmo_bits_of_4_by_4(&key, &first, &second, &four, &mut pairs);
            (stream, hashes, bits, untweaked, pairs)
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
            check_combine::<2>(backend, seed, count);
            check_combine::<4>(backend, seed, count);
        }
    }
}

#[test]
fn agrees_with_portable_every_available_backend_passes() {
    assert!(Backend::available().into_iter().all(agrees_with_portable));
}

/// A register of four blocks in plain Rust: the width-generic part of the kernels at the width of AVX-512, which
/// most machines that run these tests do not have.
#[cfg(target_arch = "x86_64")]
mod four_blocks {
    use ::aes::cipher::Array;

    use super::super::kernels;
    use super::super::vector::Vector;
    use super::*;

    #[derive(Clone, Copy)]
    struct Four([u128; 4]);

    impl Four {
        fn map(self, other: Self, f: impl Fn(u128, u128) -> u128) -> Self {
            Self(std::array::from_fn(|k| f(self.0[k], other.0[k])))
        }
    }

    impl Vector for Four {
        const BLOCKS: usize = 4;

        unsafe fn load(from: *const u128) -> Self {
            // SAFETY: valid for four blocks, by the contract of the trait.
            Self(unsafe { from.cast::<[u128; 4]>().read_unaligned() })
        }

        unsafe fn store(self, to: *mut u128) {
            // SAFETY: valid for four blocks, by the contract of the trait.
            unsafe { to.cast::<[u128; 4]>().write_unaligned(self.0) }
        }

        unsafe fn broadcast(block: *const u128) -> Self {
            // SAFETY: valid for one block, by the contract of the trait.
            Self([unsafe { block.read_unaligned() }; 4])
        }

        unsafe fn xor(self, other: Self) -> Self {
            self.map(other, |a, b| a ^ b)
        }

        unsafe fn and(self, other: Self) -> Self {
            self.map(other, |a, b| a & b)
        }

        unsafe fn add(self, other: Self) -> Self {
            let half = |a: u128, b: u128| u128::from((a as u64).wrapping_add(b as u64));
            self.map(other, |a, b| half(a >> 64, b >> 64) << 64 | half(a, b))
        }

        unsafe fn swap_halves(self) -> Self {
            Self(self.0.map(|block| block.rotate_left(64)))
        }

        unsafe fn round(self, key: Self) -> Self {
            self.map(key, |block, key| {
                let mut block = Array(block.to_le_bytes());
                ::aes::hazmat::cipher_round(&mut block, &Array(key.to_le_bytes()));
                u128::from_le_bytes(block.0)
            })
        }

        unsafe fn last_round(self, key: Self) -> Self {
            self.map(key, |block, key| {
                let mut block = Array(block.to_le_bytes());
                ::aes::hazmat::cipher_round(&mut block, &Array([0; 16]));
                ::aes::hazmat::inv_mix_columns(&mut block);
                u128::from_le_bytes(block.0) ^ key
            })
        }
    }

    #[test]
    fn aes_kernels_at_width_four_equal_portable() {
        let key = AesKey::new(11);
        let multiples = std::array::from_fn(|x| words(12, 16)[x]);
        for len in [0, 1, 3, 4, 5, 31, 32, 33, 70, 131] {
            let input = words(13, len);
            let expected = |backend: Backend| {
                let (mut stream, mut hashes, mut bits) =
                    (vec![0; len], input.clone(), vec![0; len]);
                backend.counter(&key, 1, u64::MAX - 40, &mut stream);
                backend.tmmo(&key, 2, u64::MAX - 40, &mut hashes);
                backend.mmo_bits_of_16(&key, &input, &multiples, &mut bits);
                (stream, hashes, bits)
            };
            let (mut stream, mut hashes, mut bits) = (vec![0; len], input.clone(), vec![0; len]);
            // SAFETY: this register needs no processor feature.
            unsafe {
                kernels::counter::<Four>(&key, 1, u64::MAX - 40, &mut stream);
                kernels::tmmo::<Four>(&key, 2, u64::MAX - 40, &mut hashes);
                kernels::bits_of_16::<Four>(&key, &input, &multiples, &mut bits);
            }
            let ([first, second], four) = ([14, 15].map(chunk_of), [multiples[3]; 4]);
            let (mut pairs, mut expected_pairs) = (vec![0; len], vec![0; len]);
            Backend::PORTABLE.mmo_bits_of_4_by_4(&key, &first, &second, &four, &mut expected_pairs);
            // SAFETY: this register needs no processor feature.
            unsafe { kernels::bits_of_4_by_4::<Four>(&key, &first, &second, &four, &mut pairs) };
            assert_eq!(pairs, expected_pairs);
            assert_eq!(
                (stream, hashes, bits),
                expected(Backend::PORTABLE),
                "{len} blocks"
            );
            // SAFETY: this register needs no processor feature.
            let grown = grown(&input, |left, right| unsafe {
                [
                    kernels::grow::<Four, false>(&key, left, right),
                    kernels::grow::<Four, true>(&key, left, right),
                ]
            });
            assert_eq!(grown, grown_by(Backend::PORTABLE, &key, &input));
        }
    }
}
