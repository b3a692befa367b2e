//! Matrix products with weights in their stored format.

use super::buffer::{Buffer, Weight};
use super::columns::Columns;
use super::numbers::Matrix;
use super::q8;
use super::simd::Isa;
use super::{Cpu, NUMBER};
use crate::Result;
use crate::config::Activation;
use crate::format::Format;
use crate::ops::cost::{self, Cost};
use crate::ops::memory::{Meter, Purpose};
use crate::ops::{DECODE_ROWS, Extent, Linear, MatmulOps, Norm};
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Rows of weights that a thread widens at a time.
const PANEL: usize = 128;

/// Bytes of scratch for a product of `[m, k]` with `[n, k]ᵀ`.
pub(crate) fn scratch_bytes(m: usize, n: usize, k: usize, weights: Format) -> usize {
    let threads = rayon::current_num_threads();
    let numbers = match weights {
        Format::Q8 => return q8::scratch_bytes(m, n, k),
        _ if weights.is_integer() && m <= DECODE_ROWS => m * n + threads * k,
        _ if m <= DECODE_ROWS => m * n,
        Format::F32 => 0,
        _ => threads.min(n.div_ceil(PANEL)) * PANEL.min(n) * k,
    };
    numbers * size_of::<f32>()
}

/// The factor in the sigmoid of the quick GELU, x · sigmoid(1.702 · x).
const QUICK: f32 = 1.702;

/// How a product is stored.
#[derive(Clone, Copy)]
pub(super) enum Epilogue {
    /// out = f(product + bias).
    Store(Option<Activation>),
    /// out += product + bias.
    Add,
}

impl MatmulOps for Cpu {
    fn linear(
        &mut self,
        x: &Buffer,
        layer: &Linear<Weight>,
        activation: Option<Activation>,
    ) -> Result<Buffer> {
        let mut out = self.buffer(x.rows(), layer.weight.rows);
        self.product(x, layer, &mut out, Epilogue::Store(activation))?;
        Ok(out)
    }

    fn linears<const N: usize>(
        &mut self,
        x: &Buffer,
        layers: [&Linear<Weight>; N],
    ) -> Result<[Buffer; N]> {
        let mut outs = layers.map(|layer| self.buffer(x.rows(), layer.weight.rows));
        for (layer, out) in layers.into_iter().zip(&mut outs) {
            self.product(x, layer, out, Epilogue::Store(None))?;
        }
        Ok(outs)
    }

    fn linear_add(&mut self, sum: &mut Buffer, x: &Buffer, layer: &Linear<Weight>) -> Result<()> {
        self.product(x, layer, sum, Epilogue::Add)
    }

    fn normed_linear<const N: usize>(
        &mut self,
        x: &Buffer,
        norm: &Norm<Weight>,
        layers: [&Linear<Weight>; N],
    ) -> Result<[Buffer; N]> {
        let n = self.rms_norm(x, norm)?;
        self.linears(&n, layers)
    }

    fn normed_swiglu(
        &mut self,
        x: &Buffer,
        norm: &Norm<Weight>,
        gate: &Linear<Weight>,
        up: &Linear<Weight>,
    ) -> Result<Buffer> {
        let n = self.rms_norm(x, norm)?;
        let mut out = self.linear(&n, gate, Some(Activation::Silu))?;
        let up = self.linear(&n, up, None)?;
        let numbers = out.data.len();
        self.timed(
            "multiply",
            || Cost::bytes(3 * numbers * NUMBER),
            |_| {
                for (out, up) in out.data.iter_mut().zip(&up.data) {
                    *out *= up;
                }
                Ok(out)
            },
        )
    }

    fn logits(
        &mut self,
        x: &Buffer,
        norm: Option<&Norm<Weight>>,
        head: &Linear<Weight>,
    ) -> Result<Buffer> {
        let Some(norm) = norm else { return self.linear(x, head, None) };
        let [logits] = self.normed_linear(x, norm, [head])?;
        Ok(logits)
    }
}

impl Cpu {
    fn rms_norm(&mut self, x: &Buffer, norm: &Norm<Weight>) -> Result<Buffer> {
        self.pass("rms_norm", x.rows(), x.cols(), |out| super::rows::rms_norm(x, norm, out))
    }

    fn product(
        &mut self,
        x: &Buffer,
        layer: &Linear<Weight>,
        out: &mut Buffer,
        epilogue: Epilogue,
    ) -> Result<()> {
        let Weight { rows: n, cols: k, .. } = layer.weight;
        let (name, of): (_, cost::Product) = match epilogue {
            Epilogue::Store(_) => ("linear", cost::linear),
            Epilogue::Add => ("linear_add", cost::linear_add),
        };
        let cost = || of(x.rows(), n, k, NUMBER, layer.weight.bytes());
        self.timed(name, cost, |cpu| linear(&cpu.meter, x, layer, out, epilogue))
    }
}

