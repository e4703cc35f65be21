//! The inner loops of the convolution, for each instruction set, and the choice between them.

use std::sync::OnceLock;

use crate::kernel::{Block, Instructions, Offsets};

mod packing;
pub(crate) mod rates;

pub(crate) use packing::{Lane, pack, unpack};

/// Pixels that one pass of the inner loop computes.
pub(crate) fn pixels(instructions: Instructions) -> usize {
    match instructions {
        Instructions::Portable | Instructions::PortableDigits | Instructions::Avx2 => 16,
        Instructions::Avx512 | Instructions::Avx512Vnni => 32,
    }
}

/// Whether the kernel's operands are pairs of 16-bit digits.
pub(crate) fn takes_digits(instructions: Instructions) -> bool {
    matches!(
        instructions,
        Instructions::Avx512Vnni | Instructions::PortableDigits
    )
}

/// The set itself where the processor has it, otherwise plain Rust.
pub(crate) fn available(wanted: Instructions) -> Instructions {
    #[cfg(target_arch = "x86_64")]
    {
        let avx512 = || is_x86_feature_detected!("avx512f");
        let there = match wanted {
            Instructions::Portable | Instructions::PortableDigits => true,
            Instructions::Avx2 => is_x86_feature_detected!("avx2"),
            Instructions::Avx512 => avx512(),
            Instructions::Avx512Vnni => avx512() && is_x86_feature_detected!("avx512vnni"),
        };
        if there {
            return wanted;
        }
    }
    if wanted == Instructions::PortableDigits {
        wanted
    } else {
        Instructions::Portable
    }
}

/// Runs `work`, compiled once more for AVX2 and once for AVX-512, on the widest that the processor has (when it is
/// inlined, which matters for speed only: mark closures and what they call `#[inline(always)]`).
#[inline(always)]
pub fn widened<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    match vectors() {
        Vectors::Narrow => {}
        Vectors::Avx2 => {
            #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
            fn wide<T>(work: impl FnOnce() -> T) -> T {
                work()
            }
            // SAFETY: the processor has the instructions.
            return unsafe { wide(work) };
        }
        Vectors::Avx512 => {
            #[target_feature(
                enable = "avx2,bmi1,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vpopcntdq"
            )]
            fn wider<T>(work: impl FnOnce() -> T) -> T {
                work()
            }
            // SAFETY: the processor has the instructions.
            return unsafe { wider(work) };
        }
    }
    work()
}

/// What [`widened`] compiles for.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
enum Vectors {
    Narrow,
    Avx2,
    Avx512,
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> Vectors {
    static CHOICE: OnceLock<Vectors> = OnceLock::new();
    *CHOICE.get_or_init(|| {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("popcnt");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vpopcntdq");
        match (avx2, avx512) {
            (true, true) => Vectors::Avx512,
            (true, false) => Vectors::Avx2,
            _ => Vectors::Narrow,
        }
    })
}

/// The fastest set there; the 512-bit kernels must first agree with the portable one.
pub(crate) fn detect() -> Instructions {
    static CHOICE: OnceLock<Instructions> = OnceLock::new();
    *CHOICE.get_or_init(|| {
        let order = [
            Instructions::Avx512Vnni,
            Instructions::Avx512,
            Instructions::Avx2,
        ];
        order
            .into_iter()
            .find(|&set| available(set) == set && agrees(set))
            .unwrap_or(Instructions::Portable)
    })
}

/// Compares a kernel with the portable one on a fixed pseudo-random input, for every block size.
fn agrees(set: Instructions) -> bool {
    const ROWS: usize = 37;
    let (pixels, row, stride) = (64, 80, 96);
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let slab: Vec<u32> = (0..ROWS * 2 * row).map(|_| next()).collect();
    let offsets = (0..ROWS as u32).map(|k| k * 2 * row as u32 + k % 7);
    let offsets = Offsets::new(offsets.collect());
    (1..=crate::kernel::BLOCK).all(|block| {
        let panel: Vec<u32> = (0..ROWS * block).map(|_| next()).collect();
        let mut acc: Vec<u32> = (0..block * stride).map(|_| next()).collect();
        let mut expected = acc.clone();
        [true, false].into_iter().all(|first| {
            let operands = Block {
                slab: &slab,
                row,
                offsets: &offsets,
                rows: ROWS,
                panel: &panel,
                pixels,
                stride,
                first,
            };
            multiply(set, block, &operands, &mut acc);
            let twin = if takes_digits(set) {
                Instructions::PortableDigits
            } else {
                Instructions::Portable
            };
            multiply(twin, block, &operands, &mut expected);
            acc == expected
        })
    })
}

/// Asks for what lies behind a part of a vector, as much as the part, so that it is in the cache when its turn comes.
#[inline(always)]
pub fn prefetch_next<T>(part: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..size_of_val(part)).step_by(64) {
        let end: *const u8 = part.as_ptr_range().end.cast();
        // SAFETY: an instruction of every x86-64 processor; it does nothing where there is no memory.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(end.wrapping_add(at).cast()) };
    }
}

