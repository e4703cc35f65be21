//! The instruction of the convolution's inner loop, on registers alone.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::hint::black_box;

/// Sums in flight, enough of them to hide the latency of an instruction.
const WIDTH: usize = 12;

/// See [`crate::rates::multiply_adds`].
pub(crate) fn multiply_adds(count: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
            // 16 lanes, two products each, two digits.
            let passes = count.div_ceil(16 * WIDTH);
            // SAFETY: the features were just detected.
            unsafe { vnni(passes) };
            return passes * 16 * WIDTH;
        }
        if is_x86_feature_detected!("avx2") {
            let passes = count.div_ceil(8 * WIDTH);
            // SAFETY: the feature was just detected.
            unsafe { madd(passes) };
            return passes * 8 * WIDTH;
        }
    }
    let passes = count.div_ceil(WIDTH);
    let (word, weight) = black_box((3u32, 5u32));
    let mut sums = [0u32; WIDTH];
    for _ in 0..passes {
        for sum in &mut sums {
            *sum = sum.wrapping_add(word.wrapping_mul(weight));
        }
        sums = black_box(sums);
    }
    passes * WIDTH
}

/// `passes` times `WIDTH` instructions.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn vnni(passes: usize) {
    let (pixels, weights) = black_box((_mm512_set1_epi32(0x3_0005), _mm512_set1_epi32(0x7_0002)));
    let mut sums = [_mm512_setzero_si512(); WIDTH];
    for _ in 0..passes {
        for sum in &mut sums {
            *sum = _mm512_dpwssd_epi32(*sum, pixels, weights);
        }
    }
    black_box(sums);
}

/// `passes` times `WIDTH` products and their sums.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn madd(passes: usize) {
    let mut pixels = black_box([_mm256_set1_epi32(0x3_0005); 2]);
    let weights = black_box(_mm256_set1_epi32(0x7_0002));
    let mut sums = [_mm256_setzero_si256(); WIDTH];
    for _ in 0..passes {
        for (k, sum) in sums.iter_mut().enumerate() {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pixels[k & 1], weights));
        }
        // Otherwise one product would do for all passes.
        pixels[0] = _mm256_xor_si256(pixels[0], sums[0]);
        pixels[1] = _mm256_xor_si256(pixels[1], sums[1]);
    }
    black_box(sums);
}