/// Stores x·Wᵀ in `out` `[m, n]` as the epilogue says.
pub(super) fn linear(
    meter: &Arc<Meter>,
    x: &Buffer,
    layer: &Linear<Weight>,
    out: &mut Buffer,
    epilogue: Epilogue,
) -> Result<()> {
    let (m, n, k) = (x.rows(), layer.weight.rows, layer.weight.cols);
    assert_eq!((x.cols(), out.rows(), out.cols()), (k, m, n), "shapes of a linear layer");
    let bias = layer.bias.as_ref().map(Weight::vector).transpose()?;
    let scratch = scratch_bytes(m, n, k, layer.weight.format());
    let _scratch = meter.charge(Purpose::Workspace, scratch);
    match layer.weight.matrix() {
        _ if m == 0 => {}
        Matrix::Q8(w) => w.linear(x, bias, out, epilogue),
        w if m <= DECODE_ROWS => by_dots(x, w, bias, out, epilogue),
        w => by_panels(x, w, bias, out, epilogue),
    }
    Ok(())
}

fn finish(value: f32, old: f32, bias: f32, epilogue: Epilogue) -> f32 {
    match epilogue {
        Epilogue::Store(activation) => apply(activation, value + bias),
        Epilogue::Add => old + (value + bias),
    }
}

/// Stored rows that one task of [`by_dots`] multiplies.
const TASK: usize = 16;

/// Multiplies stored rows, widened in registers, with all rows of `x`.
fn by_dots(x: &Buffer, w: Matrix<'_>, bias: Option<&[f32]>, out: &mut Buffer, epilogue: Epilogue) {
    let (m, n, k) = (x.rows(), out.cols(), x.cols());
    let isa = Isa::best();
    let mut products = vec![0.0f32; n * m];
    products.par_chunks_mut(TASK * m).enumerate().for_each_init(Vec::new, |wide, (task, sums)| {
        let first = task * TASK;
        w.dots(isa, first..first + sums.len() / m, &x.data, k, sums, wide);
    });
    for (column, sums) in products.chunks_exact(m).enumerate() {
        let bias = bias.map_or(0.0, |b| b[column]);
        for (row, &sum) in sums.iter().enumerate() {
            let out = &mut out.data[row * n + column];
            *out = finish(sum, *out, bias, epilogue);
        }
    }
}

/// Widens panels of stored rows into a buffer for each thread, and multiplies them with `gemm`.
fn by_panels(
    x: &Buffer,
    w: Matrix<'_>,
    bias: Option<&[f32]>,
    out: &mut Buffer,
    epilogue: Epilogue,
) {
    let (m, n, k) = (x.rows(), out.cols(), x.cols());
    let add = matches!(epilogue, Epilogue::Add);
    let base = Columns::of(out);
    let isa = Isa::best();
    let panels = n.div_ceil(PANEL);
    // One task for each thread, so that there is one buffer for each thread.
    let next = AtomicUsize::new(0);
    let threads = rayon::current_num_threads().min(panels);
    (0..threads).into_par_iter().for_each(|_| {
        let mut wide = match w.in_place(0..0) {
            Some(_) => Vec::new(),
            None => vec![0.0f32; PANEL.min(n) * k],
        };
        loop {
            let panel = next.fetch_add(1, Relaxed);
            if panel >= panels {
                break;
            }
            let first = panel * PANEL;
            let width = PANEL.min(n - first);
            let rows = first..first + width;
            let weights = match w.in_place(rows.clone()) {
                Some(weights) => weights,
                None => {
                    w.widen(isa, rows, &mut wide[..width * k]);
                    &wide[..width * k]
                }
            };
            // SAFETY: `x` is m×k and `weights` width×k, both row-major and not written here; the destination is
            // m rows of stride n, columns first..first+width, which no other panel touches and which lie in `out`.
            unsafe {
                gemm::gemm(
                    m,
                    width,
                    k,
                    base.get().add(first),
                    1,
                    n as isize,
                    add,
                    x.data.as_ptr(),
                    1,
                    k as isize,
                    weights.as_ptr(),
                    k as isize,
                    1,
                    1.0,
                    1.0,
                    false,
                    false,
                    false,
                    gemm::Parallelism::None,
                );
            }
            let activation = match epilogue {
                Epilogue::Store(activation) => activation,
                Epilogue::Add => None,
            };
            if bias.is_none() && activation.is_none() {
                continue;
            }
            for row in 0..m {
                // SAFETY: columns first..first+width of one row, as above.
                let out = unsafe {
                    std::slice::from_raw_parts_mut(base.get().add(row * n + first), width)
                };
                if let Some(bias) = bias {
                    for (out, bias) in out.iter_mut().zip(&bias[first..]) {
                        *out += bias;
                    }
                }
                activate(isa, activation, out);
            }
        }
    });
}

/// x ⟵ f(x), number by number.
pub(super) fn activate(isa: Isa, activation: Option<Activation>, x: &mut [f32]) {
    match activation {
        None => {}
        Some(Activation::QuickGelu) => isa.gate(x, QUICK),
        Some(Activation::Silu) => isa.gate(x, 1.0),
        Some(Activation::Gelu | Activation::GeluTanh) => {
            x.iter_mut().for_each(|x| *x = apply(activation, *x));
        }
    }
}

fn apply(activation: Option<Activation>, x: f32) -> f32 {
    match activation {
        None => x,
        Some(Activation::QuickGelu) => x / (1.0 + (-QUICK * x).exp()),
        Some(Activation::Gelu) => 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
        Some(Activation::GeluTanh) => {
            const ROOT: f32 = 0.797_884_6;
            0.5 * x * (1.0 + (ROOT * (x + 0.044715 * x * x * x)).tanh())
        }
        Some(Activation::Silu) => x / (1.0 + (-x).exp()),
    }
}
