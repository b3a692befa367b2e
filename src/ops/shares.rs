//! The fraction of a GPU's peak that its kernels are expected to reach, by kind of work. These are predictions, to be
//! replaced by what `tools/gpu-check` measures; docs/kernels.md derives them kernel by kernel.

use super::cost::Kind;

/// Fractions of a device's peak, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// Products of many rows (GEMM), limited by arithmetic.
    pub many: Products,
    /// Products of a decode step's few rows (GEMV), limited by reading each weight once.
    pub few: Products,
    /// Attention.
    pub attention: f64,
    /// Everything else, limited by memory bandwidth.
    pub traffic: f64,
}

/// Fractions for products with weights, by [`Kind`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Products {
    /// For [`Kind::Linear`].
    pub linear: f64,
    /// For [`Kind::Widened`].
    pub widened: f64,
    /// Of [`Kind::WidenedBytes`].
    pub bytes: f64,
    /// For [`Kind::Integers`].
    pub integers: f64,
}

const fn products([linear, widened, bytes, integers]: [f64; 4]) -> Products {
    Products { linear, widened, bytes, integers }
}

/// fp32 multiply-adds: a product reaches 80% at thousands of rows, and loses part of its last wave of blocks at
/// hundreds. int8 by `dp4a`: four times the arithmetic for twice the bytes, at most 87% by issue slots.
///
/// Of widened weights the bytes are those of their format, so a share says only how near a kernel comes to reading them as
/// fast as memory does. Of few rows int4 takes some 960 instructions for 2 KB, with zero points and without (a word more for
/// each group, read in one access): 240 clocks of the 272 in which a P40's memory brings them, which is close to issue. Bytes
/// take 510, 126 clocks: memory bounds them everywhere but on the newest GPUs, where 2 KB come in 111.
const FMA: Shares = Shares {
    many: products([0.75, 0.73, 0.73, 0.65]),
    few: products([0.84, 0.75, 0.82, 0.84]),
    attention: 0.55,
    traffic: 0.85,
};
/// Tensor cores by `mma.sync.m16n8k8`: a T4 at its sustained clock; int8 by `m8n8k16`, near the limit of its L2 cache.
const MMA8: Shares = Shares {
    many: products([0.53, 0.48, 0.48, 0.45]),
    few: products([0.8, 0.7, 0.8, 0.82]),
    attention: 0.45,
    traffic: 0.8,
};
/// Tensor cores by `mma.sync.m16n8k16`, which reach two thirds of Hopper's rate; int8 by `m16n8k32`, limited by L2
/// there. GEMV with int4 weights is limited by issue slots where memory is this fast.
const MMA16: Shares = Shares {
    many: products([0.45, 0.4, 0.4, 0.3]),
    few: products([0.85, 0.6, 0.7, 0.82]),
    attention: 0.3,
    traffic: 0.75,
};
/// What cuBLAS reaches in GEMM.
const LIBRARY: f64 = 0.6;

impl Shares {
    /// The same throughput for all kinds of work.
    pub const fn all(share: f64) -> Self {
        let products = products([share; 4]);
        Self { many: products, few: products, attention: share, traffic: share }
    }

    /// The fractions of a GPU of this compute capability. `tensor`: this crate's kernels multiply floating-point
    /// numbers on tensor cores. `library`: cuBLAS makes products of many rows.
    pub fn of(capability: u32, tensor: bool, library: bool) -> Self {
        let newest = match capability {
            ..75 => FMA,
            75..80 => MMA8,
            _ => MMA16,
        };
        let mut shares = if tensor { newest } else { FMA };
        // Integers are multiplied in the same way whatever the format of activations.
        shares.many.integers = newest.many.integers;
        shares.few.integers = newest.few.integers;
        if library {
            shares.many.linear = LIBRARY;
        }
        shares
    }

    /// The fraction of one kind of work; `few`: for the rows of a decode step.
    pub fn kind(&self, kind: Kind, few: bool) -> f64 {
        let products = if few { &self.few } else { &self.many };
        match kind {
            Kind::Linear => products.linear,
            Kind::Widened => products.widened,
            Kind::WidenedBytes => products.bytes,
            Kind::Integers => products.integers,
            Kind::Attention => self.attention,
            Kind::Scores | Kind::Other => self.traffic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_the_share_of_the_kernels_that_do_it() {
        // Volta: this crate's kernels use fp32 and dp4a; cuBLAS makes products of many rows only.
        let volta = Shares::of(70, false, false);
        assert_eq!(volta, Shares::of(61, false, false));
        let library = Shares::of(70, false, true);
        assert_eq!(library.many.linear, LIBRARY);
        assert_eq!(Shares { many: volta.many, ..library }, volta);
        // With f32 activations, integer products still run on tensor cores.
        let turing = [true, false].map(|tensor| Shares::of(75, tensor, false));
        assert_eq!(turing[0].many.integers, turing[1].many.integers);
        assert_ne!(turing[0].many.linear, turing[1].many.linear);
        assert_ne!(turing[0].kind(Kind::Widened, true), turing[0].kind(Kind::Widened, false));
        for capability in [61, 70, 75, 80, 86, 87, 89, 90] {
            for tensor in [false, true] {
                let Shares { many, few, attention, traffic } =
                    Shares::of(capability, tensor, false);
                let of = |p: Products| [p.linear, p.widened, p.bytes, p.integers];
                let all = [of(many).as_slice(), &of(few), &[attention, traffic]].concat();
                assert!(all.iter().all(|share| (0.25..0.95).contains(share)), "{all:?}");
                // Widening costs time, so a widened format reaches at most what fp16 does.
                assert!(many.widened <= many.linear && few.widened <= few.linear);
                // Half as many numbers to a byte are half the instructions.
                assert!(many.bytes == many.widened && few.bytes > few.widened);
                assert!(few.bytes <= few.linear);
            }
        }
    }
}
