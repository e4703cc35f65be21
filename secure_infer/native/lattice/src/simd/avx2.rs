//! Transforms in double precision: residues modulo a 50-bit q are exact in 53 bits, and a fused product gives the
//! low half of a product exactly.
//!
//! a * w modulo q: h = a*w rounded, l = a*w - h exactly (one fma), k = a*(w/q) rounded to an integer, and
//! (h - k*q) + l is exact, an integer of absolute value at most q (1/2 + |a|/(8q)) for |w| <= q/2 (k is off by the
//! two roundings of 2^-53 relative to |a w / q| < |a|/2). All sums below stay under 8q < 2^53.

use std::arch::x86_64::*;
use std::sync::OnceLock;

use crate::ntt::{inverse_n, inverse_root, multiply_mod, roots};
use crate::params::{N, Q, ROOT};

const Q_FLOAT: f64 = Q as f64;
const Q_INVERSE: f64 = 1.0 / Q_FLOAT;
const MAGIC: f64 = (1u64 << 52) as f64;

/// A root in (-q/2, q/2) and its quotient by q.
#[derive(Clone, Copy)]
struct Root {
    value: f64,
    quotient: f64,
}

impl Root {
    fn new(root: u64) -> Self {
        let value = if root > Q / 2 {
            -((Q - root) as f64)
        } else {
            root as f64
        };
        Self {
            value,
            quotient: value / Q_FLOAT,
        }
    }
}

/// Four roots, one for each lane.
#[repr(align(32))]
#[derive(Clone, Copy)]
struct Lanes([f64; 4]);

/// The roots of a direction: for layers of 8 and more, one for each block; for the last three layers, the seven
/// roots of four neighbouring blocks of 8.
struct Tables {
    blocks: Vec<Root>,
    tails: Vec<[[Lanes; 2]; 7]>,
}

impl Tables {
    fn new(root: u64) -> Self {
        let all: Vec<Root> = roots(root).into_iter().map(Root::new).collect();
        let tail = |unit: usize| {
            let lanes = |index: &dyn Fn(usize) -> usize| {
                let four: [Root; 4] = std::array::from_fn(|lane| all[index(4 * unit + lane)]);
                [
                    Lanes(four.map(|root| root.value)),
                    Lanes(four.map(|root| root.quotient)),
                ]
            };
            [
                lanes(&|block| 256 + block),
                lanes(&|block| 512 + 2 * block),
                lanes(&|block| 513 + 2 * block),
                lanes(&|block| 1024 + 4 * block),
                lanes(&|block| 1025 + 4 * block),
                lanes(&|block| 1026 + 4 * block),
                lanes(&|block| 1027 + 4 * block),
            ]
        };
        Self {
            tails: (0..64).map(tail).collect(),
            blocks: all[..256].to_vec(),
        }
    }
}

fn tables() -> &'static [Tables; 2] {
    static TABLES: OnceLock<[Tables; 2]> = OnceLock::new();
    TABLES.get_or_init(|| [Tables::new(ROOT), Tables::new(inverse_root())])
}

type V = __m256d;

#[inline(always)]
fn broadcast(root: Root) -> [V; 2] {
    // SAFETY: only called from functions compiled for AVX2.
    unsafe { [_mm256_set1_pd(root.value), _mm256_set1_pd(root.quotient)] }
}

#[inline(always)]
fn lanes(root: &[Lanes; 2]) -> [V; 2] {
    // SAFETY: only called from functions compiled for AVX2; Lanes is four numbers.
    unsafe {
        [
            _mm256_loadu_pd(root[0].0.as_ptr()),
            _mm256_loadu_pd(root[1].0.as_ptr()),
        ]
    }
}

/// a * root modulo q, at most q (1/2 + |a|/(8q)) in absolute value.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn multiply(a: V, root: [V; 2]) -> V {
    let high = _mm256_mul_pd(a, root[0]);
    let low = _mm256_fmsub_pd(a, root[0], high);
    let quotient = round(_mm256_mul_pd(a, root[1]));
    _mm256_add_pd(
        _mm256_fnmadd_pd(quotient, _mm256_set1_pd(Q_FLOAT), high),
        low,
    )
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn round(x: V) -> V {
    _mm256_round_pd::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x)
}

