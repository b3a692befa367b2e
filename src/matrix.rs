//! Products of dense f32 matrices: A·Bᵀ for cosine similarities, A·B for attention.

use gemm::Parallelism;

/// A matrix inside a larger buffer: `rows × cols`, consecutive rows `stride` elements apart.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
}

impl<'a> View<'a> {
    pub fn new(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * stride + cols <= data.len(), "a view leaves its buffer");
        Self { data, rows, cols, stride }
    }

    /// A view of a whole matrix whose rows are contiguous.
    pub fn dense(data: &'a [f32], cols: usize) -> Self {
        Self::new(data, data.len() / cols.max(1), cols, cols)
    }

    pub fn rows(&self, first: usize, rows: usize) -> Self {
        Self::new(&self.data[first * self.stride..], rows, self.cols, self.stride)
    }
}

/// Computes out[i, j] = scale · Σ a[i, :] · b[j, :] on the calling thread; `out` is row-major and dense.
pub fn similarities(a: View<'_>, b: View<'_>, scale: f32, out: &mut [f32]) {
    assert!(a.cols == b.cols && out.len() >= a.rows * b.rows);
    // SAFETY: the views are checked against their buffers, `out` holds a.rows × b.rows numbers.
    unsafe {
        gemm::gemm(
            a.rows,
            b.rows,
            a.cols,
            out.as_mut_ptr(),
            1,
            b.rows as isize,
            false,
            a.data.as_ptr(),
            1,
            a.stride as isize,
            b.data.as_ptr(),
            b.stride as isize,
            1,
            0.0,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Computes out[i, :] = scale · Σ a[i, j] · b[j, :] on the calling thread; rows of `out` are `stride` elements apart.
///
/// Rows of `b` are loaded without rearranging, which makes this faster than [`similarities`] if `a` has few rows.
///
/// # Safety
/// `out` must be valid for writes of `a.rows` rows of `b.cols` elements at that stride, and nothing else may write to
/// it meanwhile.
pub unsafe fn mix(a: View<'_>, b: View<'_>, scale: f32, out: *mut f32, stride: usize) {
    assert_eq!(a.cols, b.rows, "columns of the one factor, rows of the other");
    // SAFETY: the views are checked against their buffers, `out` is the caller's promise.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out,
            1,
            stride as isize,
            false,
            a.data.as_ptr(),
            1,
            a.stride as isize,
            b.data.as_ptr(),
            1,
            b.stride as isize,
            0.0,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Rows transposed at a time: a cache line holds this many elements.
const TILE: usize = 16;

/// Computes out[j, i] = x[i, j]; rows of `out` are `stride` elements apart.
pub fn transpose(x: View<'_>, out: &mut [f32], stride: usize) {
    assert!(x.rows <= stride && (x.cols == 0 || (x.cols - 1) * stride + x.rows <= out.len()));
    for first in (0..x.rows).step_by(TILE) {
        let rows = TILE.min(x.rows - first);
        for col in 0..x.cols {
            let out = &mut out[col * stride + first..][..rows];
            for (i, out) in out.iter_mut().enumerate() {
                *out = x.data[(first + i) * x.stride + col];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_with_the_transpose_is_a_table_of_similarities() {
        for (rows, keys, width) in [(1, 1, 1), (3, 17, 6), (40, 33, 24), (2, 100, 64)] {
            let numbers = |len: usize| (0..len).map(|i| (i % 11) as f32 - 5.0).collect::<Vec<_>>();
            let (a, b) = (numbers(rows * width), numbers(keys * (width + 2)));
            let (a, b) = (View::dense(&a, width), View::new(&b, keys, width, width + 2));
            let mut want = vec![0.0; rows * keys];
            similarities(a, b, 0.5, &mut want);
            let stride = keys + 3;
            let mut turned = vec![f32::NAN; width * stride];
            transpose(b, &mut turned, stride);
            let mut got = vec![f32::NAN; rows * keys];
            let turned = View::new(&turned, width, keys, stride);
            // SAFETY: `got` holds that many rows and columns.
            unsafe { mix(a, turned, 0.5, got.as_mut_ptr(), keys) };
            assert_eq!(got, want, "{rows} by {keys}");
        }
    }
}
