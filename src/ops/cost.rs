//! Arithmetic and memory traffic of each operation: one formula each, used by the counter and by measurements.
//!
//! A multiply-add counts as two. Softmax, norms and activations are not counted: they are bound by
//! memory, and the published figures leave them out as well. Attention counts the pairs that are
//! computed: full for the vision tower, the causal half for the decoder.

use super::Span;
use crate::format::Format;
use crate::kv;
use std::ops::AddAssign;

/// The least work that an operation can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point or integer operations, a multiply-add counting as two.
    pub flops: u64,
    /// Bytes read and written, each once.
    pub bytes: u64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.flops += other.flops;
        self.bytes += other.bytes;
    }
}

/// The highest throughput of a device for one kind of work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roof {
    /// Floating-point or integer operations, a multiply-add counting as two.
    pub flops: f64,
    /// Bytes per second, read from memory or written to it.
    pub bandwidth: f64,
}

/// The highest throughput of a device, by kind of work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roofs {
    /// Bytes per second, read from memory or written to it.
    pub bandwidth: f64,
    /// Operations per second of products with floating-point weights, a multiply-add counting as two.
    pub linear: f64,
    /// The same of [`Kind::Widened`] and [`Kind::WidenedBytes`].
    pub widened: f64,
    /// Operations per second of [`Kind::Integers`].
    pub integers: f64,
    /// Operations per second of everything else.
    pub rest: f64,
}

impl Roofs {
    /// The same throughput for all kinds of work.
    pub const fn all(Roof { flops, bandwidth }: Roof) -> Self {
        Self { bandwidth, linear: flops, widened: flops, integers: flops, rest: flops }
    }

    /// The roof of one kind of work.
    pub fn kind(&self, kind: Kind) -> Roof {
        let flops = match kind {
            Kind::Linear => self.linear,
            Kind::Widened | Kind::WidenedBytes => self.widened,
            Kind::Integers => self.integers,
            Kind::Attention | Kind::Scores | Kind::Other => self.rest,
        };
        Roof { flops, bandwidth: self.bandwidth }
    }
}

impl Roof {
    /// Lower bound of the time in seconds: the longer of arithmetic and traffic, for a device does both at the same
    /// time (roofline model, Williams et al. 2009).
    pub fn time(&self, cost: Cost) -> f64 {
        (cost.flops as f64 / self.flops).max(cost.bytes as f64 / self.bandwidth)
    }
}

/// Kinds of operations, counted separately because a device runs them at different rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Matrix products with weights in floating point.
    Linear,
    /// Matrix products with int4 weights that become floating-point numbers on their way to the product.
    Widened,
    /// The same of int8.
    WidenedBytes,
    /// Matrix products of int8 weights and int8 activations.
    Integers,
    /// Q·Kᵀ and P·V.
    Attention,
    /// Scores for the selection: attention of the class token, or of a prompt's last row.
    Scores,
    /// Everything else: norms, copies, selection.
    Other,
}

impl Kind {
    /// The kind of a product with weights of this format.
    pub fn of(weights: Format) -> Self {
        match weights {
            Format::Q8 => Self::Integers,
            Format::Q4 { .. } | Format::Awq { .. } => Self::Widened,
            Format::W8A16 { .. } => Self::WidenedBytes,
            Format::F16 | Format::Bf16 | Format::F32 => Self::Linear,
        }
    }

    /// Whether it is a product with weights.
    pub fn is_product(self) -> bool {
        matches!(self, Self::Linear | Self::Widened | Self::WidenedBytes | Self::Integers)
    }
}

impl Cost {
    /// Traffic without arithmetic.
    pub fn bytes(bytes: usize) -> Self {
        Self { flops: 0, bytes: bytes as u64 }
    }
}

/// A pass over `numbers` of `size` bytes, each read and written once.
pub fn pass(numbers: usize, size: usize) -> Cost {
    Cost::bytes(2 * numbers * size)
}

