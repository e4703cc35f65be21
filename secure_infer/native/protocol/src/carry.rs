//! The sign of a shared value by a masked carry chain of table look-ups.
//!
//! Reference: `SECURITY.md`, "Sign". Function: with y = y_H + y_D mod 2^ell, A and B the bits [m, k)
//! of the shares, n = k - m: D learns beta = b xor pi, H knows pi, b = \[y >= 0\].
//! Requires: |y| < 2^(k-1) - 2^m. Error: b may be wrong only where -2^(m-1) <= y < 2^(m-1), as often
//! as y is far from that range's other end: D adds 2^(m-1) to its share ([`centre`]), or the bits below
//! m, which the chain does not read, would turn small positive y into 0 alone.
//! Rounds: one per chunk. Bits online: for a chunk whose index has s bits, 4 to H and 2^s to D.
//! Security: semi-honest; D sees table entries masked by pads of a 1-of-16 OT and the entry that it
//! chose, masked by a fresh bit of H; H sees indices masked by the uniform omega.
//!
//! In chunk j, D holds its digit B_j and the carry masked by pi_j. H knows A_j, pi_j and a fresh
//! pi_(j+1), hence the table `T[B, chat] = [A_j + B + (chat xor pi_j) >= 2^c] xor pi_(j+1)`.
//! Everything here is word-parallel: one 16-bit word holds one table.

/// A part of the carry chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Lowest bit of the digit, counted from bit 0 of the share.
    pub low: u32,
    /// Bits of the digit.
    pub width: u32,
    /// Whether a masked carry comes in from a lower chunk.
    pub carry: bool,
}

impl Chunk {
    /// Bits of a table index: the digit and the masked carry.
    #[must_use]
    pub fn index_bits(self) -> u32 {
        self.width + u32::from(self.carry)
    }

    /// Entries of the table.
    #[must_use]
    pub fn entries(self) -> u32 {
        1 << self.index_bits()
    }
}

/// The chunks of a window [m, k): four bits first, then three at a time; the top bit is left over.
#[must_use]
pub fn chunks([low, high]: [u32; 2]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut at = low;
    while at + 1 < high {
        let carry = at > low;
        let width = (if carry { 3 } else { 4 }).min(high - 1 - at);
        chunks.push(Chunk {
            low: at,
            width,
            carry,
        });
        at += width;
    }
    chunks
}

/// What D adds to its share before it reads the bits of a window [m, k): half of what stays unread.
#[must_use]
pub fn centre([low, _]: [u32; 2]) -> u32 {
    (1 << low) >> 1
}

/// Bit `position` of every share.
#[inline(always)]
pub fn bits(shares: &[u32], position: u32, out: &mut [u8]) {
    for (bit, &y) in out.iter_mut().zip(shares) {
        *bit = (y >> position & 1) as u8;
    }
}

/// H, offline: the tables of one chunk for the shares `y`, the incoming and the outgoing masks.
///
/// With H's digit A, the digits B with A + B + carry >= 2^c are the highest A + carry of all 2^c: a row of ones that
/// a shift by A + carry moves into a word of 2^c zeros. A chunk with a carry has two such rows, which pi swaps.
#[inline(always)]
pub fn tables(chunk: Chunk, y: &[u32], pi_in: &[u8], pi_out: &[u8], out: &mut [u16]) {
    let n = out.len();
    let (y, pi_in, pi_out) = (&y[..n], &pi_in[..n], &pi_out[..n]);
    let (digit_mask, row) = ((1 << chunk.width) - 1, 1 << chunk.width);
    let zeros = (1u32 << row) - 1;
    let entries = u16::MAX >> (16 - chunk.entries());
    for i in 0..n {
        let (digit, pi) = (y[i] >> chunk.low & digit_mask, u32::from(pi_in[i]));
        let ones = |carry: u32| (zeros << row) >> (digit + carry) & zeros;
        let table = if chunk.carry {
            ones(pi) | ones(pi ^ 1) << row
        } else {
            ones(0)
        };
        out[i] = table as u16 ^ (entries & 0u16.wrapping_sub(u16::from(pi_out[i])));
    }
}

/// H, online: `T[i] xor P[i xor delta]` for every entry i of every table.
#[inline(always)]
pub fn answer(tables: &[u16], pads: &[u16], delta: &[u8], out: &mut [u16]) {
    for (((answer, &table), &pad), &delta) in out.iter_mut().zip(tables).zip(pads).zip(delta) {
        let delta = u16::from(delta);
        let mut pad = pad;
        for (bit, (low, shift)) in [(0x5555, 1), (0x3333, 2), (0x0f0f, 4), (0x00ff, 8)]
            .into_iter()
            .enumerate()
        {
            let swapped = ((pad & low) << shift) | (pad >> shift & low);
            pad ^= (pad ^ swapped) & 0u16.wrapping_sub(delta >> bit & 1);
        }
        *answer = table ^ pad;
    }
}

/// D, online: the index into each table, from the digits of `y + centre` and the masked carries.
#[inline(always)]
pub fn indices(chunk: Chunk, y: &[u32], centre: u32, carry: &[u8], out: &mut [u8]) {
    let digit_mask = (1 << chunk.width) - 1;
    for ((index, &y), &carry) in out.iter_mut().zip(y).zip(carry) {
        *index = (y.wrapping_add(centre) >> chunk.low & digit_mask) as u8 | carry << chunk.width;
    }
}

/// D, online: the chosen entry of each answer, `picks` holding omega in four bits and its pad above.
#[inline(always)]
pub fn pick(answers: &[u16], indices: &[u8], picks: &[u8], carry: &mut [u8]) {
    for (((carry, &answer), &index), &pick) in carry.iter_mut().zip(answers).zip(indices).zip(picks)
    {
        *carry = (u32::from(answer) >> index & 1) as u8 ^ pick >> 4;
    }
}
