//! What part of a GPU's speed its kernels are expected to reach, by kind of work: predictions, to be replaced by what
//! `tools/gpu-check` measures. docs/kernels.md says kernel by kernel where they come from.

use super::cost::Kind;

/// Parts of a device's speed, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// Of products with weights.
    pub linear: f64,
    /// Of attention.
    pub attention: f64,
    /// Of everything else, which memory bounds.
    pub traffic: f64,
}

/// fp32 multiply-adds: a product reaches 80% at thousands of rows, and loses its last wave at hundreds.
const FMA: Shares = Shares { linear: 0.75, attention: 0.55, traffic: 0.85 };
/// Tensor cores by `mma.sync.m16n8k8`: a T4, at the clock that it sustains.
const MMA8: Shares = Shares { linear: 0.53, attention: 0.45, traffic: 0.8 };
/// Tensor cores by `mma.sync.m16n8k16`; on Hopper that has two thirds of the rate.
const MMA16: Shares = Shares { linear: 0.45, attention: 0.3, traffic: 0.75 };
/// What cuBLAS reaches in products.
const LIBRARY: f64 = 0.6;

impl Shares {
    /// One for all kinds of work.
    pub const fn all(share: f64) -> Self {
        Self { linear: share, attention: share, traffic: share }
    }

    /// Of a card of this compute capability, where `tensor` cores multiply, in products by cuBLAS if `library`.
    pub fn of(capability: u32, tensor: bool, library: bool) -> Self {
        let own = match (tensor, capability) {
            (false, _) => FMA,
            (true, ..80) => MMA8,
            (true, _) => MMA16,
        };
        if library && tensor { Self { linear: LIBRARY, ..own } } else { own }
    }

    /// Of one kind of work.
    pub fn kind(&self, kind: Kind) -> f64 {
        match kind {
            Kind::Linear => self.linear,
            Kind::Attention => self.attention,
            Kind::Scores | Kind::Other => self.traffic,
        }
    }
}
