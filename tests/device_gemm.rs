//! Products of many rows on the device, on the emulator: right, and the same bits by every tile and beside any rows.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "support/card.rs"]
mod card;
#[path = "support/emulator.rs"]
mod emulator;
#[path = "support/numbers.rs"]
mod numbers;
#[path = "support/params.rs"]
mod params;

use card::{Card, ORDERS};
use emulator::{Build, Emulator};
use hired::format::Dtype;
use hired::ops::cuda::matmul::choose::Kernels;
use hired::ops::cuda::matmul::gemm::{Launches, Product, Split};
use numbers::{Numbers, download, upload};
use params::GemmParams;

const ADD: u32 = 1;
const GATE: u32 = 2;

#[derive(Debug, Clone, Copy)]
struct Case {
    dtype: Dtype,
    /// Rows, columns, inner.
    shape: [usize; 3],
    /// Columns of a second and a third weight.
    more: [usize; 2],
    /// Added to the widths of x, of the weights and of the outs.
    gaps: [usize; 3],
    /// All start so many numbers behind a multiple of 16.
    shift: usize,
    bias: bool,
    activation: u32,
    epilogue: u32,
    /// Parts of inner.
    parts: usize,
}

/// Of the three weights, where they are there.
struct Data {
    x: Vec<f32>,
    w: [Vec<f32>; 3],
    bias: [Vec<f32>; 3],
    old: [Vec<f32>; 3],
}

impl Case {
    fn new(dtype: Dtype, shape: [usize; 3]) -> Self {
        let (bias, activation, epilogue) = (true, 0, 0);
        let (more, gaps, shift, parts) = ([0; 2], [0; 3], 0, 1);
        Self { dtype, shape, more, gaps, shift, bias, activation, epilogue, parts }
    }

    /// With gate and up of as many columns.
    fn gated(self) -> Self {
        Self { epilogue: GATE, more: [self.shape[1], 0], ..self }
    }

    fn product(&self) -> Product {
        let [rows, cols, inner] = self.shape;
        let cols = [cols, self.more[0], self.more[1]];
        let [x_stride, w_stride] = [inner + self.gaps[0], inner + self.gaps[1]];
        let out_strides = cols.map(|cols| cols + self.gaps[2]);
        let (gated, aligned) = (self.epilogue == GATE, self.shift == 0);
        let split = Split { parts: self.parts };
        Product { rows, cols, gated, inner, x_stride, w_stride, out_strides, aligned, split }
    }

    /// Outs that are written.
    fn outs(&self) -> usize {
        let product = self.product();
        if product.gated { 1 } else { product.cols.iter().filter(|&&cols| cols > 0).count() }
    }

    fn data(&self) -> Data {
        let Product { rows, cols, inner, x_stride, w_stride, out_strides, .. } = self.product();
        let mut numbers = Numbers(7);
        let x = numbers.matrix(rows, inner, x_stride, self.dtype);
        let w = cols.map(|cols| numbers.matrix(cols, inner, w_stride, self.dtype));
        let bias = cols.map(|cols| numbers.take(cols));
        let mut old = |i: usize| numbers.matrix(rows, cols[i], out_strides[i], self.dtype);
        Data { x, w, bias, old: [old(0), old(1), old(2)] }
    }

    /// Outs, gaps and all, of `rows` of the rows.
    fn run(
        &self,
        data: &Data,
        rows: std::ops::Range<usize>,
        launches: &Launches,
        order: (i32, u64, u8),
    ) -> Vec<Vec<f32>> {
        let card = Card::new(order);
        let Product { cols, inner, x_stride, w_stride, out_strides, split, .. } = self.product();
        let x = &data.x[rows.start * x_stride..rows.end * x_stride];
        let old = |i: usize| &data.old[i][rows.start * out_strides[i]..rows.end * out_strides[i]];
        let there = [0, 1, 2].map(|i| cols[i] > 0);
        let up = |i: usize| there[i].then(|| upload(&card, &data.w[i], self.dtype, self.shift));
        let bias =
            |i: usize| there[i].then(|| upload(&card, &data.bias[i], Dtype::F32, self.shift));
        let out = |i: usize| {
            if i < self.outs() { upload(&card, old(i), self.dtype, self.shift) } else { 0 }
        };
        let params = GemmParams {
            x: upload(&card, x, self.dtype, self.shift),
            weights: [0, 1, 2].map(|i| up(i).unwrap_or(0)),
            biases: [0, 1, 2].map(|i| if self.bias { bias(i).unwrap_or(0) } else { 0 }),
            outs: [0, 1, 2].map(out),
            sums: split
                .bytes(rows.len(), cols.iter().sum())
                .map_or(0, |bytes| card.blank::<u8>(bytes)),
            cols: cols.map(|n| n as u32),
            out_strides: out_strides.map(|n| n as u32),
            rows: rows.len() as u32,
            inner: (inner / split.parts) as u32,
            x_stride: x_stride as u32,
            w_stride: w_stride as u32,
            parts: split.parts as u32,
            activation: self.activation,
            epilogue: self.epilogue,
            ..Default::default()
        };
        card.run(&launches.product, (&raw const params).cast());
        if let Some(sum) = &launches.sum {
            card.run(sum, (&raw const params).cast());
        }
        let read = |i: usize| download(&card, params.outs[i], old(i).len(), self.dtype);
        (0..self.outs()).map(read).collect()
    }

