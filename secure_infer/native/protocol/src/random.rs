//! Uniform words from a party's own generator.

use blindread_lattice::Prg;

/// Fills with words below 2^bits, where `mask` is 2^bits - 1.
pub fn words(prg: &mut Prg, mask: u32, out: &mut [u32]) {
    let mut bytes = [0u8; 1024];
    for out in out.chunks_mut(bytes.len() / 4) {
        prg.fill(&mut bytes[..4 * out.len()]);
        for (word, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) & mask;
        }
    }
    zeroize::Zeroize::zeroize(&mut bytes);
}
