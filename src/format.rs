//! Number formats of weights, activations and the key/value cache.
//!
//! The three are chosen separately. Each weight carries its own [`Format`]; activations and the cache each have a
//! [`Dtype`], a format that kernels read and write element by element. docs/architecture.md describes what a new
//! weight format needs.

/// Width in bytes of the widest memory access of a kernel. Rows of weights on a device are padded to a multiple of
/// it.
const VECTOR: usize = 16;

/// Number format of activations or of the key/value cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dtype {
    /// Half precision (IEEE 754 binary16). It is used for storage only; sums are accumulated in f32.
    F16,
    /// Single precision (IEEE 754 binary32).
    F32,
}

impl Dtype {
    /// The name in options, reports and kernel names: `f16` or `f32`.
    pub fn name(self) -> &'static str {
        Format::from(self).name()
    }

    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Elements in an access of 16 bytes.
    pub fn lanes(self) -> usize {
        VECTOR / self.size()
    }
}

/// Storage format of a weight matrix, in a file or in memory, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    Bf16,
    /// IEEE 754 binary32.
    F32,
    /// int8 with one f32 scale per row: first all scales, then the codes. In products the activations are quantized
    /// to int8 as well (see [`crate::quant`]).
    Q8,
    /// int4 with one f16 scale per group of weights in a row: first all scales, then the codes plus 8, two per byte,
    /// the first one in the lower half.
    Q4 {
        /// Weights per group; even, and a divisor of the row length.
        group: usize,
    },
    /// int4 with a scale and a zero point per group, as AutoAWQ writes it: first all scales (f16), then all zero
    /// points (one byte each), then the codes 0…15, two per byte, the first one in the lower half. A weight is (code
    /// − zero point) · scale.
    Awq {
        /// Weights per group; even, and a divisor of the row length.
        group: usize,
    },
    /// int8 with one f16 scale per group, multiplied with floating-point activations: first all scales, then the
    /// codes.
    W8A16 {
        /// Weights per group; a divisor of the row length.
        group: usize,
    },
}

impl Format {
    /// The name in reports and in kernel names.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::Q8 => "q8",
            Self::Q4 { .. } => "q4",
            Self::Awq { .. } => "awq",
            Self::W8A16 { .. } => "w8a16",
        }
    }

    /// Bytes of a matrix of `rows` × `cols` elements, scales and zero points included.
    pub fn bytes(self, rows: usize, cols: usize) -> usize {
        let scales = self.scales(rows, cols) * self.align();
        match self {
            Self::F16 | Self::Bf16 | Self::F32 => rows * cols * self.align(),
            _ => scales + self.zeros(rows, cols) + self.code_bytes(rows, cols),
        }
    }

    /// Bytes of the elements alone, without scales and zero points.
    pub fn code_bytes(self, rows: usize, cols: usize) -> usize {
        match self {
            Self::F16 | Self::Bf16 | Self::F32 => rows * cols * self.align(),
            Self::Q8 | Self::W8A16 { .. } => rows * cols,
            Self::Q4 { .. } | Self::Awq { .. } => rows * cols / 2,
        }
    }

    /// The number of scales of a matrix.
    pub fn scales(self, rows: usize, cols: usize) -> usize {
        match self {
            Self::F16 | Self::Bf16 | Self::F32 => 0,
            Self::Q8 => rows,
            Self::Q4 { group } | Self::Awq { group } | Self::W8A16 { group } => {
                rows * (cols / group)
            }
        }
    }

    /// The number of zero points of a matrix, one byte each.
    pub fn zeros(self, rows: usize, cols: usize) -> usize {
        match self {
            Self::Awq { .. } => self.scales(rows, cols),
            _ => 0,
        }
    }

    /// Returns true for integer formats, whose elements share scales.
    pub fn is_integer(self) -> bool {
        !matches!(self, Self::F16 | Self::Bf16 | Self::F32)
    }

    /// Required alignment in bytes of the elements, because readers load whole vectors.
    pub fn align(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 | Self::Q4 { .. } | Self::Awq { .. } | Self::W8A16 { .. } => 2,
            Self::F32 | Self::Q8 => 4,
        }
    }

    /// Elements in an access of 16 bytes.
    pub fn lanes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 | Self::F32 => VECTOR / self.align(),
            Self::Q8 | Self::W8A16 { .. } => VECTOR,
            Self::Q4 { .. } | Self::Awq { .. } => 2 * VECTOR,
        }
    }

    /// Returns true if the same kernels read both formats: they are equal or differ only in the group size.
    pub fn is_alike(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    /// Elements from one row to the next on a device, where rows are padded to a multiple of 16 bytes.
    pub fn stride(self, cols: usize) -> usize {
        cols.next_multiple_of(self.lanes())
    }
}

impl From<Dtype> for Format {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F16 => Self::F16,
            Dtype::F32 => Self::F32,
        }
    }
}

/// The number formats that an executor works in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    /// Format of weight matrices.
    pub weights: Format,
    /// Format of activations.
    pub activations: Dtype,
    /// Format of keys and values.
    pub cache: Dtype,
}

/// Uses one format for weights, activations and cache.
impl From<Dtype> for Formats {
    fn from(dtype: Dtype) -> Self {
        Self { weights: dtype.into(), activations: dtype, cache: dtype }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_from_the_shape() {
        assert_eq!(Format::Bf16.bytes(3, 5), 30);
        assert_eq!(Format::F32.bytes(3, 5), 60);
        assert_eq!(Format::Q8.bytes(3, 5), 3 * 5 + 3 * 4);
        assert_eq!(Format::Q4 { group: 32 }.bytes(3, 64), 3 * 64 / 2 + 3 * 2 * 2);
        assert_eq!(Format::Awq { group: 32 }.bytes(3, 64), 3 * 64 / 2 + 3 * 2 * (2 + 1));
        assert_eq!(Format::W8A16 { group: 32 }.bytes(3, 64), 3 * 64 + 3 * 2 * 2);
        assert_eq!((Format::F16.stride(9), Format::F32.stride(9)), (16, 12));
        assert_eq!((Format::Q8.stride(17), Format::Q4 { group: 32 }.stride(96)), (32, 96));
        assert!(Format::Q4 { group: 32 }.is_alike(Format::Q4 { group: 64 }));
        assert!(!Format::Q8.is_alike(Format::F16));
        for dtype in [Dtype::F16, Dtype::F32] {
            assert_eq!(Format::from(dtype).bytes(1, dtype.lanes()), 16);
            assert_eq!(Formats::from(dtype).weights.name(), dtype.name());
        }
    }
}
