//! The public local code: which elements of the LPN secret a sample adds up, and the sums.
//!
//! Row r has ten entries, given by ten 32-bit words of an AES-CTR stream under a public key: the highest bits of a word
//! are the column, and over F_16 the entry is 1 + floor(15 * low / 2^14) for its lowest 14 bits.
//! NOTE: columns may repeat within a row (one row in 6000), and entries of F_16 are uniform in F_16* up to a factor of
//! 1 + 2^-10.

use crate::ferret::params::{K, LOCALITY, LOG_K};

/// Samples that are made together.
pub(crate) const GROUP: usize = 256;
/// Words of a group.
pub(crate) const WORDS: usize = GROUP * LOCALITY;

const REST: u32 = 32 - LOG_K;

/// The rows of a group: 16 * column + entry, with entry 1 over F_2.
pub(crate) type Rows = [u32; WORDS];
/// The part of the stream that gives a group's rows.
pub(crate) type Stream = [u128; WORDS / 4];

/// Row word of a word of the stream.
#[inline(always)]
pub(crate) fn row_word<const LARGE: bool>(word: u32) -> u32 {
    let entry = if LARGE {
        1 + (((word & ((1 << REST) - 1)) * 15) >> REST)
    } else {
        1
    };
    word >> REST << 4 | entry
}

/// Portable twin of the kernel that reads rows off a stream.
pub(crate) fn portable_rows<const LARGE: bool>(stream: &Stream, rows: &mut Rows) {
    for (words, block) in rows.as_chunks_mut::<4>().0.iter_mut().zip(stream) {
        for (k, word) in words.iter_mut().enumerate() {
            *word = row_word::<LARGE>((block >> (32 * k)) as u32);
        }
    }
}

/// Portable twin of the kernel over F_2: adds to each block the secret's blocks of its row.
pub(crate) fn portable_add_blocks(table: &[u128; K], rows: &Rows, blocks: &mut [u128; GROUP]) {
    for (block, row) in blocks.iter_mut().zip(rows.as_chunks::<LOCALITY>().0) {
        for word in row {
            *block ^= table[(*word >> 4) as usize % K];
        }
    }
}

/// Portable twin of the kernel over F_16: adds to each block the entries of its row times the secret's blocks.
pub(crate) fn portable_add_multiples(table: &[u128; K], rows: &Rows, blocks: &mut [u128; GROUP]) {
    for (block, row) in blocks.iter_mut().zip(rows.as_chunks::<LOCALITY>().0) {
        let mut powers = [0; 4];
        for word in row {
            for (bit, power) in powers.iter_mut().enumerate() {
                let mask = u128::from(*word >> bit & 1).wrapping_neg();
                *power ^= table[(*word >> 4) as usize % K] & mask;
            }
        }
        *block ^= horner(powers);
    }
}

/// Sum of `a^j * powers[j]`, nibble by nibble.
fn horner(powers: [u128; 4]) -> u128 {
    const LOW: u128 = u128::from_le_bytes([0x11; 16]);
    powers.into_iter().rev().fold(0, |sum, power| {
        let carry = sum >> 3 & LOW;
        (sum & (LOW * 7)) << 1 ^ carry ^ carry << 1 ^ power
    })
}
