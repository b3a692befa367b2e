//! Products A·Bᵀ of dense f32 matrices, for likenesses and logits of attention.

use gemm::Parallelism;

/// A matrix inside a larger one: `rows × cols`, rows `stride` apart.
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

    /// A whole matrix, its rows side by side.
    pub fn dense(data: &'a [f32], cols: usize) -> Self {
        Self::new(data, data.len() / cols.max(1), cols, cols)
    }

    pub fn rows(&self, first: usize, rows: usize) -> Self {
        Self::new(&self.data[first * self.stride..], rows, self.cols, self.stride)
    }
}

/// out[i, j] = scale · Σ a[i, :] · b[j, :] on this thread, `out` row-major and dense.
pub fn similarities(a: View<'_>, b: View<'_>, scale: f32, out: &mut [f32]) {
    multiply(a, b, scale, out, Parallelism::None);
}

/// The same on all threads.
pub fn similarities_on_all(a: View<'_>, b: View<'_>, scale: f32, out: &mut [f32]) {
    multiply(a, b, scale, out, Parallelism::Rayon(0));
}

fn multiply(a: View<'_>, b: View<'_>, scale: f32, out: &mut [f32], threads: Parallelism) {
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
            threads,
        );
    }
}