/// Brings a number below 8q to one of at most q/2 (and a rounding) in absolute value.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn reduce(x: V) -> V {
    let quotient = round(_mm256_mul_pd(x, _mm256_set1_pd(Q_INVERSE)));
    _mm256_fnmadd_pd(quotient, _mm256_set1_pd(Q_FLOAT), x)
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn from_words(words: __m256i) -> V {
    let magic = _mm256_set1_pd(MAGIC);
    _mm256_sub_pd(_mm256_or_pd(_mm256_castsi256_pd(words), magic), magic)
}

/// Reduces to [0, q), as words.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn to_words(x: V) -> __m256i {
    below_q_to_words(reduce(x))
}

/// The same for a number between -q and q.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn below_q_to_words(x: V) -> __m256i {
    let negative = _mm256_cmp_pd::<_CMP_LT_OQ>(x, _mm256_setzero_pd());
    let positive = _mm256_add_pd(x, _mm256_and_pd(negative, _mm256_set1_pd(Q_FLOAT)));
    let magic = _mm256_set1_pd(MAGIC);
    _mm256_castpd_si256(_mm256_xor_pd(_mm256_add_pd(positive, magic), magic))
}

#[target_feature(enable = "avx2")]
#[inline]
fn transpose(r: [V; 4]) -> [V; 4] {
    let (a, b) = (
        _mm256_unpacklo_pd(r[0], r[1]),
        _mm256_unpackhi_pd(r[0], r[1]),
    );
    let (c, d) = (
        _mm256_unpacklo_pd(r[2], r[3]),
        _mm256_unpackhi_pd(r[2], r[3]),
    );
    [
        _mm256_permute2f128_pd::<0x20>(a, c),
        _mm256_permute2f128_pd::<0x20>(b, d),
        _mm256_permute2f128_pd::<0x31>(a, c),
        _mm256_permute2f128_pd::<0x31>(b, d),
    ]
}

/// (x, y) -> (x + w y, x - w y)
#[target_feature(enable = "avx2,fma")]
#[inline]
fn butterfly(x: &mut V, y: &mut V, root: [V; 2]) {
    let product = multiply(*y, root);
    (*x, *y) = (_mm256_add_pd(*x, product), _mm256_sub_pd(*x, product));
}

/// (x, y) -> (x + y, w (x - y))
#[target_feature(enable = "avx2,fma")]
#[inline]
fn butterfly_back(x: &mut V, y: &mut V, root: [V; 2]) {
    let difference = _mm256_sub_pd(*x, *y);
    *x = _mm256_add_pd(*x, *y);
    *y = multiply(difference, root);
}

/// Two layers forth: blocks of `4 * quarter` words. `FIRST`: words come in; `REDUCE`: sums are reduced first.
///
/// # Safety
/// `data` points to N words, in the form of numbers unless `FIRST`; quarter is a multiple of 4 that divides N / 4.
#[target_feature(enable = "avx2,fma")]
unsafe fn two_layers<const FIRST: bool, const REDUCE: bool>(
    data: *mut f64,
    quarter: usize,
    roots: &[Root],
) {
    let blocks = N / (4 * quarter);
    for block in 0..blocks {
        let outer = broadcast(roots[blocks + block]);
        let inner = [
            broadcast(roots[2 * (blocks + block)]),
            broadcast(roots[2 * (blocks + block) + 1]),
        ];
        for j in (0..quarter).step_by(4) {
            // SAFETY: block * 4 * quarter + j + 3 * quarter + 4 <= N.
            unsafe {
                let at = data.add(4 * block * quarter + j);
                let mut x = [
                    at,
                    at.add(quarter),
                    at.add(2 * quarter),
                    at.add(3 * quarter),
                ]
                .map(|at| {
                    let x = if FIRST {
                        from_words(_mm256_loadu_si256(at.cast()))
                    } else {
                        _mm256_loadu_pd(at)
                    };
                    if REDUCE { reduce(x) } else { x }
                });
                let [x0, x1, x2, x3] = &mut x;
                butterfly(x0, x2, outer);
                butterfly(x1, x3, outer);
                butterfly(x0, x1, inner[0]);
                butterfly(x2, x3, inner[1]);
                x.iter()
                    .enumerate()
                    .for_each(|(i, x)| _mm256_storeu_pd(at.add(i * quarter), *x));
            }
        }
    }
}