    /// A sum, and the size of what it adds.
    fn sum(&self, data: &Data, which: usize, row: usize, column: usize) -> (f64, f64) {
        let Product { inner, x_stride, w_stride, .. } = self.product();
        let x = &data.x[row * x_stride..][..inner];
        let w = &data.w[which][column * w_stride..][..inner];
        let parts = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
        let bias = if self.bias { f64::from(data.bias[which][column]) } else { 0.0 };
        (parts.clone().sum::<f64>() + bias, parts.map(f64::abs).sum::<f64>() + bias.abs())
    }

    /// What it should be, and how much rounding can do to it.
    fn truth(&self, data: &Data, which: usize, row: usize, column: usize) -> (f64, f64) {
        let (sum, size) = self.sum(data, which, row, column);
        let old = f64::from(data.old[which][row * self.product().out_strides[which] + column]);
        let silu = |x: f64| x / (1.0 + (-x).exp());
        match (self.epilogue, self.activation) {
            (ADD, _) => (old + sum, size + old.abs()),
            (GATE, _) => {
                let (up, other) = self.sum(data, 1, row, column);
                (silu(sum) * up, 2.0 * size * other)
            }
            (_, 0) => (sum, size),
            (_, 1) => (sum / (1.0 + (-1.702 * sum).exp()), 2.0 * size),
            (_, 2) => {
                (0.5 * sum * (1.0 + libm::erf(sum * std::f64::consts::FRAC_1_SQRT_2)), 2.0 * size)
            }
            _ => (silu(sum), 2.0 * size),
        }
    }

    /// By every kernel that takes it; the largest error beside the sum of absolute products.
    fn check(&self, path: u32, turn: usize) -> f64 {
        let kernels = Kernels::of(path, self.dtype.into()).unwrap();
        let data = self.data();
        let product = self.product();
        let order = |n: usize| ORDERS[(turn + n) % ORDERS.len()];
        let mut worst = 0.0f64;
        let mut first: Option<Vec<Vec<f32>>> = None;
        for (n, launches) in kernels.every_gemm(&product, 1 + turn % 9).iter().enumerate() {
            let outs = self.run(&data, 0..product.rows, launches, order(n));
            let bits = |out: &[f32]| out.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            if let Some(first) = &first {
                let same = outs.iter().zip(first).all(|(out, first)| bits(out) == bits(first));
                assert!(same, "{self:?} {launches:?}: other bits");
                continue;
            }
            for (which, out) in outs.iter().enumerate() {
                worst = worst.max(self.check_out(&data, launches, which, out));
            }
            // Beside fewer rows a row is the same.
            let (from, to) = (product.rows / 3, product.rows.div_ceil(2));
            let fewer = Product { rows: to - from, ..product };
            let launches = kernels.every_gemm(&fewer, 1).pop().expect("one takes all");
            let some = self.run(&data, from..to, &launches, order(n + 1));
            for (which, (all, some)) in outs.iter().zip(&some).enumerate() {
                let stride = product.out_strides[which];
                let same = bits(some) == bits(&all[from * stride..to * stride]);
                assert!(same, "{self:?} {launches:?}: other bits in {from}..{to}");
            }
            first = Some(outs);
        }
        worst
    }

