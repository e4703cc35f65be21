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
//! H keeps these three in five bits, and what the last chunk's byte has left is the choice of the party's multiplexer
//! OT. Everything here is word-parallel: one 16-bit word holds one table.

use blindread_ring::Word;

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

/// The bit of a byte that is left over: H keeps pi in the code of the last chunk, D its choice in the last pick.
const SPARE: u32 = 7;

/// Either party, offline: adds the choice of its multiplexer OT to the last chunk's bytes.
#[inline(always)]
pub fn keep_choices(choices: &[u8], last: &mut [u8]) {
    for (byte, &choice) in last.iter_mut().zip(choices) {
        *byte |= choice << SPARE;
    }
}

/// Either party, online: the choices, in place; the rest is erased.
#[inline(always)]
pub fn leave_choices(last: &mut [u8]) {
    for byte in last {
        *byte >>= SPARE;
    }
}

/// H, offline: of one chunk, what its tables follow from. A code is a digit of `y`, the incoming mask above it where
/// the chunk has a carry, and above that the outgoing mask.
#[inline(always)]
pub fn codes(chunk: Chunk, y: &[u32], pi_in: &[u8], pi_out: &[u8], out: &mut [u8]) {
    let n = out.len();
    let (y, pi_in, pi_out) = (&y[..n], &pi_in[..n], &pi_out[..n]);
    let digit_mask = (1 << chunk.width) - 1;
    for i in 0..n {
        let digit = (y[i] >> chunk.low & digit_mask) as u8;
        let above = if chunk.carry { pi_in[i] } else { 0 };
        out[i] = digit | above << chunk.width | pi_out[i] << chunk.index_bits();
    }
}

/// The table of a code.
///
/// With H's digit A, the digits B with A + B + carry >= 2^c are the highest A + carry of all 2^c: a row that begins with
/// zeros, which are 2^c ones shifted by A + carry and inverted. A chunk with a carry has two such rows, which pi swaps.
#[inline(always)]
fn table(chunk: Chunk, code: u8) -> u16 {
    let code = u16::from(code);
    let (digit, row) = (code & ((1 << chunk.width) - 1), 1 << chunk.width);
    let ones = u16::MAX >> (16 - row);
    let zeros = if chunk.carry {
        let carry = code >> chunk.width & 1;
        ones >> (digit + carry) | (ones >> (digit + (carry ^ 1))) << row
    } else {
        ones >> digit
    };
    let entries = u16::MAX >> (16 - chunk.entries());
    let pi = code >> chunk.index_bits() & 1;
    (zeros ^ pi.wrapping_sub(1)) & entries
}

/// H, online: `T[i] xor P[i xor delta]` for every entry i of every table T.
#[inline(always)]
pub fn answer(chunk: Chunk, codes: &[u8], pads: &[u16], delta: &[u8], out: &mut [u16]) {
    for (((answer, &code), &pad), &delta) in out.iter_mut().zip(codes).zip(pads).zip(delta) {
        let delta = u16::from(delta);
        let mut pad = pad;
        for (bit, (low, shift)) in [(0x5555, 1), (0x3333, 2), (0x0f0f, 4), (0x00ff, 8)]
            .into_iter()
            .enumerate()
        {
            let swapped = ((pad & low) << shift) | (pad >> shift & low);
            pad ^= (pad ^ swapped) & 0u16.wrapping_sub(delta >> bit & 1);
        }
        *answer = table(chunk, code) ^ pad;
    }
}

/// D, online: the masked indices for H, from the digits of `y + centre` and the masked carries. `picks` hold omega in
/// four bits and its pad in the next one; afterwards the index instead of omega.
#[inline(always)]
pub fn ask<Y: Word>(
    chunk: Chunk,
    y: &[Y],
    centre: u32,
    carry: &[u8],
    picks: &mut [u8],
    delta: &mut [u8],
) {
    let (digit_mask, centre) = ((1 << chunk.width) - 1, Y::of(centre));
    for (((pick, delta), &y), &carry) in picks.iter_mut().zip(delta).zip(y).zip(carry) {
        let digit = y.plus(centre).byte(chunk.low) & digit_mask;
        *delta = (digit | carry << chunk.width) ^ *pick & 15;
        *pick ^= *delta;
    }
}

/// D, online: the entry of each answer that was [asked](ask) for.
#[inline(always)]
pub fn pick(answers: &[u16], picks: &[u8], carry: &mut [u8]) {
    for ((carry, &answer), &pick) in carry.iter_mut().zip(answers).zip(picks) {
        *carry = (u32::from(answer) >> (pick & 15)) as u8 & 1 ^ pick >> 4 & 1;
    }
}
