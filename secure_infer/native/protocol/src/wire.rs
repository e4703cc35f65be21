//! Vectors of small words as message bodies.
//!
//! Both parties know every length from the program, so a body has no header: words of 1 to 32 bits,
//! little-endian, lowest bits first. Long vectors are split so that no message exceeds [`MAX_BODY`]; `put` and `get` are
//! for lanes, which are never so long, and which several threads may pack at the same time.

use blindread_ring::{pack, packed_len, unpack};

use crate::channel::{Channel, Kind, MAX_BODY};
use crate::error::ProtocolError;

/// Words of one message: what fits into [`MAX_BODY`] at 32 bits, a multiple of 8.
const WORDS: usize = MAX_BODY / 4;

/// Sends words of `bits` bits.
///
/// # Errors
/// Those of the channel.
pub fn send_words(
    ch: &mut dyn Channel,
    kind: Kind,
    words: &[u32],
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
pub fn recv_words(
    ch: &mut dyn Channel,
    kind: Kind,
    words: &mut [u32],
    bits: u32,
) -> Result<(), ProtocolError> {
    let mut body = Vec::new();
    for words in words.chunks_mut(WORDS) {
        ch.recv(kind, packed_len(words.len(), bits), &mut body)?;
        unpack(&body, bits, words).map_err(|e| ProtocolError::Message(e.to_string()))?;
    }
    Ok(())
}

/// Replaces a body by words of `bits` bits.
pub fn put_words(words: &[u32], bits: u32, body: &mut Vec<u8>) {
    body.clear();
    pack(words, bits, body);
}

/// Words of `bits` bits.
///
/// # Errors
/// [`ProtocolError::Message`] when the body has another length.
pub fn get_words(body: &[u8], bits: u32, words: &mut [u32]) -> Result<(), ProtocolError> {
    unpack(body, bits, words).map_err(|e| ProtocolError::Message(e.to_string()))
}

/// Bytes of `n` words of `bits` bits.
pub fn words_len(n: usize, bits: u32) -> usize {
    packed_len(n, bits)
}

/// Replaces a body by bytes that are 0 or 1, as bits.
pub fn put_bits(bits: &[u8], body: &mut Vec<u8>) {
    body.clear();
    body.extend(bits.chunks(8).map(|bits| {
        let mut eight = [0; 8];
        eight[..bits.len()].copy_from_slice(bits);
        (u64::from_le_bytes(eight).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
    }));
}

/// Bits as bytes that are 0 or 1.
pub fn get_bits(body: &[u8], bits: &mut [u8]) {
    for (bits, &byte) in bits.chunks_mut(8).zip(body) {
        for (position, bit) in bits.iter_mut().enumerate() {
            *bit = byte >> position & 1;
        }
    }
}

/// Bytes of `n` bits.
pub fn bits_len(n: usize) -> usize {
    n.div_ceil(8)
}

/// Replaces a body by bytes below 16, as nibbles.
pub fn put_nibbles(nibbles: &[u8], body: &mut Vec<u8>) {
    body.clear();
    body.extend(
        nibbles
            .chunks(2)
            .map(|pair| pair[0] | pair.get(1).copied().unwrap_or(0) << 4),
    );
}

/// Nibbles as bytes below 16.
pub fn get_nibbles(body: &[u8], nibbles: &mut [u8]) {
    for (pair, &byte) in nibbles.chunks_mut(2).zip(body) {
        pair[0] = byte & 15;
        if let Some(second) = pair.get_mut(1) {
            *second = byte >> 4;
        }
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

/// Replaces a body by tables of `entries` bits (a power of two up to 16).
pub fn put_tables(tables: &[u16], entries: u32, body: &mut Vec<u8>) {
    body.clear();
    let (per_byte, mask) = (per_byte(entries), table_mask(entries));
    if per_byte == 0 {
        body.extend(tables.iter().flat_map(|table| table.to_le_bytes()));
    } else {
        body.extend(tables.chunks(per_byte).map(|group| {
            group.iter().enumerate().fold(0u16, |byte, (i, &t)| {
                byte | (t & mask) << (i as u32 * entries)
            }) as u8
        }));
    }
}

/// Tables of `entries` bits (a power of two up to 16).
pub fn get_tables(body: &[u8], entries: u32, tables: &mut [u16]) {
    let (per_byte, mask) = (per_byte(entries), table_mask(entries));
    if per_byte == 0 {
        for (table, bytes) in tables.iter_mut().zip(body.chunks_exact(2)) {
            *table = u16::from_le_bytes([bytes[0], bytes[1]]);
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
