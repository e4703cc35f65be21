//! From sixteen leaf streams to rows of v or w, and from rows to 128-bit blocks, one per OT.
//!
//! OTs come in chunks of 256. Within a chunk a *row* holds one bit of each of its 256 OTs; elements of
//! `F_16 = F_2[a]/(a^4 + a + 1)` are four rows, least significant first, those of its subfield F_4 two: the
//! coefficients of 1 and of `a + a^2`. Row 4 i + j of a chunk is bit j of the share of tree i.

use zeroize::Zeroize;

use crate::ggm::LEAVES;

/// OTs in one chunk, the unit of padding and of the wire format.
pub(crate) const CHUNK: usize = 256;
/// AES blocks per leaf, tree and batch: small enough for everything to stay in the second-level cache.
pub(crate) const STREAM_BLOCKS: usize = 64;
/// Bits per share: rows of a chunk.
pub(crate) const ROWS: usize = 128;
/// Bytes of a row.
pub(crate) const ROW_LEN: usize = CHUNK / 8;

/// One bit of each of 256 OTs; OT k is bit k.
pub(crate) type Row = [u128; 2];

/// The streams of one tree; stream 0 of the party that misses a leaf stays zero.
pub(crate) type Streams = [[u128; STREAM_BLOCKS]; LEAVES];

/// The rows of 256 OTs. The unused tail keeps chunks from falling into the same cache sets.
#[repr(C, align(64))]
pub(crate) struct Chunk {
    pub(crate) rows: [Row; ROWS],
    tail: [Row; 2],
}

impl Chunk {
    pub(crate) const ZERO: Self = Self {
        rows: [[0; 2]; ROWS],
        tail: [[0; 2]; 2],
    };
}

impl Zeroize for Chunk {
    fn zeroize(&mut self) {
        self.rows.zeroize();
    }
}

/// How a tree's streams become its four rows.
pub(crate) struct Combine<'a, const PLANES: usize> {
    pub(crate) streams: &'a Streams,
    /// All ones where the bit of Delta_i is set; zeros for the party without Delta.
    pub(crate) delta: [u128; 4],
}

#[inline(always)]
fn add(a: Row, b: Row) -> Row {
    [a[0] ^ b[0], a[1] ^ b[1]]
}

/// (sum over x of `rows[x]`, for each j: sum over x with bit j of `rows[x]`).
#[inline(always)]
fn fold(mut rows: [Row; LEAVES]) -> (Row, [Row; 4]) {
    let mut sums = [[0; 2]; 4];
    for j in (0..4).rev() {
        let half = 1 << j;
        for x in 0..half {
            sums[j] = add(sums[j], rows[half + x]);
            rows[x] = add(rows[x], rows[half + x]);
        }
    }
    (rows[0], sums)
}

/// Rows of the sum over j of `a^j * sums[.][j]`, each of the sums an element with `PLANES` rows (see the module).
#[inline(always)]
fn reduce<const PLANES: usize>(sums: [[Row; 4]; PLANES]) -> [Row; 4] {
    let mut degrees = [[0; 2]; 7];
    for (plane, sums) in sums.iter().enumerate() {
        for (j, sum) in sums.iter().enumerate() {
            degrees[plane + j] = add(degrees[plane + j], *sum);
            if PLANES == 2 && plane == 1 {
                degrees[2 + j] = add(degrees[2 + j], *sum);
            }
        }
    }
    for high in (4..7).rev() {
        degrees[high - 4] = add(degrees[high - 4], degrees[high]);
        degrees[high - 3] = add(degrees[high - 3], degrees[high]);
    }
    [degrees[0], degrees[1], degrees[2], degrees[3]]
}