    /// The largest error of one out.
    fn check_out(&self, data: &Data, launches: &Launches, which: usize, out: &[f32]) -> f64 {
        let product = self.product();
        let mut worst = 0.0f64;
        for (i, &y) in out.iter().enumerate() {
            let stride = product.out_strides[which];
            let (row, column) = (i / stride, i % stride);
            if column >= product.cols[which] {
                assert!(y.is_nan(), "{self:?} {launches:?}: wrote beside out");
                continue;
            }
            let (truth, size) = self.truth(data, which, row, column);
            let stored = match self.dtype {
                Dtype::F32 => 0.0,
                _ => truth.abs() * 2f64.powi(-11) + 2f64.powi(-25),
            };
            let error = ((f64::from(y) - truth).abs() - stored) / size;
            worst = worst.max(error);
            let place = format!("out {which} row {row} column {column}");
            assert!(error < 1e-6, "{self:?} {launches:?} {place}: {y} for {truth}");
        }
        worst
    }
}

fn on_emulator(build: Build, test: &str) {
    let emulator = Emulator::build(build, &[]);
    for sm in ["61", "75", "80"] {
        let output = emulator.child(test, &[("HIRED_EMULATOR_SM", sm)]);
        let words = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "sm_{sm}: {}", String::from_utf8_lossy(&words));
        print!("sm_{sm}: {}", String::from_utf8_lossy(&words));
    }
}

/// The formats whose kernels differ from those of the path before.
fn formats(path: u32) -> &'static [Dtype] {
    if path == 61 { &[Dtype::F16, Dtype::F32] } else { &[Dtype::F16] }
}

fn path() -> u32 {
    std::env::var("HIRED_EMULATOR_SM").unwrap().parse().unwrap()
}

#[test]
fn device_multiplies_many_rows() {
    on_emulator(Build::Plain, "products_are_right");
}

#[test]
#[ignore = "runs on the emulator, started by device_multiplies_many_rows"]
fn products_are_right() {
    let mut worst = 0.0f64;
    let mut turn = 0;
    let mut check = |case: Case| {
        turn += 1;
        worst = worst.max(case.check(path(), turn));
    };
    for &dtype in formats(path()) {
        // One, primes, and around tiles and steps.
        for shape in [
            [1, 1, 1],
            [9, 8, 8],
            [13, 17, 19],
            [63, 64, 64],
            [64, 72, 16],
            [65, 63, 33],
            [127, 128, 32],
            [128, 136, 104],
            [129, 120, 24],
            [260, 200, 40],
            [20, 24, 328],
        ] {
            check(Case::new(dtype, shape));
        }
        let base = Case::new(dtype, [70, 72, 72]);
        for activation in 0..4 {
            check(Case { activation, bias: activation % 2 == 0, ..base });
            check(Case { activation, gaps: [1, 2, 3], ..base });
        }
        for case in [Case { epilogue: ADD, ..base }, base.gated()] {
            check(Case { gaps: [8, 16, 24], ..case });
            check(Case { parts: 3, ..case });
        }
        let odd = Case { bias: false, ..Case::new(dtype, [10, 131, 67]) };
        check(Case { epilogue: ADD, ..odd });
        check(odd.gated());
        // Tiles of several weights, each with its own remainder.
        check(Case { more: [64, 0], ..base });
        check(Case { more: [136, 8], gaps: [0, 8, 16], ..base });
        check(Case { more: [5, 67], bias: false, ..odd });
        // Parts: of several steps and of a piece of one, with padding behind them, and of several weights.
        check(Case { parts: 4, ..Case::new(dtype, [12, 40, 256]) });
        check(Case { parts: 3, more: [24, 16], ..Case::new(dtype, [66, 136, 240]) });
        check(Case { parts: 2, activation: 1, ..Case::new(dtype, [65, 63, 130]) });
        check(Case { parts: 2, gaps: [8, 8, 8], ..Case::new(dtype, [20, 72, 144]).gated() });
        check(Case { parts: 3, ..Case::new(dtype, [11, 13, 129]).gated() });
    }
    println!("largest error beside the sum of absolute products: {worst:.1e}");
}

#[test]
fn device_multiplies_many_rows_without_races() {
    on_emulator(Build::Races, "products_are_clean");
}

#[test]
fn device_multiplies_many_rows_within_bounds() {
    on_emulator(Build::Asan, "products_are_clean");
}

#[test]
#[ignore = "runs on the emulator, started by the tests of races and bounds"]
fn products_are_clean() {
    for &dtype in formats(path()) {
        let base = Case::new(dtype, [66, 136, 112]);
        base.check(path(), 1);
        Case { epilogue: ADD, gaps: [8, 8, 8], ..base }.check(path(), 2);
        Case { more: [40, 8], parts: 2, ..base }.check(path(), 3);
        Case { parts: 2, ..base.gated() }.check(path(), 4);
        base.gated().check(path(), 5);
    }
}
