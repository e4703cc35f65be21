//! Vectors of small words as message bodies, split so that no message exceeds [`MAX_BODY`].
//!
//! Both parties know every length from the program, so a body has no header: words of 1 to 32 bits,
//! little-endian, lowest bits first.

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

/// Sends bytes that are 0 or 1 as bits.
///
/// # Errors
/// Those of the channel.
pub fn send_bits(ch: &mut dyn Channel, kind: Kind, bits: &[u8]) -> Result<(), ProtocolError> {
    for bits in bits.chunks(WORDS) {
        let body: Vec<u8> = bits
            .chunks(8)
            .map(|bits| {
                let mut eight = [0; 8];
                eight[..bits.len()].copy_from_slice(bits);
                (u64::from_le_bytes(eight).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
            })
            .collect();
        ch.send(kind, &body)?;
    }
    Ok(())
}

/// Receives bits as bytes that are 0 or 1.
///
/// # Errors
/// Those of the channel.
pub fn recv_bits(ch: &mut dyn Channel, kind: Kind, bits: &mut [u8]) -> Result<(), ProtocolError> {
    let mut body = Vec::new();
    for bits in bits.chunks_mut(WORDS) {
        ch.recv(kind, bits.len().div_ceil(8), &mut body)?;
        for (bits, &byte) in bits.chunks_mut(8).zip(&body) {
            for (position, bit) in bits.iter_mut().enumerate() {
                *bit = byte >> position & 1;
            }
        }
    }
    Ok(())
}

/// Sends bytes below 16 as nibbles.
///
/// # Errors
/// Those of the channel.
pub fn send_nibbles(ch: &mut dyn Channel, kind: Kind, nibbles: &[u8]) -> Result<(), ProtocolError> {
    for nibbles in nibbles.chunks(WORDS) {
        let body: Vec<u8> = nibbles
            .chunks(2)
            .map(|pair| pair[0] | pair.get(1).copied().unwrap_or(0) << 4)
            .collect();
        ch.send(kind, &body)?;
    }
    Ok(())
}

/// Receives nibbles as bytes below 16.
///
/// # Errors
/// Those of the channel.
pub fn recv_nibbles(
    ch: &mut dyn Channel,
    kind: Kind,
    nibbles: &mut [u8],
) -> Result<(), ProtocolError> {
    let mut body = Vec::new();
    for nibbles in nibbles.chunks_mut(WORDS) {
        ch.recv(kind, nibbles.len().div_ceil(2), &mut body)?;
        for (pair, &byte) in nibbles.chunks_mut(2).zip(&body) {
            pair[0] = byte & 15;
            if let Some(second) = pair.get_mut(1) {
                *second = byte >> 4;
            }
        }
    }
    Ok(())
}

fn table_mask(entries: u32) -> u16 {
    u16::MAX >> (16 - entries)
}

/// Sends tables of `entries` bits (a power of two up to 16).
///
/// # Errors
/// Those of the channel.
pub fn send_tables(
    ch: &mut dyn Channel,
    kind: Kind,
    tables: &[u16],
    entries: u32,
) -> Result<(), ProtocolError> {
    let per_byte = 8usize.checked_div(entries as usize).unwrap_or(0);
    let mask = table_mask(entries);
    for tables in tables.chunks(WORDS) {
        let body: Vec<u8> = if per_byte == 0 {
            tables
                .iter()
                .flat_map(|table| table.to_le_bytes())
                .collect()
        } else {
            tables
                .chunks(per_byte)
                .map(|group| {
                    group.iter().enumerate().fold(0u16, |byte, (i, &t)| {
                        byte | (t & mask) << (i as u32 * entries)
                    }) as u8
                })
                .collect()
        };
        ch.send(kind, &body)?;
    }
    Ok(())
}

/// Receives tables of `entries` bits (a power of two up to 16).
///
/// # Errors
/// Those of the channel.
pub fn recv_tables(
    ch: &mut dyn Channel,
    kind: Kind,
    tables: &mut [u16],
    entries: u32,
) -> Result<(), ProtocolError> {
    let per_byte = 8usize.checked_div(entries as usize).unwrap_or(0);
    let mut body = Vec::new();
    for tables in tables.chunks_mut(WORDS) {
        if per_byte == 0 {
            ch.recv(kind, 2 * tables.len(), &mut body)?;
            for (table, bytes) in tables.iter_mut().zip(body.chunks_exact(2)) {
                *table = u16::from_le_bytes([bytes[0], bytes[1]]);
            }
        } else {
            ch.recv(kind, tables.len().div_ceil(per_byte), &mut body)?;
            let mask = table_mask(entries);
            for (group, &byte) in tables.chunks_mut(per_byte).zip(&body) {
                for (i, table) in group.iter_mut().enumerate() {
                    *table = u16::from(byte >> (i as u32 * entries)) & mask;
                }
            }
        }
    }
    Ok(())
}