/// Two layers back; the last pass also divides by N, reduces and leaves words.
///
/// # Safety
/// As [`two_layers`].
#[target_feature(enable = "avx2,fma")]
unsafe fn two_layers_back<const LAST: bool>(
    data: *mut f64,
    quarter: usize,
    roots: &[Root],
    last: &[Root; 2],
) {
    let blocks = N / (4 * quarter);
    for block in 0..blocks {
        let outer = broadcast(if LAST { last[1] } else { roots[blocks + block] });
        let inner = [
            broadcast(roots[2 * (blocks + block)]),
            broadcast(roots[2 * (blocks + block) + 1]),
        ];
        let scale = broadcast(last[0]);
        for j in (0..quarter).step_by(4) {
            // SAFETY: block * 4 * quarter + j + 3 * quarter + 4 <= N.
            unsafe {
                let at = data.add(4 * block * quarter + j);
                let mut x = [0, 1, 2, 3].map(|i| _mm256_loadu_pd(at.add(i * quarter)));
                let [x0, x1, x2, x3] = &mut x;
                // inputs are at most 1.6 q: sums 3.2 q and 6.4 q, products 1/2 + 6.4/8 = 1.3 q
                butterfly_back(x0, x1, inner[0]);
                butterfly_back(x2, x3, inner[1]);
                butterfly_back(x0, x2, outer);
                butterfly_back(x1, x3, outer);
                if LAST {
                    (*x0, *x1) = (multiply(*x0, scale), multiply(*x1, scale));
                    for (i, x) in x.iter().enumerate() {
                        _mm256_storeu_si256(at.add(i * quarter).cast(), to_words(*x));
                    }
                } else {
                    (*x0, *x1) = (reduce(*x0), reduce(*x1));
                    x.iter()
                        .enumerate()
                        .for_each(|(i, x)| _mm256_storeu_pd(at.add(i * quarter), *x));
                }
            }
        }
    }
}

/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn forward(values: &mut [u64; N]) {
    let [tables, _] = tables();
    let data = values.as_mut_ptr().cast::<f64>();
    // bounds in units of q: 1, then b + 1/2 + b/8 per layer: 6.2 after six layers; reduced to 1/2, 3.8 at the end
    // SAFETY: N words, and quarters that divide N / 4.
    unsafe {
        two_layers::<true, false>(data, 512, &tables.blocks);
        two_layers::<false, false>(data, 128, &tables.blocks);
        two_layers::<false, false>(data, 32, &tables.blocks);
        two_layers::<false, true>(data, 8, &tables.blocks);
    }
    for (group, roots) in tables.tails.chunks_exact(2).enumerate() {
        let mut columns = [_mm256_setzero_pd(); 16];
        for (half, roots) in roots.iter().enumerate() {
            // SAFETY: group < 32 and half < 2, so the last load ends at word 64 * group + 64 <= N.
            let load = |row: usize, column: usize| unsafe {
                _mm256_loadu_pd(data.add(64 * group + 8 * (4 * half + row) + column))
            };
            let [c0, c1, c2, c3] = transpose([load(0, 0), load(1, 0), load(2, 0), load(3, 0)]);
            let [c4, c5, c6, c7] = transpose([load(0, 4), load(1, 4), load(2, 4), load(3, 4)]);
            let mut c = [c0, c1, c2, c3, c4, c5, c6, c7];
            let [c0, c1, c2, c3, c4, c5, c6, c7] = &mut c;
            let root = lanes(&roots[0]);
            butterfly(c0, c4, root);
            butterfly(c1, c5, root);
            butterfly(c2, c6, root);
            butterfly(c3, c7, root);
            let root = [lanes(&roots[1]), lanes(&roots[2])];
            butterfly(c0, c2, root[0]);
            butterfly(c1, c3, root[0]);
            butterfly(c4, c6, root[1]);
            butterfly(c5, c7, root[1]);
            butterfly(c0, c1, lanes(&roots[3]));
            butterfly(c2, c3, lanes(&roots[4]));
            butterfly(c4, c5, lanes(&roots[5]));
            butterfly(c6, c7, lanes(&roots[6]));
            c.iter()
                .enumerate()
                .for_each(|(column, c)| columns[2 * column + half] = *c);
        }
        for (i, column) in columns.iter().enumerate() {
            // SAFETY: ends at word 64 * group + 64 <= N.
            unsafe { _mm256_storeu_si256(data.add(64 * group + 4 * i).cast(), to_words(*column)) };
        }
    }
}