/// Asks for words that are needed soon, so that they are in the cache by then.
#[inline]
pub(crate) fn prefetch(words: &[u32]) {
    #[cfg(target_arch = "x86_64")]
    for line in words.chunks(crate::kernel::LINE) {
        // SAFETY: an instruction of every x86-64 processor, which only reads what a reference points to.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
}

/// Adds (or sets) the products of one block of `outputs` (1 to 6) channels; see [`Block`].
pub(crate) fn multiply(set: Instructions, outputs: usize, block: &Block<'_>, acc: &mut [u32]) {
    let reach = block.offsets.largest() + if takes_digits(set) { block.row } else { 0 };
    assert!(block.pixels.is_multiple_of(pixels(set)) && reach + block.pixels <= block.slab.len());
    assert!(
        block.rows <= block.offsets.starts().len() && block.rows * outputs <= block.panel.len()
    );
    assert!(outputs > 0 && (outputs - 1) * block.stride + block.pixels <= acc.len());
    macro_rules! with_outputs {
        ($call:ident) => {
            match outputs {
                1 => $call::<1>(block, acc),
                2 => $call::<2>(block, acc),
                3 => $call::<3>(block, acc),
                4 => $call::<4>(block, acc),
                5 => $call::<5>(block, acc),
                6 => $call::<6>(block, acc),
                _ => {}
            }
        };
    }
    #[cfg(target_arch = "x86_64")]
    if set == available(set) {
        match set {
            Instructions::Portable => with_outputs!(words_portable),
            Instructions::PortableDigits => digits_portable(outputs, block, acc),
            // SAFETY: `available` has found the instructions; the asserts above say that all of
            // slab[offset..][..pixels] (and the high-digit row behind it), panel[..rows * outputs] and
            // acc[o * stride..][..pixels] exist and that the pixels are a whole number of vector blocks.
            Instructions::Avx2 => unsafe { with_outputs!(words_avx2) },
            // SAFETY: as above.
            Instructions::Avx512 => unsafe { with_outputs!(words_avx512) },
            // SAFETY: as above.
            Instructions::Avx512Vnni => unsafe { with_outputs!(digits_avx512) },
        }
        return;
    }
    if takes_digits(set) {
        digits_portable(outputs, block, acc);
    } else {
        with_outputs!(words_portable);
    }
}

fn words_portable<const O: usize>(block: &Block<'_>, acc: &mut [u32]) {
    for x in (0..block.pixels).step_by(16) {
        let mut sums = [[0u32; 16]; O];
        if !block.first {
            for (o, sums) in sums.iter_mut().enumerate() {
                sums.copy_from_slice(&acc[o * block.stride + x..][..16]);
            }
        }
        for (&offset, weights) in block.offsets.starts()[..block.rows]
            .iter()
            .zip(block.panel.chunks_exact(O))
        {
            let pixels = &block.slab[offset as usize + x..][..16];
            for (sums, &weight) in sums.iter_mut().zip(weights) {
                for (sum, &pixel) in sums.iter_mut().zip(pixels) {
                    *sum = sum.wrapping_add(weight.wrapping_mul(pixel));
                }
            }
        }
        for (o, sums) in sums.iter().enumerate() {
            acc[o * block.stride + x..][..16].copy_from_slice(sums);
        }
    }
}

/// The portable twin of the digit kernel.
fn digits_portable(outputs: usize, block: &Block<'_>, acc: &mut [u32]) {
    let dot = |a: u32, b: u32| {
        let half = |word: u32| (i32::from(word as i16), i32::from((word >> 16) as i16));
        let ((a0, a1), (b0, b1)) = (half(a), half(b));
        a0.wrapping_mul(b0).wrapping_add(a1.wrapping_mul(b1)) as u32
    };
    for o in 0..outputs {
        for x in 0..block.pixels {
            let mut sum = if block.first {
                0
            } else {
                acc[o * block.stride + x]
            };
            for (k, &offset) in block.offsets.starts()[..block.rows].iter().enumerate() {
                let (at, weight) = (offset as usize + x, block.panel[k * outputs + o]);
                sum = sum.wrapping_add(dot(block.slab[at], weight));
                sum = sum.wrapping_add(dot(block.slab[at + block.row], weight) << 16);
            }
            acc[o * block.stride + x] = sum;
        }
    }
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// # Safety
/// The asserts of [`multiply`] hold.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn words_avx2<const O: usize>(block: &Block<'_>, acc: &mut [u32]) {
    let (slab, panel, acc) = (block.slab.as_ptr(), block.panel.as_ptr(), acc.as_mut_ptr());
    for x in (0..block.pixels).step_by(16) {
        let mut sums = [[_mm256_setzero_si256(); 2]; O];
        if !block.first {
            for (o, sums) in sums.iter_mut().enumerate() {
                // SAFETY: o < O and x + 16 <= pixels, so both loads end within acc[o * stride..][..pixels].
                unsafe {
                    let at = acc.add(o * block.stride + x).cast::<__m256i>();
                    *sums = [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))];
                }
            }
        }
        for (k, &offset) in block.offsets.starts()[..block.rows].iter().enumerate() {
            // SAFETY: offset + pixels <= slab.len() and x + 16 <= pixels.
            let pixels = unsafe {
                let at = slab.add(offset as usize + x).cast::<__m256i>();
                [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))]
            };
            for (o, sums) in sums.iter_mut().enumerate() {
                // SAFETY: k < rows and o < O, the panel has rows * O words.
                let weight = _mm256_set1_epi32(unsafe { *panel.add(k * O + o) } as i32);
                sums[0] = _mm256_add_epi32(sums[0], _mm256_mullo_epi32(pixels[0], weight));
                sums[1] = _mm256_add_epi32(sums[1], _mm256_mullo_epi32(pixels[1], weight));
            }
        }
        for (o, sums) in sums.iter().enumerate() {
            // SAFETY: as for the loads.
            unsafe {
                let at = acc.add(o * block.stride + x).cast::<__m256i>();
                _mm256_storeu_si256(at, sums[0]);
                _mm256_storeu_si256(at.add(1), sums[1]);
            }
        }
    }
}

