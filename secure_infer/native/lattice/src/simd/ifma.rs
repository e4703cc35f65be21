//! Transforms with 52-bit integer products (AVX-512 IFMA), after Harvey: values stay below 4q < 2^52.
//!
//! Written once over [`Lanes`], eight words; the tests run it on plain words as well, so that only the
//! instructions themselves are left to the check at first use.

use std::arch::x86_64::*;
use std::sync::OnceLock;

use crate::ntt::{inverse_n, inverse_root, roots};
use crate::params::{N, Q, ROOT};

const MASK: u64 = (1 << 52) - 1;

/// Eight words.
trait Lanes: Copy {
    fn splat(word: u64) -> Self;
    /// # Safety
    /// Eight words can be read at `at`.
    unsafe fn load(at: *const u64) -> Self;
    /// # Safety
    /// Eight words can be written at `at`.
    unsafe fn store(self, at: *mut u64);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
    fn and(self, other: Self) -> Self;
    /// Plus the low 52 bits of the product of the low 52 bits of a and b.
    fn add_low(self, a: Self, b: Self) -> Self;
    /// Plus the high 52 bits of the product of the low 52 bits of a and b.
    fn add_high(self, a: Self, b: Self) -> Self;
    fn transpose(rows: [Self; 8]) -> [Self; 8];
}

/// Eight lanes of a register. Only used inside functions compiled for AVX-512 IFMA, which is what makes every block
/// below safe but for the pointers.
impl Lanes for __m512i {
    #[inline(always)]
    fn splat(word: u64) -> Self {
        // SAFETY: see the impl.
        unsafe { _mm512_set1_epi64(word as i64) }
    }
    #[inline(always)]
    unsafe fn load(at: *const u64) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_epi64(at.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut u64) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_epi64(at.cast(), self) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { _mm512_add_epi64(self, other) }
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { _mm512_sub_epi64(self, other) }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { _mm512_min_epu64(self, other) }
    }
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { _mm512_and_si512(self, other) }
    }
    #[inline(always)]
    fn add_low(self, a: Self, b: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { _mm512_madd52lo_epu64(self, a, b) }
    }
    #[inline(always)]
    fn add_high(self, a: Self, b: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { _mm512_madd52hi_epu64(self, a, b) }
    }
    #[inline(always)]
    fn transpose(r: [Self; 8]) -> [Self; 8] {
        // SAFETY: see the impl.
        unsafe {
            // pairs of rows: even columns, odd columns
            let even = [
                _mm512_unpacklo_epi64(r[0], r[1]),
                _mm512_unpacklo_epi64(r[2], r[3]),
                _mm512_unpacklo_epi64(r[4], r[5]),
                _mm512_unpacklo_epi64(r[6], r[7]),
            ];
            let odd = [
                _mm512_unpackhi_epi64(r[0], r[1]),
                _mm512_unpackhi_epi64(r[2], r[3]),
                _mm512_unpackhi_epi64(r[4], r[5]),
                _mm512_unpackhi_epi64(r[6], r[7]),
            ];
            let ([c0, c2, c4, c6], [c1, c3, c5, c7]) = (quarters(even), quarters(odd));
            [c0, c1, c2, c3, c4, c5, c6, c7]
        }
    }
}

/// 128-bit pieces: columns c, c + 2, c + 4, c + 6 of four pairs of rows.
///
/// # Safety
/// The processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn quarters(p: [__m512i; 4]) -> [__m512i; 4] {
    let a = _mm512_shuffle_i64x2::<0x44>(p[0], p[1]); // c, c+2 of rows 0-1 and 2-3
    let b = _mm512_shuffle_i64x2::<0xee>(p[0], p[1]);
    let c = _mm512_shuffle_i64x2::<0x44>(p[2], p[3]);
    let d = _mm512_shuffle_i64x2::<0xee>(p[2], p[3]);
    [
        _mm512_shuffle_i64x2::<0x88>(a, c),
        _mm512_shuffle_i64x2::<0xdd>(a, c),
        _mm512_shuffle_i64x2::<0x88>(b, d),
        _mm512_shuffle_i64x2::<0xdd>(b, d),
    ]
}

/// A root, and floor(root * 2^52 / q).
#[derive(Clone, Copy)]
struct Root([u64; 2]);

/// Eight roots, and their quotients, on whole cache lines.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Roots([[u64; 8]; 2]);

impl Root {
    fn new(root: u64) -> Self {
        Self([root, ((u128::from(root) << 52) / u128::from(Q)) as u64])
    }

    #[inline(always)]
    fn splat<L: Lanes>(self) -> [L; 2] {
        [L::splat(self.0[0]), L::splat(self.0[1])]
    }
}

