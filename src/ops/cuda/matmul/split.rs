//! In how many parts a product of more than a few rows is made.

use crate::format::Format;
use crate::ops::cuda::abi::HIRED_GEMM_PARTS;

/// How the rows of x and of the weights are divided among blocks whose sums are added afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Equal ones.
    pub parts: usize,
}

/// Parts are multiples of so many numbers: no format pads such rows, every access of 16 bytes fits, and groups are whole.
fn unit(weights: Format) -> usize {
    match weights {
        Format::Q4 { group } | Format::Awq { group } | Format::W8A16 { group } => group,
        Format::F16 | Format::Bf16 | Format::F32 | Format::Q8 => 16,
    }
}

impl Split {
    /// All at once.
    pub const ONE: Self = Self { parts: 1 };

    /// How products of so many rows are made, `widest` the most columns that one of their weights makes.
    ///
    /// It depends on nothing else but the size of groups of integers, neither on the GPU nor on the other products of the launch: a product has the same bits on
    /// every run, on all GPUs of a code path, with a weight alone and beside others of at most its width. It has other
    /// bits with another number of rows where that makes another split. Of a request whose number of rows is known only
    /// after selection all is made in one part: its plan must have room for any fewer rows.
    ///
    /// Parts pay where one tile after another would leave most of a large card idle. Each costs a pass of its sums
    /// through memory, a share of the product that goes with 1 / its length: so few tiles are divided into short parts, a
    /// few more only into long ones. Predicted gains: 60 rows of 4096 from 4096 columns 1.4 (P40), 0.9 (T4), 1.9 (H200);
    /// 636 rows of 4096 from 11008 1.06, 0.9, 1.3.
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

    /// Bytes of the sums of all parts, of so many columns together; nothing where there is one part.
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
        // Prompts of text: all weights of a 7B model.
        assert_eq!((parts(60, 4096, 4096), parts(60, 4096, 11008)), (4, 4));
        assert_eq!((parts(60, 11008, 4096), parts(9, 1024, 4096)), (1, 4));
        // Of an image: only the product with long rows.
        assert_eq!((parts(636, 4096, 4096), parts(636, 4096, 11008)), (1, 4));
        assert_eq!((parts(2988, 4096, 4096), parts(2988, 4096, 11008)), (1, 1));
        // The vision tower: the second half of the MLP of one tile.
        assert_eq!(
            (parts(577, 1024, 1024), parts(577, 1024, 4096), parts(2885, 1024, 4096)),
            (1, 4, 1)
        );
        assert_eq!((parts(60, 24, 2112), parts(60, 24, 2104), parts(60, 24, 2047)), (2, 1, 1));
        // Groups stay whole.
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
