//! Vectors of small words as message bodies.
//!
//! Both parties know every length from the program, so a body has no header: words of 1 to 32 bits,
//! little-endian, lowest bits first. Long vectors are split so that no message exceeds [`MAX_BODY`]; `put` and `get` are
//! for lanes, which are never so long, and which several threads may pack at the same time, block by block: whole bytes
//! as long as the number of words is a multiple of 8.

use blindread_ring::{Word, pack, packed_len, unpack, widened};

use crate::channel::{Channel, Kind, MAX_BODY};
use crate::error::ProtocolError;

/// Words of one message: what fits into [`MAX_BODY`] at 32 bits, a multiple of 8.
const WORDS: usize = MAX_BODY / 4;

/// Sends words of `bits` bits.
///
/// # Errors
/// Those of the channel.
pub fn send_words<W: Word>(
    ch: &mut dyn Channel,
    kind: Kind,
    words: &[W],
    bits: u32,
) -> Result<(), ProtocolError> {
    let mut body = Vec::new();
    for words in words.chunks(WORDS) {
        body.clear();
        pack(words, bits, &mut body);
        ch.send(kind, &body)?;
    }
    Ok(())
}

/// Receives words of `bits` bits.
///
/// # Errors
/// Those of the channel.
pub fn recv_words<W: Word>(
    ch: &mut dyn Channel,
    kind: Kind,
    words: &mut [W],
    bits: u32,
) -> Result<(), ProtocolError> {
    let mut body = Vec::new();
    for words in words.chunks_mut(WORDS) {
        ch.recv(kind, packed_len(words.len(), bits), &mut body)?;
        get_words(&body, bits, words)?;
    }
    Ok(())
}

/// Appends words of `bits` bits.
#[inline(always)]
pub fn put_words<W: Word>(words: &[W], bits: u32, body: &mut Vec<u8>) {
    pack(words, bits, body);
}

/// Words of `bits` bits.
///
/// # Errors
/// [`ProtocolError::Message`] when the body has another length.
#[inline(always)]
pub fn get_words<W: Word>(body: &[u8], bits: u32, words: &mut [W]) -> Result<(), ProtocolError> {
    unpack(body, bits, words).map_err(|e| ProtocolError::Message(e.to_string()))
}

/// Bytes of `n` words of `bits` bits.
pub fn words_len(n: usize, bits: u32) -> usize {
    packed_len(n, bits)
}