/// # Safety
/// The asserts of [`multiply`] hold.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn words_avx512<const O: usize>(block: &Block<'_>, acc: &mut [u32]) {
    let (slab, panel, acc) = (block.slab.as_ptr(), block.panel.as_ptr(), acc.as_mut_ptr());
    for x in (0..block.pixels).step_by(32) {
        let mut sums = [[_mm512_setzero_si512(); 2]; O];
        if !block.first {
            for (o, sums) in sums.iter_mut().enumerate() {
                // SAFETY: o < O and x + 32 <= pixels, so both loads end within acc[o * stride..][..pixels].
                unsafe {
                    let at = acc.add(o * block.stride + x).cast::<i32>();
                    *sums = [_mm512_loadu_epi32(at), _mm512_loadu_epi32(at.add(16))];
                }
            }
        }
        for (k, &offset) in block.offsets.starts()[..block.rows].iter().enumerate() {
            // SAFETY: offset + pixels <= slab.len() and x + 32 <= pixels.
            let pixels = unsafe {
                let at = slab.add(offset as usize + x).cast::<i32>();
                [_mm512_loadu_epi32(at), _mm512_loadu_epi32(at.add(16))]
            };
            for (o, sums) in sums.iter_mut().enumerate() {
                // SAFETY: k < rows and o < O, the panel has rows * O words.
                let weight = _mm512_set1_epi32(unsafe { *panel.add(k * O + o) } as i32);
                sums[0] = _mm512_add_epi32(sums[0], _mm512_mullo_epi32(pixels[0], weight));
                sums[1] = _mm512_add_epi32(sums[1], _mm512_mullo_epi32(pixels[1], weight));
            }
        }
        for (o, sums) in sums.iter().enumerate() {
            // SAFETY: as for the loads.
            unsafe {
                let at = acc.add(o * block.stride + x).cast::<i32>();
                _mm512_storeu_epi32(at, sums[0]);
                _mm512_storeu_epi32(at.add(16), sums[1]);
            }
        }
    }
}

