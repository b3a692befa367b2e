//! The inner loops for each instruction set; the choice is made at run time.
//!
//! A sum adds its terms to the same partial sums whatever the width of the registers, so AVX-512 and AVX2 give the same
//! bits. Without fused multiply-add the last bits differ.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod exp;
mod int4;
mod int8;
mod portable;
#[cfg(test)]
mod tests;

use super::numbers::Numbers;

pub use int4::Nibbles;
pub use int8::Int8;

/// Partial sums of a dot product: number i is added to sum i % LANES. They fill four registers of AVX-512, so that
/// additions need not wait for each other.
const LANES: usize = 64;

/// Partial sums of a softmax's denominator.
const SUMS: usize = 16;

/// Rows of activations that are multiplied with a stored row while it is in registers.
#[cfg(target_arch = "x86_64")]
const ROWS: usize = 4;

/// Registers that [`Isa::xor`] reads into in turn.
#[cfg(target_arch = "x86_64")]
const READS: usize = 8;

/// Stored rows that are multiplied with one row of activations at a time. They share its loads, which matters where it is
/// longer than the level-1 cache: in f32 it has twice the bytes of an f16 row, and every stored row would read it again.
#[cfg(target_arch = "x86_64")]
const STORED_ROWS: usize = 4;

/// Bytes that a dot product prefetches ahead of its reads. The hardware's own prefetcher stops at the end of a page. A
/// distance of 512 and more was up to 15% slower than none on Zen 4.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 128;

/// An instruction set. Values of this type exist only for instruction sets that were detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

/// Calls a function of the chosen instruction set's module.
macro_rules! on {
    ($isa:expr, $function:ident($($argument:expr),*)) => {
        match $isa.0 {
            // SAFETY: this value exists only on machines with these instructions.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { avx512::$function($($argument),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { avx2::$function($($argument),*) },
            Kind::Portable => portable::$function($($argument),*),
        }
    };
}

/// As `on`, with the numbers in their own type.
macro_rules! on_stored {
    ($isa:expr, $stored:expr, |$numbers:ident| $function:ident($($argument:expr),*)) => {
        match $stored {
            Numbers::F32($numbers) => on!($isa, $function($($argument),*)),
            Numbers::F16($numbers) => on!($isa, $function($($argument),*)),
            Numbers::Bf16($numbers) => on!($isa, $function($($argument),*)),
        }
    };
}

impl Isa {
    /// The widest of this machine.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if avx512() {
                return Self(Kind::Avx512);
            }
            if avx2() {
                return Self(Kind::Avx2);
            }
        }
        Self(Kind::Portable)
    }

    /// All of this machine, the widest first.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(avx512().then_some(Self(Kind::Avx512)));
            all.extend(avx2().then_some(Self(Kind::Avx2)));
        }
        all.push(Self(Kind::Portable));
        all
    }

    /// sums[i] = Σ x[i·stride + j] · w[j]. A row's sum has the same bits whatever the number of rows.
    pub fn dots(self, w: Numbers<'_>, x: &[f32], stride: usize, sums: &mut [f32]) {
        on_stored!(self, w, |w| dots(w, x, stride, sums));
    }

    /// sums[i] = Σ x[j] · w[i·len + j] for rows as long as `x`, with the bits of [`Self::dots`] for each row alone.
    pub fn stored_row_dots(self, w: Numbers<'_>, x: &[f32], sums: &mut [f32]) {
        on_stored!(self, w, |w| stored_row_dots(w, x, sums));
    }

    /// out[j] += Σ p[i] · rows[i, j] for rows as long as `out`, added one after another.
    pub fn add_rows(self, p: &[f32], rows: Numbers<'_>, out: &mut [f32]) {
        on_stored!(self, rows, |rows| add_rows(p, rows, out));
    }

    /// Converts stored numbers to f32, exactly.
    pub fn widen(self, x: Numbers<'_>, out: &mut [f32]) {
        match x {
            Numbers::F32(x) => out.copy_from_slice(x),
            Numbers::F16(x) => on!(self, widen(x, out)),
            Numbers::Bf16(x) => on!(self, widen(x, out)),
        }
    }

    /// x ⟵ exp(x − max x); returns their sum.
    ///
    /// Each exponential is within 1.1 units in the last place. A NaN or +∞ in x makes the sum NaN.
    pub fn exps(self, x: &mut [f32]) -> f32 {
        on!(self, exps(x))
    }

    /// x ⟵ x / (1 + exp(−factor · x)); SiLU if the factor is 1.
    pub fn gate(self, x: &mut [f32], factor: f32) {
        on!(self, gate(x, factor));
    }

    /// Runs at least `at_least` multiply-adds in registers, and returns how many it ran.
    pub fn multiply_adds(self, at_least: usize) -> usize {
        on!(self, multiply_adds(at_least))
    }

    /// Xors the words, with as many independent loads as keep the memory busy: a measurement of reading.
    pub fn xor(self, words: &[u64]) -> u64 {
        on!(self, xor(words))
    }
}

#[cfg(target_arch = "x86_64")]
fn avx512() -> bool {
    std::is_x86_feature_detected!("avx512f") && avx2()
}

#[cfg(target_arch = "x86_64")]
fn avx2() -> bool {
    use std::is_x86_feature_detected as has;
    has!("avx2") && has!("fma") && has!("f16c")
}

/// Prefetches the numbers that a dot product reads [`AHEAD`] bytes later.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn ask_ahead<T>(numbers: *const T) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for line in 0..LANES * size_of::<T>() / 64 {
        let ahead = numbers.cast::<i8>().wrapping_add(AHEAD + line * 64);
        // SAFETY: a prefetch reads nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead) };
    }
}

/// Adds the upper half to the lower half until one sum is left.
#[inline(always)]
fn fold<const N: usize>(mut sums: [f32; N]) -> f32 {
    let mut width = N / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

/// Copies the numbers behind the last whole register to an array, padded.
#[inline(always)]
fn padded<T: Copy, const N: usize>(rest: &[T], nothing: T) -> [T; N] {
    let mut padded = [nothing; N];
    padded[..rest.len()].copy_from_slice(rest);
    padded
}
