//! Number formats: what weights are stored in, and what activations and the key/value cache are held in.
//!
//! These are separate choices. A weight knows its own [`Format`]; activations and the cache each have a [`Dtype`], a
//! format that kernels read and write number by number. docs/architecture.md says what a new format of weights needs.

/// Bytes of the widest access of a kernel: rows of weights on a device are padded to a multiple of it.
const VECTOR: usize = 16;

/// Format of activations or of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dtype {
    /// Half precision (IEEE 754 binary16), for storage: sums are f32 everywhere.
    F16,
    /// Single precision.
    F32,
}

impl Dtype {
    /// The name in options, reports and the names of kernels.
    pub fn name(self) -> &'static str {
        Format::from(self).name()
    }

    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Numbers in an access of 16 bytes.
    pub fn lanes(self) -> usize {
        VECTOR / self.size()
    }
}

/// Format of a matrix of weights, in a file or in memory, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// IEEE 754 binary32.
    F32,
    /// int8 with an f32 scale for each row: first all scales, then the codes. Products take activations as int8, too
    /// ([`crate::quant`]).
    Q8,
    /// int4 with an f16 scale for each group of numbers of a row: first all scales, then two codes, each plus 8, in a
    /// byte, the first in its lower half.
    Q4 {
        /// Numbers of a group, even; it divides the rows.
        group: usize,
    },
    /// int4 with a scale and a zero point for each group, as AutoAWQ makes them: first all scales (f16), then all zero
    /// points, a byte each, then two codes 0…15 in a byte, the first in its lower half. A number is (code − zero point) ·
    /// scale.
    Awq {
        /// Numbers of a group, even; it divides the rows.
        group: usize,
    },
    /// int8 with an f16 scale for each group, multiplied with floating-point activations: first all scales, then the codes.
    W8A16 {
        /// Numbers of a group; it divides the rows.
        group: usize,
    },
}

impl Format {
    /// The name in reports and in the names of kernels.
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

    /// Bytes of `rows` rows of `cols` numbers, their scales included.
    pub fn bytes(self, rows: usize, cols: usize) -> usize {
        let scales = self.scales(rows, cols) * self.align();
        match self {
            Self::F16 | Self::Bf16 | Self::F32 => rows * cols * self.align(),
            _ => scales + self.zeros(rows, cols) + self.code_bytes(rows, cols),
        }
    }

    /// Bytes of the numbers alone, without what groups share.
    pub fn code_bytes(self, rows: usize, cols: usize) -> usize {
        match self {
            Self::F16 | Self::Bf16 | Self::F32 => rows * cols * self.align(),
            Self::Q8 | Self::W8A16 { .. } => rows * cols,
            Self::Q4 { .. } | Self::Awq { .. } => rows * cols / 2,
        }
    }

    /// Number of scales.
    pub fn scales(self, rows: usize, cols: usize) -> usize {
        match self {
            Self::F16 | Self::Bf16 | Self::F32 => 0,
            Self::Q8 => rows,
            Self::Q4 { group } | Self::Awq { group } | Self::W8A16 { group } => {
                rows * (cols / group)
            }
        }
    }

    /// Number of zero points, a byte each.
    pub fn zeros(self, rows: usize, cols: usize) -> usize {
        match self {
            Self::Awq { .. } => self.scales(rows, cols),
            _ => 0,
        }
    }

    /// Whether numbers share scales.
    pub fn is_integer(self) -> bool {
        !matches!(self, Self::F16 | Self::Bf16 | Self::F32)
    }

    /// Readers take whole units: the numbers must start at a multiple of so many bytes.
    pub fn align(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 | Self::Q4 { .. } | Self::Awq { .. } | Self::W8A16 { .. } => 2,
            Self::F32 | Self::Q8 => 4,
        }
    }

    /// Numbers in an access of 16 bytes.
    pub fn lanes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 | Self::F32 => VECTOR / self.align(),
            Self::Q8 | Self::W8A16 { .. } => VECTOR,
            Self::Q4 { .. } | Self::Awq { .. } => 2 * VECTOR,
        }
    }

    /// Whether the same kernels read both: formats that differ in nothing or in the size of their groups.
    pub fn is_alike(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    /// Numbers from one row to the next on a device: a row is a multiple of 16 bytes.
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

/// The formats that an executor works in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    /// Of matrices of weights.
    pub weights: Format,
    /// Of activations.
    pub activations: Dtype,
    /// Of keys and values.
    pub cache: Dtype,
}

/// Everything in one format.
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
