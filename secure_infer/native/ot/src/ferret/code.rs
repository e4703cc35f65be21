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

/// u of the LPN secret, packed: a bit or four bits each, so that they stay in the caches beside the blocks.
pub(crate) type Choices = [u64; K / 16];

/// Bits of an element, and elements in a word.
const fn packing(large: bool) -> (usize, usize) {
    if large { (4, 16) } else { (1, 64) }
}

/// Packs elements.
pub(crate) fn pack<const LARGE: bool>(u: &[u8], table: &mut Choices) {
    let (bits, per_word) = const { packing(LARGE) };
    for (word, u) in table.iter_mut().zip(u.chunks(per_word)) {
        *word = u
            .iter()
            .rev()
            .fold(0, |word, u| word << bits | u64::from(*u));
    }
}

/// The secret's element of a word's column, among other bits.
#[inline(always)]
fn element<const LARGE: bool>(table: &Choices, word: u32) -> u8 {
    let (bits, per_word) = const { packing(LARGE) };
    let column = (word >> 4) as usize;
    (table[column / per_word % table.len()] >> (column % per_word * bits)) as u8
}

/// Sum of the secret's elements of a row, over F_2.
#[inline(always)]
pub(crate) fn choice(table: &Choices, row: &[u32; LOCALITY]) -> u8 {
    let elements = row.iter().map(|word| element::<false>(table, *word));
    elements.fold(0, |sum, element| sum ^ element) & 1
}

/// Adds, to each of `out`, the entries of its row times the secret's elements. Portable twin of the same code with AVX2.
#[inline(always)]
pub(crate) fn add_choices<const LARGE: bool>(table: &Choices, rows: &Rows, out: &mut [u8; GROUP]) {
    let rows = rows.as_chunks::<LOCALITY>().0;
    if !LARGE {
        for (out, row) in out.iter_mut().zip(rows) {
            *out ^= choice(table, row);
        }
        return;
    }
    // One place of all rows at a time, so that the products are made in registers of bytes.
    let (mut u, mut entries) = ([0_u8; GROUP], [0_u8; GROUP]);
    let mut powers = [[0_u8; GROUP]; 4];
    for place in 0..LOCALITY {
        for ((u, entry), row) in u.iter_mut().zip(&mut entries).zip(rows) {
            *u = element::<true>(table, row[place]);
            *entry = row[place] as u8;
        }
        for (bit, power) in powers.iter_mut().enumerate() {
            for ((power, u), entry) in power.iter_mut().zip(&u).zip(&entries) {
                *power ^= u & (entry >> bit & 1).wrapping_neg();
            }
        }
    }
    for (at, out) in out.iter_mut().enumerate() {
        let sum = powers.iter().rev().fold(0, |sum, power| {
            let carry = sum >> 3 & 1;
            (sum & 7) << 1 ^ carry ^ carry << 1 ^ (power[at] & 15)
        });
        *out ^= sum;
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