/// A pass over `numbers` numbers of `size` bytes, each read and written once.
pub fn mix(rows: usize, sources: usize, cols: usize, size: usize) -> Cost {
    Cost { flops: 2 * (sources * cols) as u64, bytes: ((sources + rows) * cols * size) as u64 }
}

/// Weighted sums: `rows` of `cols` numbers of `size` bytes, made of `sources` rows in all.
pub fn picks(picks: usize, numbers: usize, flops: usize) -> Cost {
    Cost { flops: (picks * flops) as u64, bytes: (picks * numbers * size_of::<f32>()) as u64 }
}

/// Greedy selection of `picks` patches, each a pass over `numbers` of 4 bytes that takes `flops` operations.
pub type Product = fn(usize, usize, usize, usize, usize) -> Cost;

/// `[m, k] · [n, k]ᵀ` with weights of `weight_bytes` in all.
pub fn linear(m: usize, n: usize, k: usize, activation: usize, weight_bytes: usize) -> Cost {
    Cost {
        flops: 2 * (m * n) as u64 * k as u64,
        bytes: (activation * m * (k + n) + weight_bytes) as u64,
    }
}

/// The same, added to what is there.
pub fn linear_add(m: usize, n: usize, k: usize, activation: usize, weight_bytes: usize) -> Cost {
    let Cost { flops, bytes } = linear(m, n, k, activation, weight_bytes);
    Cost { flops, bytes: bytes + (activation * m * n) as u64 }
}

/// `pairs` of query and key, all heads together `width` wide.
pub fn attention(pairs: usize, width: usize, bytes: usize) -> Cost {
    Cost { flops: 4 * pairs as u64 * width as u64, bytes: bytes as u64 }
}

/// Scores of one query against `keys`, all heads together `width` wide.
pub fn scores(keys: usize, width: usize, activation: usize) -> Cost {
    Cost {
        flops: 2 * (keys * width) as u64,
        bytes: (activation * (keys + 1) * width + 4 * keys) as u64,
    }
}

/// Scores of `queries` queries, each against the `keys` of its partition, all heads together `width` wide.
pub fn received(queries: usize, keys: usize, width: usize, activation: usize) -> Cost {
    Cost {
        flops: 2 * (queries * keys) as u64 * width as u64,
        bytes: (2 * activation * queries * width + 4 * queries) as u64,
    }
}

/// Scores of a prompt's last query against the keys of its cache, all heads of queries together `width` wide.
pub fn last_row(keys: usize, width: usize, shape: kv::Shape, stored: usize) -> Cost {
    Cost {
        flops: 2 * (keys * width) as u64,
        bytes: (keys * shape.kv_heads * shape.head_dim * stored) as u64,
    }
}

/// Causal attention of spans to a cache of numbers of `stored` bytes, all heads of queries together `width` wide.
pub fn decoder(
    spans: &[Span],
    width: usize,
    activation: usize,
    shape: kv::Shape,
    stored: usize,
) -> Cost {
    let key_and_value = 2 * shape.kv_heads * shape.head_dim * stored;
    let mut cost = Cost::default();
    for span in spans {
        let pairs = causal_pairs(span.slot, span.rows);
        let bytes = span.context() * key_and_value + 2 * span.rows * width * activation;
        cost += attention(pairs, width, bytes);
    }
    cost
}

/// Pairs of query and key when `rows` queries follow `before` others and each sees itself and all before.
pub fn causal_pairs(before: usize, rows: usize) -> usize {
    rows * before + rows * (rows + 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_of_arithmetic_and_traffic_counts() {
        let roof = Roof { flops: 10.0, bandwidth: 2.0 };
        assert_eq!(roof.time(Cost { flops: 100, bytes: 4 }), 10.0);
        assert_eq!(roof.time(Cost { flops: 100, bytes: 40 }), 20.0);
        assert_eq!(roof.time(Cost::default()), 0.0);
        // What was only measured in arithmetic.
        let measured = Roof { flops: 10.0, bandwidth: f64::INFINITY };
        assert_eq!(measured.time(Cost { flops: 5, bytes: u64::MAX }), 0.5);
    }
}