/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn inverse(values: &mut [u64; N]) {
    static LAST: OnceLock<[Root; 2]> = OnceLock::new();
    let [_, tables] = tables();
    let last = LAST.get_or_init(|| {
        let outer = multiply_mod(roots(inverse_root())[1], inverse_n());
        [Root::new(inverse_n()), Root::new(outer)]
    });
    let data = values.as_mut_ptr().cast::<f64>();
    for (group, roots) in tables.tails.chunks_exact(2).enumerate() {
        let mut rows = [_mm256_setzero_pd(); 16];
        for (half, roots) in roots.iter().enumerate() {
            let mut c: [V; 8] = [_mm256_setzero_pd(); 8];
            for (column, c) in c.iter_mut().enumerate() {
                // SAFETY: ends at word 64 * group + 8 * 7 + 8 <= N.
                *c = from_words(unsafe {
                    _mm256_loadu_si256(data.add(64 * group + 8 * column + 4 * half).cast())
                });
            }
            let [c0, c1, c2, c3, c4, c5, c6, c7] = &mut c;
            // words below q: sums below 2q, 4q, 8q < 2^53, products at most (1/2 + 4/8) q
            butterfly_back(c0, c1, lanes(&roots[3]));
            butterfly_back(c2, c3, lanes(&roots[4]));
            butterfly_back(c4, c5, lanes(&roots[5]));
            butterfly_back(c6, c7, lanes(&roots[6]));
            let root = [lanes(&roots[1]), lanes(&roots[2])];
            butterfly_back(c0, c2, root[0]);
            butterfly_back(c1, c3, root[0]);
            butterfly_back(c4, c6, root[1]);
            butterfly_back(c5, c7, root[1]);
            let root = lanes(&roots[0]);
            butterfly_back(c0, c4, root);
            butterfly_back(c1, c5, root);
            butterfly_back(c2, c6, root);
            butterfly_back(c3, c7, root);
            for c in [c0, c1, c2, c3] {
                *c = reduce(*c);
            }
            let left = transpose([c[0], c[1], c[2], c[3]]);
            let right = transpose([c[4], c[5], c[6], c[7]]);
            for row in 0..4 {
                (rows[8 * half + 2 * row], rows[8 * half + 2 * row + 1]) = (left[row], right[row]);
            }
        }
        for (i, row) in rows.iter().enumerate() {
            // SAFETY: ends at word 64 * group + 64 <= N.
            unsafe { _mm256_storeu_pd(data.add(64 * group + 4 * i), *row) };
        }
    }
    // SAFETY: N words, in the form of numbers, and quarters that divide N / 4.
    unsafe {
        two_layers_back::<false>(data, 8, &tables.blocks, last);
        two_layers_back::<false>(data, 32, &tables.blocks, last);
        two_layers_back::<false>(data, 128, &tables.blocks, last);
        two_layers_back::<true>(data, 512, &tables.blocks, last);
    }
}

/// out = a * b, or out += a * b if `ADD`, value by value.
///
/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn products<const ADD: bool>(a: &[u64; N], b: &[u64; N], out: &mut [u64; N]) {
    for i in (0..N).step_by(4) {
        // SAFETY: i + 4 <= N.
        unsafe {
            let a = from_words(_mm256_loadu_si256(a.as_ptr().add(i).cast()));
            let b = from_words(_mm256_loadu_si256(b.as_ptr().add(i).cast()));
            let at = out.as_mut_ptr().add(i).cast();
            // b is up to q here, twice a root: the product is at most q (1/2 + 1/4 + 1/8)
            let quotient = _mm256_mul_pd(b, _mm256_set1_pd(Q_INVERSE));
            let product = multiply(a, [b, quotient]);
            let words = if ADD {
                to_words(_mm256_add_pd(from_words(_mm256_loadu_si256(at)), product))
            } else {
                below_q_to_words(product)
            };
            _mm256_storeu_si256(at, words);
        }
    }
}