impl Roots {
    #[inline(always)]
    fn load<L: Lanes>(&self) -> [L; 2] {
        // SAFETY: arrays of eight words.
        unsafe { [L::load(self.0[0].as_ptr()), L::load(self.0[1].as_ptr())] }
    }
}

/// The roots of a direction: for layers of 8 and more, one for each block; for the last three layers, the seven
/// roots of eight neighbouring blocks of 8.
struct Tables {
    blocks: Vec<Root>,
    tails: Vec<[Roots; 7]>,
    /// 1/N.
    scale: Root,
}

impl Tables {
    fn new(root: u64) -> Self {
        let all: Vec<Root> = roots(root).into_iter().map(Root::new).collect();
        let tail = |group: usize| {
            [
                (256, 1),
                (512, 2),
                (513, 2),
                (1024, 4),
                (1025, 4),
                (1026, 4),
                (1027, 4),
            ]
            .map(|(first, step)| {
                let word = |which: usize| {
                    std::array::from_fn(|lane| all[first + step * (8 * group + lane)].0[which])
                };
                Roots([word(0), word(1)])
            })
        };
        Self {
            tails: (0..32).map(tail).collect(),
            blocks: all[..256].to_vec(),
            scale: Root::new(inverse_n()),
        }
    }
}

fn tables() -> &'static [Tables; 2] {
    static TABLES: OnceLock<[Tables; 2]> = OnceLock::new();
    TABLES.get_or_init(|| [Tables::new(ROOT), Tables::new(inverse_root())])
}

/// a * root modulo q, below 2q, for a < 2^52.
#[inline(always)]
fn multiply<L: Lanes>(a: L, root: [L; 2]) -> L {
    let zero = L::splat(0);
    let quotient = zero.add_high(a, root[1]);
    // minus quotient * q, modulo 2^52
    zero.add_low(a, root[0])
        .add_low(quotient, L::splat((1 << 52) - Q))
        .and(L::splat(MASK))
}

/// sum + a * b modulo q, below q, for numbers below q.
///
/// With q = 2^50 - c a multiple of 2^50 is as much as that multiple of c: what stands above 50 bits is folded twice.
#[inline(always)]
fn multiply_add<L: Lanes>(a: L, b: L, sum: L) -> L {
    const LOW: u64 = (1 << 50) - 1;
    const C: u64 = (1 << 50) - Q;
    let zero = L::splat(0);
    let four = b.add(b).add(b.add(b)); // the high 52 bits of the product are then those above 50
    let once = zero.add_high(a, four);
    let twice = zero.add_high(once, L::splat(4 * C));
    let low = zero.add_low(a, b).and(L::splat(LOW));
    let middle = zero.add_low(once, L::splat(C)).and(L::splat(LOW));
    // below q + 2^50 + 2^50 + 2^14 * 2^14 < 4q
    let folded = sum.add(low).add(middle).add_low(twice, L::splat(C));
    reduce(reduce(folded, 2 * Q), Q)
}

/// x or x - bound, whichever is not negative, for x < 2 bound.
#[inline(always)]
fn reduce<L: Lanes>(x: L, bound: u64) -> L {
    x.min(x.sub(L::splat(bound)))
}

/// (x, y) -> (x + w y, x - w y), all below 4q.
#[inline(always)]
fn butterfly<L: Lanes>(x: &mut L, y: &mut L, root: [L; 2]) {
    let (sum, product) = (reduce(*x, 2 * Q), multiply(*y, root));
    (*x, *y) = (sum.add(product), sum.sub(product).add(L::splat(2 * Q)));
}

/// (x, y) -> (x + y, w (x - y)), all below 2q.
#[inline(always)]
fn butterfly_back<L: Lanes>(x: &mut L, y: &mut L, root: [L; 2]) {
    let difference = x.sub(*y).add(L::splat(2 * Q));
    *x = reduce(x.add(*y), 2 * Q);
    *y = multiply(difference, root);
}

// NOTE: no closures in what follows. They would not be compiled for the instructions unless they happen to be inlined.

