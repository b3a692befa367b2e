//! What part of a GPU's speed its kernels are expected to reach, by kind of work: predictions, to be replaced by what
//! `tools/gpu-check` measures. docs/kernels.md says kernel by kernel where they come from.

use super::cost::Kind;

/// Parts of a device's speed, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// Of products of many rows, whose arithmetic bounds them.
    pub many: Products,
    /// Of products of a decode step's rows, which read each weight once.
    pub few: Products,
    /// Of attention.
    pub attention: f64,
    /// Of everything else, which memory bounds.
    pub traffic: f64,
}

/// Of products with weights, by [`Kind`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Products {
    /// Of [`Kind::Linear`].
    pub linear: f64,
    /// Of [`Kind::Widened`].
    pub widened: f64,
    /// Of [`Kind::Integers`].
    pub integers: f64,
}

const fn products([linear, widened, integers]: [f64; 3]) -> Products {
    Products { linear, widened, integers }
}

/// fp32 multiply-adds: a product reaches 80% at thousands of rows, and loses its last wave at hundreds. `dp4a`: four times
/// the arithmetic from twice the bytes, of at most 87% by issue.
const FMA: Shares = Shares {
    many: products([0.75, 0.73, 0.65]),
    few: products([0.84, 0.75, 0.84]),
    attention: 0.55,
    traffic: 0.85,
};
/// Tensor cores by `mma.sync.m16n8k8`: a T4, at the clock that it sustains; int8 by `m8n8k16`, near the limit of its L2.
const MMA8: Shares = Shares {
    many: products([0.53, 0.48, 0.45]),
    few: products([0.8, 0.7, 0.82]),
    attention: 0.45,
    traffic: 0.8,
};
/// Tensor cores by `mma.sync.m16n8k16`, on Hopper with two thirds of the rate; int8 by `m16n8k32`, limited by L2 there. A
/// decode step's int4 is limited by issue where memory is this fast.
const MMA16: Shares = Shares {
    many: products([0.45, 0.4, 0.3]),
    few: products([0.85, 0.6, 0.82]),
    attention: 0.3,
    traffic: 0.75,
};
/// What cuBLAS reaches in products of many rows.
const LIBRARY: f64 = 0.6;

impl Shares {
    /// One for all kinds of work.
    pub const fn all(share: f64) -> Self {
        let products = products([share; 3]);
        Self { many: products, few: products, attention: share, traffic: share }
    }

    /// Of a card of this compute capability, where `tensor` cores multiply floating-point numbers in the kernels of this
    /// crate, and cuBLAS makes products of many rows if `library`.
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

    /// Of one kind of work; `few`: of the rows of a decode step.
    pub fn kind(&self, kind: Kind, few: bool) -> f64 {
        let products = if few { &self.few } else { &self.many };
        match kind {
            Kind::Linear => products.linear,
            Kind::Widened => products.widened,
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
        // Volta: own kernels multiply by fp32 and dp4a; cuBLAS takes only products of many rows.
        let volta = Shares::of(70, false, false);
        assert_eq!(volta, Shares::of(61, false, false));
        let library = Shares::of(70, false, true);
        assert_eq!(library.many.linear, LIBRARY);
        assert_eq!(Shares { many: volta.many, ..library }, volta);
        // Activations in f32 leave integers on tensor cores.
        let turing = [true, false].map(|tensor| Shares::of(75, tensor, false));
        assert_eq!(turing[0].many.integers, turing[1].many.integers);
        assert_ne!(turing[0].many.linear, turing[1].many.linear);
        assert_ne!(turing[0].kind(Kind::Widened, true), turing[0].kind(Kind::Widened, false));
        for capability in [61, 70, 75, 80, 86, 87, 89, 90] {
            for tensor in [false, true] {
                let Shares { many, few, attention, traffic } =
                    Shares::of(capability, tensor, false);
                let of = |p: Products| [p.linear, p.widened, p.integers];
                let all = [of(many), of(few), [attention, traffic, traffic]].concat();
                assert!(all.iter().all(|share| (0.25..0.95).contains(share)), "{all:?}");
                // A format that is widened costs its widening.
                assert!(many.widened <= many.linear && few.widened <= few.linear);
            }
        }
    }
}