/// # Safety
/// The asserts of [`multiply`] hold, with the high-digit row `block.row` words behind the low one.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn digits_avx512<const O: usize>(block: &Block<'_>, acc: &mut [u32]) {
    let (slab, panel, acc) = (block.slab.as_ptr(), block.panel.as_ptr(), acc.as_mut_ptr());
    for x in (0..block.pixels).step_by(32) {
        let mut low = [[_mm512_setzero_si512(); 2]; O];
        let mut high = low;
        for (k, &offset) in block.offsets.starts()[..block.rows].iter().enumerate() {
            // SAFETY: offset + row + pixels <= slab.len() and x + 32 <= pixels.
            let (lows, highs) = unsafe {
                let at = slab.add(offset as usize + x).cast::<i32>();
                let next = at.add(block.row);
                (
                    [_mm512_loadu_epi32(at), _mm512_loadu_epi32(at.add(16))],
                    [_mm512_loadu_epi32(next), _mm512_loadu_epi32(next.add(16))],
                )
            };
            for (o, (low, high)) in low.iter_mut().zip(&mut high).enumerate() {
                // SAFETY: k < rows and o < O, the panel has rows * O words.
                let weight = _mm512_set1_epi32(unsafe { *panel.add(k * O + o) } as i32);
                for i in 0..2 {
                    low[i] = _mm512_dpwssd_epi32(low[i], lows[i], weight);
                    high[i] = _mm512_dpwssd_epi32(high[i], highs[i], weight);
                }
            }
        }
        for (o, (low, high)) in low.iter().zip(&high).enumerate() {
            for i in 0..2 {
                let sum = _mm512_add_epi32(low[i], _mm512_slli_epi32::<16>(high[i]));
                // SAFETY: o < O and x + 32 <= pixels, so load and store end within acc[o * stride..][..pixels].
                unsafe {
                    let at = acc.add(o * block.stride + x + 16 * i).cast::<i32>();
                    let before = if block.first {
                        _mm512_setzero_si512()
                    } else {
                        _mm512_loadu_epi32(at)
                    };
                    _mm512_storeu_epi32(at, _mm512_add_epi32(before, sum));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_there_agree_with_their_portable_twins() {
        use Instructions::{Avx2, Avx512, Avx512Vnni, Portable, PortableDigits};
        for set in [Portable, PortableDigits, Avx2, Avx512, Avx512Vnni] {
            assert!(available(set) != set || agrees(set), "{set:?}");
        }
    }

    #[test]
    fn digits_and_words_give_different_sums_so_that_agreement_means_something() {
        let offsets = Offsets::new(vec![0]);
        let operands = |first| Block {
            slab: &[3 << 16 | 5; 64],
            row: 32,
            offsets: &offsets,
            rows: 1,
            panel: &[2 << 16 | 7],
            pixels: 16,
            stride: 16,
            first,
        };
        let (mut digits, mut words) = ([1; 16], [1; 16]);
        multiply(
            Instructions::PortableDigits,
            1,
            &operands(false),
            &mut digits,
        );
        multiply(Instructions::Portable, 1, &operands(false), &mut words);
        assert_eq!(digits, [1 + (5 * 7 + 3 * 2) * 0x1_0001; 16]);
        assert_eq!(words, [1 + 31 * 0x1_0000 + 35; 16]);
        multiply(
            Instructions::PortableDigits,
            1,
            &operands(true),
            &mut digits,
        );
        assert_eq!(digits, [41 * 0x1_0001; 16]);
    }
}