#[inline(always)]
fn forward_lanes<L: Lanes>(values: &mut [u64; N], tables: &Tables) {
    let data = values.as_mut_ptr();
    for quarter in [512, 128, 32, 8] {
        let blocks = N / (4 * quarter);
        for block in 0..blocks {
            let outer = tables.blocks[blocks + block].splat::<L>();
            let inner = [
                tables.blocks[2 * (blocks + block)].splat::<L>(),
                tables.blocks[2 * (blocks + block) + 1].splat::<L>(),
            ];
            for j in (0..quarter).step_by(8) {
                // SAFETY: block * 4 * quarter + j + 3 * quarter + 8 <= N.
                unsafe {
                    let at = data.add(4 * block * quarter + j);
                    let mut x = load_four::<L>(at, quarter);
                    let [x0, x1, x2, x3] = &mut x;
                    butterfly(x0, x2, outer);
                    butterfly(x1, x3, outer);
                    butterfly(x0, x1, inner[0]);
                    butterfly(x2, x3, inner[1]);
                    for (i, x) in x.iter().enumerate() {
                        x.store(at.add(i * quarter));
                    }
                }
            }
        }
    }
    for (group, roots) in tables.tails.iter().enumerate() {
        // SAFETY: group < 32, so all ends by word 64 * group + 64 <= N.
        unsafe {
            let at = data.add(64 * group);
            let mut c = L::transpose(load_eight(at));
            let [c0, c1, c2, c3, c4, c5, c6, c7] = &mut c;
            let root = roots[0].load();
            butterfly(c0, c4, root);
            butterfly(c1, c5, root);
            butterfly(c2, c6, root);
            butterfly(c3, c7, root);
            let root = [roots[1].load(), roots[2].load()];
            butterfly(c0, c2, root[0]);
            butterfly(c1, c3, root[0]);
            butterfly(c4, c6, root[1]);
            butterfly(c5, c7, root[1]);
            butterfly(c0, c1, roots[3].load());
            butterfly(c2, c3, roots[4].load());
            butterfly(c4, c5, roots[5].load());
            butterfly(c6, c7, roots[6].load());
            for (column, c) in c.iter().enumerate() {
                reduce(reduce(*c, 2 * Q), Q).store(at.add(8 * column));
            }
        }
    }
}

#[inline(always)]
fn inverse_lanes<L: Lanes>(values: &mut [u64; N], tables: &Tables) {
    let data = values.as_mut_ptr();
    for (group, roots) in tables.tails.iter().enumerate() {
        // SAFETY: group < 32, so all ends by word 64 * group + 64 <= N.
        unsafe {
            let at = data.add(64 * group);
            let mut c = load_eight::<L>(at);
            let [c0, c1, c2, c3, c4, c5, c6, c7] = &mut c;
            butterfly_back(c0, c1, roots[3].load());
            butterfly_back(c2, c3, roots[4].load());
            butterfly_back(c4, c5, roots[5].load());
            butterfly_back(c6, c7, roots[6].load());
            let root = [roots[1].load(), roots[2].load()];
            butterfly_back(c0, c2, root[0]);
            butterfly_back(c1, c3, root[0]);
            butterfly_back(c4, c6, root[1]);
            butterfly_back(c5, c7, root[1]);
            let root = roots[0].load();
            butterfly_back(c0, c4, root);
            butterfly_back(c1, c5, root);
            butterfly_back(c2, c6, root);
            butterfly_back(c3, c7, root);
            for (row, c) in L::transpose(c).iter().enumerate() {
                c.store(at.add(8 * row));
            }
        }
    }
    let scale = tables.scale.splat::<L>();
    for quarter in [8, 32, 128, 512] {
        let blocks = N / (4 * quarter);
        for block in 0..blocks {
            let outer = tables.blocks[blocks + block].splat::<L>();
            let inner = [
                tables.blocks[2 * (blocks + block)].splat::<L>(),
                tables.blocks[2 * (blocks + block) + 1].splat::<L>(),
            ];
            for j in (0..quarter).step_by(8) {
                // SAFETY: block * 4 * quarter + j + 3 * quarter + 8 <= N.
                unsafe {
                    let at = data.add(4 * block * quarter + j);
                    let mut x = load_four::<L>(at, quarter);
                    let [x0, x1, x2, x3] = &mut x;
                    butterfly_back(x0, x1, inner[0]);
                    butterfly_back(x2, x3, inner[1]);
                    butterfly_back(x0, x2, outer);
                    butterfly_back(x1, x3, outer);
                    for (i, x) in x.iter().enumerate() {
                        let made = if quarter == 512 {
                            reduce(multiply(*x, scale), Q)
                        } else {
                            *x
                        };
                        made.store(at.add(i * quarter));
                    }
                }
            }
        }
    }
}

/// # Safety
/// Words can be read at `at + i * apart..` for i below 4, eight each.
#[inline(always)]
unsafe fn load_four<L: Lanes>(at: *const u64, apart: usize) -> [L; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        [
            L::load(at),
            L::load(at.add(apart)),
            L::load(at.add(2 * apart)),
            L::load(at.add(3 * apart)),
        ]
    }
}

/// # Safety
/// 64 words can be read at `at`.
#[inline(always)]
unsafe fn load_eight<L: Lanes>(at: *const u64) -> [L; 8] {
    // SAFETY: the caller's promise.
    unsafe {
        [
            L::load(at),
            L::load(at.add(8)),
            L::load(at.add(16)),
            L::load(at.add(24)),
            L::load(at.add(32)),
            L::load(at.add(40)),
            L::load(at.add(48)),
            L::load(at.add(56)),
        ]
    }
}

