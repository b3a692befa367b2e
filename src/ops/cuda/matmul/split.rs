//! Split-K: into how many parts the sums of a GEMM are divided.

use crate::format::Format;
use crate::ops::cuda::abi::HIRED_GEMM_PARTS;

/// How the sums of a product are divided among blocks; another kernel adds the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Number of parts, of equal length.
    pub parts: usize,
}

/// Parts are multiples of this many numbers: rows of such a length have no padding in any format, accesses of 16 bytes
/// fit, and no group is divided.
fn unit(weights: Format) -> usize {
    match weights {
        Format::Q4 { group } | Format::Awq { group } | Format::W8A16 { group } => group,
        Format::F16 | Format::Bf16 | Format::F32 | Format::Q8 => 16,
    }
}

impl Split {
    /// No split.
    pub const ONE: Self = Self { parts: 1 };

    /// The split of a product of `rows` rows, where `widest` is the largest number of columns of its weights.
    ///
    /// It depends on nothing else but the size of groups of integers, neither on the GPU nor on the other products of
    /// the launch. So a product has the same bits on every run and on all GPUs of a code path, alone and beside
    /// products that are not wider. Another number of rows can give another split and other bits. A request whose
    /// number of rows is known only after its selection uses no split, because its plan must have enough memory for any
    /// smaller number of rows.
    ///
    /// A split pays where the tiles of a product would leave most of a large GPU idle. Its cost is a pass of the
    /// partial sums through memory, which is a share of the product's time proportional to 1 / inner. So products of
    /// few tiles are split into short parts, and those of a few more tiles only into long ones. Predicted speed-ups: 60
    /// rows of 4096 from 4096 columns 1.4 (P40), 0.9 (T4), 1.9 (H200); 636 rows of 4096 from 11008 1.06, 0.9, 1.3.
    pub fn of(rows: usize, widest: usize, inner: usize, weights: Format) -> Self {
        const EDGE: usize = 128;
        let least = match rows.div_ceil(EDGE) * widest.div_ceil(EDGE) {
            0..=48 => 1024,
            49..=160 => 2560,
            _ => return Self::ONE,
        };
        let fits =
            |parts: &usize| inner.is_multiple_of(parts * unit(weights)) && inner / parts >= least;
        let parts = (2..=HIRED_GEMM_PARTS as usize).rev().find(fits);
        parts.map_or(Self::ONE, |parts| Self { parts })
    }

    /// Bytes of the partial sums of products with `cols` columns together; `None` without a split.
    pub fn bytes(&self, rows: usize, cols: usize) -> Option<usize> {
        (self.parts > 1).then(|| self.parts * rows * cols * size_of::<f32>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_tiles_are_divided_by_their_shape_alone() {
        let parts = |rows, widest, inner| Split::of(rows, widest, inner, Format::F16).parts;
        // Text prompts: all weights of a 7B model.
        assert_eq!((parts(60, 4096, 4096), parts(60, 4096, 11008)), (4, 4));
        assert_eq!((parts(60, 11008, 4096), parts(9, 1024, 4096)), (1, 4));
        // Prompts with an image: only the product with long rows.
        assert_eq!((parts(636, 4096, 4096), parts(636, 4096, 11008)), (1, 4));
        assert_eq!((parts(2988, 4096, 4096), parts(2988, 4096, 11008)), (1, 1));
        // The vision tower: the second half of the MLP, for one tile.
        assert_eq!(
            (parts(577, 1024, 1024), parts(577, 1024, 4096), parts(2885, 1024, 4096)),
            (1, 4, 1)
        );
        assert_eq!((parts(60, 24, 2112), parts(60, 24, 2104), parts(60, 24, 2047)), (2, 1, 1));
        // No group is divided.
        let q4 = |inner, group| Split::of(60, 4096, inner, Format::Q4 { group }).parts;
        assert_eq!((q4(11008, 128), q4(11008, 64), q4(4096, 128)), (2, 4, 4));
        assert_eq!(Split::of(60, 4096, 4096, Format::F16).bytes(60, 4096), Some(4 * 60 * 4096 * 4));
        assert_eq!(Split::of(60, 4096, 1024, Format::F16).bytes(60, 4096), None);
    }

    #[test]
    fn parts_are_equal_and_whole() {
        for inner in 1..20000 {
            for (rows, widest) in [(9, 8), (200, 4096), (636, 4096), (3000, 4096)] {
                let Split { parts } = Split::of(rows, widest, inner, Format::F16);
                assert!((1..=HIRED_GEMM_PARTS as usize).contains(&parts));
                assert!(parts == 1 || inner.is_multiple_of(parts * 16), "{inner}");
            }
        }
    }
}