impl<const PLANES: usize> Combine<'_, PLANES> {
    /// u and v of one tree and chunk; adds Delta_i * correction, which makes the sender's v to w.
    fn chunk(&self, chunk: usize, correction: &[Row; PLANES]) -> ([Row; PLANES], [Row; 4]) {
        let mut u = [[0; 2]; PLANES];
        let mut sums = [[[0; 2]; 4]; PLANES];
        for plane in 0..PLANES {
            let at = 2 * (chunk * PLANES + plane);
            let mut rows = [[0; 2]; LEAVES];
            for (row, stream) in rows.iter_mut().zip(self.streams) {
                *row = [stream[at], stream[at + 1]];
            }
            (u[plane], sums[plane]) = fold(rows);
            for (sum, mask) in sums[plane].iter_mut().zip(self.delta) {
                *sum = add(
                    *sum,
                    [correction[plane][0] & mask, correction[plane][1] & mask],
                );
            }
        }
        (u, reduce(sums))
    }

    /// [`Self::chunk`] for the first chunks of a batch, rows into `chunks` at those of `tree`.
    ///
    /// `u` holds the corrections on entry. Portable twin of the butterfly kernel.
    pub(crate) fn run(&self, tree: usize, u: &mut [[Row; PLANES]], chunks: &mut [Chunk]) {
        for (index, (u, chunk)) in u.iter_mut().zip(chunks).enumerate() {
            let rows;
            (*u, rows) = self.chunk(index, u);
            chunk.rows[4 * tree..4 * tree + 4].copy_from_slice(&rows);
        }
    }
}

/// Portable twin of the transposition kernels: bit i of block k is bit k of row i.
pub(crate) fn portable_transpose(chunk: &Chunk, blocks: &mut [u128; CHUNK]) {
    let mut bytes = [[0_u8; 16]; CHUNK];
    for (group, rows) in chunk.rows.chunks_exact(8).enumerate() {
        let rows: [[u8; ROW_LEN]; 8] = std::array::from_fn(|r| row_bytes(&rows[r]));
        for column in 0..ROW_LEN {
            let square =
                transpose_8x8(u64::from_le_bytes(std::array::from_fn(|r| rows[r][column])));
            for (k, byte) in square.to_le_bytes().into_iter().enumerate() {
                bytes[8 * column + k][group] = byte;
            }
        }
    }
    for (block, bytes) in blocks.iter_mut().zip(&bytes) {
        *block = u128::from_le_bytes(*bytes);
    }
    bytes.as_flattened_mut().zeroize();
}

/// Transposes the 8 by 8 bits whose row r is byte r (three swaps of off-diagonal halves).
fn transpose_8x8(mut square: u64) -> u64 {
    for (shift, mask) in [
        (7, 0x00aa_00aa_00aa_00aa),
        (14, 0x0000_cccc_0000_cccc),
        (28, 0x0000_0000_f0f0_f0f0),
    ] {
        let swap = (square ^ (square >> shift)) & mask;
        square ^= swap ^ (swap << shift);
    }
    square
}

/// Little-endian bytes of a row, as on the wire.
pub(crate) fn row_bytes(row: &Row) -> [u8; ROW_LEN] {
    let mut bytes = [0; ROW_LEN];
    bytes[..16].copy_from_slice(&row[0].to_le_bytes());
    bytes[16..].copy_from_slice(&row[1].to_le_bytes());
    bytes
}

/// Inverse of [`row_bytes`].
pub(crate) fn row_from_bytes(bytes: &[u8; ROW_LEN]) -> Row {
    let mut row = [0; 2];
    for (word, bytes) in row.iter_mut().zip(bytes.chunks_exact(16)) {
        let mut block = [0; 16];
        block.copy_from_slice(bytes);
        *word = u128::from_le_bytes(block);
    }
    row
}

/// Elements of a chunk, one per byte, from their rows (`out` may be shorter than a chunk).
pub(crate) fn elements<const PLANES: usize>(rows: &[Row; PLANES], out: &mut [u8]) {
    let bytes = rows.map(|row| row_bytes(&row));
    for (column, out) in out.chunks_mut(8).enumerate() {
        let mut eight = 0_u64;
        for (plane, bytes) in bytes.iter().enumerate() {
            eight |= spread(bytes[column]) << plane;
        }
        out.copy_from_slice(&eight.to_le_bytes()[..out.len()]);
    }
}

/// Byte k of the result is bit k of `byte`.
#[inline(always)]
fn spread(byte: u8) -> u64 {
    let copies = (u64::from(byte) * 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
    ((copies + 0x7f7f_7f7f_7f7f_7f7f) >> 7) & 0x0101_0101_0101_0101
}

#[cfg(test)]
mod tests;