#[inline(always)]
fn products_lanes<L: Lanes, const ADD: bool>(a: &[u64; N], b: &[u64; N], out: &mut [u64; N]) {
    for i in (0..N).step_by(8) {
        // SAFETY: eight words from a multiple of eight below N.
        unsafe {
            let (a, b) = (L::load(a.as_ptr().add(i)), L::load(b.as_ptr().add(i)));
            let out = out.as_mut_ptr().add(i);
            let sum = if ADD { L::load(out) } else { L::splat(0) };
            multiply_add(a, b, sum).store(out);
        }
    }
}

/// # Safety
/// The processor has AVX-512 F and IFMA.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) unsafe fn forward(values: &mut [u64; N]) {
    forward_lanes::<__m512i>(values, &tables()[0]);
}

/// # Safety
/// The processor has AVX-512 F and IFMA.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) unsafe fn inverse(values: &mut [u64; N]) {
    inverse_lanes::<__m512i>(values, &tables()[1]);
}

/// out = a * b, or out += a * b, value by value, all below q.
///
/// # Safety
/// The processor has AVX-512 F and IFMA.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) unsafe fn products<const ADD: bool>(a: &[u64; N], b: &[u64; N], out: &mut [u64; N]) {
    products_lanes::<__m512i, ADD>(a, b, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Prg;
    use crate::ntt::{
        forward_portable, inverse_portable, multiply_add_portable, pointwise_portable,
    };
    use rand_core::Rng;

    /// The instructions by their definition.
    #[derive(Clone, Copy)]
    struct Words([u64; 8]);

    impl Words {
        fn zip(self, other: Self, operation: impl Fn(u64, u64) -> u64) -> Self {
            Self(std::array::from_fn(|i| operation(self.0[i], other.0[i])))
        }
    }

    fn wide(a: u64, b: u64) -> u128 {
        u128::from(a & MASK) * u128::from(b & MASK)
    }

    impl Lanes for Words {
        fn splat(word: u64) -> Self {
            Self([word; 8])
        }
        unsafe fn load(at: *const u64) -> Self {
            // SAFETY: the caller's promise.
            Self(std::array::from_fn(|i| unsafe { *at.add(i) }))
        }
        unsafe fn store(self, at: *mut u64) {
            // SAFETY: the caller's promise.
            self.0
                .iter()
                .enumerate()
                .for_each(|(i, word)| unsafe { *at.add(i) = *word });
        }
        fn add(self, other: Self) -> Self {
            self.zip(other, u64::wrapping_add)
        }
        fn sub(self, other: Self) -> Self {
            self.zip(other, u64::wrapping_sub)
        }
        fn min(self, other: Self) -> Self {
            self.zip(other, u64::min)
        }
        fn and(self, other: Self) -> Self {
            self.zip(other, |a, b| a & b)
        }
        fn add_low(self, a: Self, b: Self) -> Self {
            self.add(a.zip(b, |a, b| wide(a, b) as u64 & MASK))
        }
        fn add_high(self, a: Self, b: Self) -> Self {
            self.add(a.zip(b, |a, b| (wide(a, b) >> 52) as u64))
        }
        fn transpose(rows: [Self; 8]) -> [Self; 8] {
            std::array::from_fn(|i| Self(std::array::from_fn(|j| rows[j].0[i])))
        }
    }

    #[test]
    fn ifma_transforms_on_plain_words_equal_the_portable_ones() {
        let mut prg = Prg::from_seed(&[6; 32]);
        for extreme in [false, true] {
            let mut next = || {
                if extreme {
                    Q - 1 - prg.next_u64() % 2
                } else {
                    prg.next_u64() % Q
                }
            };
            let values: [u64; N] = std::array::from_fn(|_| next());
            let [mut forth, mut expected] = [values; 2];
            forward_lanes::<Words>(&mut forth, &tables()[0]);
            forward_portable(&mut expected);
            assert!(forth == expected);
            let [mut back, mut expected] = [values; 2];
            inverse_lanes::<Words>(&mut back, &tables()[1]);
            inverse_portable(&mut expected);
            assert!(back == expected);
            let [mut sum, mut expected] = [values; 2];
            products_lanes::<Words, true>(&forth, &back, &mut sum);
            multiply_add_portable(&forth, &back, &mut expected);
            assert!(sum == expected);
            products_lanes::<Words, false>(&values, &values, &mut sum);
            pointwise_portable(&values, &values, &mut expected);
            assert!(sum == expected);
        }
    }
}
