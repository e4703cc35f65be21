//! The public local code: which elements of the LPN secret a sample adds up, and the sums.
//!
//! Samples, and elements of the secret, are taken in fours. A *symbol* x0 + x1 y + x2 y^2 + x3 y^3 of four blocks lies in
//! one line of the cache, and multiplying it by y mixes the four: over F_2 with y^4 = y + 1, over F_16 with
//! y^4 = a y^2 + y + 1, both irreducible, so that symbols over F_2 are elements of F_16 and those over F_16 of F_65536
//! (times what a block holds, nibble by nibble). A row has ten columns of symbols and a power of y with each:
//! three times y^0, three times y^1, twice y^2 and twice y^3.
//!
//! Columns are 16-bit words of an AES-CTR stream under a public key. Why symbols: `docs/decisions/0009`; what they do to
//! the LPN assumption: `params`.
//! NOTE: columns may repeat within a row (one row in 1500).

use zeroize::Zeroize;

use crate::ferret::params::{K, LOCALITY};

/// Samples that are made together.
pub(crate) const GROUP: usize = 256;
/// Samples of a symbol.
pub(crate) const SYMBOL: usize = 4;
/// Columns of the code.
const COLUMNS: usize = K / SYMBOL;
/// Columns of a group's rows.
pub(crate) const WORDS: usize = GROUP / SYMBOL * LOCALITY;
/// Columns that have the power of y with the same number.
pub(crate) const POWERS: [usize; SYMBOL] = [3, 3, 2, 2];

/// The part of the stream that gives a group's columns.
pub(crate) type Stream = [u128; WORDS / 8];

/// Four blocks in a line of the cache.
#[derive(Clone, Copy, Zeroize)]
#[repr(C, align(64))]
pub(crate) struct Symbol(pub [u128; SYMBOL]);

/// The LPN secret.
pub(crate) type Secret = [Symbol; COLUMNS];

const _: () = assert!(COLUMNS == 1 << u16::BITS);
const _: () = assert!(POWERS[0] + POWERS[1] + POWERS[2] + POWERS[3] == LOCALITY);

/// The secret of these elements, which never was on the stack; zeros in the place of those that are missing.
pub(crate) fn secret(elements: &[u128]) -> Box<Secret> {
    let mut symbols = vec![Symbol([0; SYMBOL]); COLUMNS].into_boxed_slice();
    for (symbol, elements) in symbols.iter_mut().zip(elements.as_chunks().0) {
        symbol.0 = *elements;
    }
    match symbols.try_into() {
        Ok(secret) => secret,
        Err(_) => unreachable!("as many symbols as there are columns"),
    }
}

/// Portable twin of the kernels: adds to each symbol of `blocks` what its row makes of the secret.
pub(crate) fn portable_add_rows<const LARGE: bool>(
    secret: &Secret,
    stream: &Stream,
    blocks: &mut [u128; GROUP],
) {
    let mut columns =
        (0..WORDS).map(|word| (stream[word / 8] >> (16 * (word % 8))) as usize % COLUMNS);
    for symbol in blocks.as_chunks_mut::<SYMBOL>().0 {
        let sums = POWERS.map(|count| {
            let mut sum = [0; SYMBOL];
            for column in columns.by_ref().take(count) {
                add(&mut sum, &secret[column].0);
            }
            sum
        });
        let mut total = [0; SYMBOL];
        for sum in sums.iter().rev() {
            total = times_y::<LARGE>(total);
            add(&mut total, sum);
        }
        add(symbol, &total);
    }
}

fn add(to: &mut [u128; SYMBOL], with: &[u128; SYMBOL]) {
    for (to, with) in to.iter_mut().zip(with) {
        *to ^= with;
    }
}

fn times_y<const LARGE: bool>([x0, x1, x2, x3]: [u128; SYMBOL]) -> [u128; SYMBOL] {
    let of_y2 = if LARGE { times_a(x3) } else { 0 };
    [x3, x0 ^ x3, x1 ^ of_y2, x2]
}

/// The generator a of F_16 (a^4 = a + 1) times every nibble.
fn times_a(x: u128) -> u128 {
    const LOW: u128 = u128::from_le_bytes([0x11; 16]);
    let carry = x >> 3 & LOW;
    (x & (LOW * 7)) << 1 ^ carry ^ carry << 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// y^exponent, of nibbles.
    fn power<const LARGE: bool>(exponent: usize) -> [u128; SYMBOL] {
        (0..exponent).fold([1, 0, 0, 0], |symbol, _| times_y::<LARGE>(symbol))
    }

    /// An irreducible polynomial of degree 4 over F_q is one whose y has an order that divides q^4 - 1 and has a factor
    /// which no q^d - 1 with a smaller d has: 5 for q = 2, 257 for q = 16.
    #[test]
    fn symbols_are_elements_of_fields() {
        let one = [1, 0, 0, 0];
        assert!(power::<false>(15) == one && power::<false>(3) != one);
        assert!(power::<true>(65_535) == one && power::<true>(255) != one);
        // y^4 = y + 1 and y^4 = a y^2 + y + 1.
        assert_eq!(power::<false>(4), [1, 1, 0, 0]);
        assert_eq!(power::<true>(4), [1, 1, 2, 0]);
    }

    #[test]
    fn rows_are_their_columns_times_powers_of_y() {
        let mut elements = vec![0; K];
        let mut columns = [0_u16; WORDS];
        // The first row has ten columns of its own; all others meet zeros.
        for (number, column) in (0..).zip(&mut columns[..LOCALITY]) {
            *column = 100 + number;
            elements[SYMBOL * usize::from(*column)] = 1 << (4 * number);
        }
        let stream = std::array::from_fn(|at| {
            (0..8).fold(0, |block, k| {
                block | u128::from(columns[8 * at + k]) << (16 * k)
            })
        });
        let mut blocks = [0; GROUP];
        portable_add_rows::<true>(&secret(&elements), &stream, &mut blocks);
        // y^0 to y^3 move the lowest part of a symbol to the part of that number.
        let nibbles =
            |from: u32, count: u32| (from..from + count).fold(0, |sum, k| sum | 1_u128 << (4 * k));
        assert_eq!(
            blocks[..4],
            [nibbles(0, 3), nibbles(3, 3), nibbles(6, 2), nibbles(8, 2)]
        );
        assert!(blocks[4..].iter().all(|block| *block == 0));
    }
}