/// Appends bytes that are 0 or 1, as bits.
#[inline(always)]
pub fn put_bits(bits: &[u8], body: &mut Vec<u8>) {
    let (eights, rest) = bits.as_chunks::<8>();
    let byte = |eight: [u8; 8]| {
        (u64::from_le_bytes(eight).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
    };
    body.extend(eights.iter().map(|&eight| byte(eight)));
    if !rest.is_empty() {
        let mut eight = [0; 8];
        eight[..rest.len()].copy_from_slice(rest);
        body.push(byte(eight));
    }
}

/// Bits as bytes that are 0 or 1.
#[inline(always)]
pub fn get_bits(body: &[u8], bits: &mut [u8]) {
    // every byte keeps a bit of its own, which a carry moves to the top
    let spread = |byte: u8| {
        let kept = (u64::from(byte) * 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
        ((kept + 0x7f7f_7f7f_7f7f_7f7f) >> 7 & 0x0101_0101_0101_0101).to_le_bytes()
    };
    let (eights, rest) = bits.as_chunks_mut::<8>();
    for (eight, &byte) in eights.iter_mut().zip(body) {
        *eight = spread(byte);
    }
    if let Some(&byte) = body.get(eights.len()) {
        rest.copy_from_slice(&spread(byte)[..rest.len()]);
    }
}

/// Appends a block: bits, then words of `bits` bits.
#[inline(always)]
pub fn put_flagged<W: Word>(flags: &[u8], words: &[W], bits: u32, body: &mut Vec<u8>) {
    widened(
        #[inline(always)]
        || put_bits(flags, body),
    );
    put_words(words, bits, body);
}

/// A block: bits, then words of `bits` bits.
///
/// # Errors
/// [`ProtocolError::Message`] when the body has another length.
#[inline(always)]
pub fn get_flagged<W: Word>(
    body: &[u8],
    bits: u32,
    flags: &mut [u8],
    words: &mut [W],
) -> Result<(), ProtocolError> {
    let (packed, elements) = body.split_at(body.len().min(bits_len(flags.len())));
    get_words(elements, bits, words)?;
    widened(
        #[inline(always)]
        || get_bits(packed, flags),
    );
    Ok(())
}

/// Bytes of `n` bits, then words of `bits` bits, in blocks of whole bytes.
pub fn flagged_len(n: usize, bits: u32) -> usize {
    bits_len(n) + words_len(n, bits)
}

/// Bytes of `n` bits.
pub fn bits_len(n: usize) -> usize {
    n.div_ceil(8)
}

/// Appends bytes below 16, as nibbles.
#[inline(always)]
pub fn put_nibbles(nibbles: &[u8], body: &mut Vec<u8>) {
    let (pairs, rest) = nibbles.as_chunks::<2>();
    body.extend(pairs.iter().map(|&[low, high]| low | high << 4));
    body.extend(rest);
}

/// Nibbles as bytes below 16.
#[inline(always)]
pub fn get_nibbles(body: &[u8], nibbles: &mut [u8]) {
    let (pairs, rest) = nibbles.as_chunks_mut::<2>();
    for (pair, &byte) in pairs.iter_mut().zip(body) {
        *pair = [byte & 15, byte >> 4];
    }
    if let (Some(last), Some(&byte)) = (rest.first_mut(), body.get(pairs.len())) {
        *last = byte & 15;
    }
}

/// Bytes of `n` nibbles.
pub fn nibbles_len(n: usize) -> usize {
    n.div_ceil(2)
}

/// Tables in a byte; none where a table has two bytes.
fn per_byte(entries: u32) -> usize {
    8usize.checked_div(entries as usize).unwrap_or(0)
}

fn table_mask(entries: u32) -> u16 {
    u16::MAX >> (16 - entries)
}

/// Appends tables of `entries` bits (a power of two up to 16).
#[inline(always)]
pub fn put_tables(tables: &[u16], entries: u32, body: &mut Vec<u8>) {
    let (per_byte, mask) = (per_byte(entries), table_mask(entries));
    if per_byte == 0 {
        let start = body.len();
        body.resize(start + 2 * tables.len(), 0);
        let pairs = body[start..].as_chunks_mut().0;
        for (bytes, table) in pairs.iter_mut().zip(tables) {
            *bytes = table.to_le_bytes();
        }
    } else {
        body.extend(tables.chunks(per_byte).map(|group| {
            group.iter().enumerate().fold(0u16, |byte, (i, &t)| {
                byte | (t & mask) << (i as u32 * entries)
            }) as u8
        }));
    }
}

/// Tables of `entries` bits (a power of two up to 16).
#[inline(always)]
pub fn get_tables(body: &[u8], entries: u32, tables: &mut [u16]) {
    let (per_byte, mask) = (per_byte(entries), table_mask(entries));
    if per_byte == 0 {
        for (table, &bytes) in tables.iter_mut().zip(body.as_chunks().0) {
            *table = u16::from_le_bytes(bytes);
        }
    } else {
        for (group, &byte) in tables.chunks_mut(per_byte).zip(body) {
            for (i, table) in group.iter_mut().enumerate() {
                *table = u16::from(byte >> (i as u32 * entries)) & mask;
            }
        }
    }
}

/// Bytes of `n` tables of `entries` bits.
pub fn tables_len(n: usize, entries: u32) -> usize {
    match per_byte(entries) {
        0 => 2 * n,
        per_byte => n.div_ceil(per_byte),
    }
}
