//! Products of many rows on the device, on the emulator: right, and the same bits by every tile and beside any rows.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "support/card.rs"]
mod card;
#[path = "support/emulator.rs"]
mod emulator;

use card::{Card, ORDERS};
use emulator::{Build, Emulator};
use half::f16;
use hired::ops::cuda::gemm::{Product, every};
use hired::ops::cuda::launch::{Launch, Number};

#[repr(C)]
struct Params {
    x: u64,
    w: u64,
    bias: u64,
    out: u64,
    rows: u32,
    cols: u32,
    inner: u32,
    x_stride: u32,
    w_stride: u32,
    out_stride: u32,
    activation: u32,
    epilogue: u32,
}

const ADD: u32 = 1;
const GATE: u32 = 2;

/// Numbers in [-1, 1) from a seed.
struct Numbers(u64);

impl Numbers {
    fn take(&mut self, count: usize) -> Vec<f32> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// `[rows, stride]`, of which `cols` count; what lies between is NaN. Rounded to the format.
    fn matrix(&mut self, rows: usize, cols: usize, stride: usize, number: Number) -> Vec<f32> {
        let mut values = self.take(rows * stride);
        for (i, x) in values.iter_mut().enumerate() {
            *x = if i % stride < cols { rounded(*x, number) } else { f32::NAN };
        }
        values
    }
}

fn rounded(x: f32, number: Number) -> f32 {
    if number == Number::F16 { f16::from_f32(x).to_f32() } else { x }
}

/// Behind `shift` numbers that are not for anyone.
fn upload(card: &Card, values: &[f32], number: Number, shift: usize) -> u64 {
    let all: Vec<f32> =
        std::iter::repeat_n(f32::NAN, shift).chain(values.iter().copied()).collect();
    let at = match number {
        Number::F32 => card.upload(&all),
        Number::F16 => {
            card.upload(&all.iter().map(|&x| f16::from_f32(x).to_bits()).collect::<Vec<_>>())
        }
    };
    at + (shift * number.size()) as u64
}

fn download(card: &Card, at: u64, count: usize, number: Number) -> Vec<f32> {
    match number {
        Number::F32 => card.download(at, count),
        Number::F16 => card
            .download::<u16>(at, count)
            .into_iter()
            .map(|b| f16::from_bits(b).to_f32())
            .collect(),
    }
}

#[derive(Debug, Clone, Copy)]
struct Case {
    number: Number,
    /// Rows, columns, inner.
    shape: [usize; 3],
    /// Added to the widths of x, w and out.
    gaps: [usize; 3],
    /// All start so many numbers behind a multiple of 16.
    shift: usize,
    bias: bool,
    activation: u32,
    epilogue: u32,
}

struct Data {
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
    old: Vec<f32>,
}

impl Case {
    fn new(number: Number, shape: [usize; 3]) -> Self {
        let (bias, activation, epilogue) = (true, 0, 0);
        Self { number, shape, gaps: [0; 3], shift: 0, bias, activation, epilogue }
    }

    fn product(&self) -> Product {
        let [rows, cols, inner] = self.shape;
        let [x_stride, w_stride, out_stride] =
            [inner + self.gaps[0], inner + self.gaps[1], cols + self.gaps[2]];
        let aligned = self.shift == 0;
        Product { rows, cols, inner, x_stride, w_stride, out_stride, aligned }
    }

    fn data(&self) -> Data {
        let Product { rows, cols, inner, x_stride, w_stride, out_stride, .. } = self.product();
        let mut numbers = Numbers(7);
        Data {
            x: numbers.matrix(rows, inner, x_stride, self.number),
            w: numbers.matrix(cols, inner, w_stride, self.number),
            bias: numbers.take(cols),
            old: numbers.matrix(rows, cols, out_stride, self.number),
        }
    }

    /// Out, gaps and all, of `rows` of the rows.
    fn run(
        &self,
        data: &Data,
        rows: std::ops::Range<usize>,
        launch: &Launch,
        order: (i32, u64, u8),
    ) -> Vec<f32> {
        let card = Card::new(order);
        let Product { cols, inner, x_stride, w_stride, out_stride, .. } = self.product();
        let x = &data.x[rows.start * x_stride..rows.end * x_stride];
        let old = &data.old[rows.start * out_stride..rows.end * out_stride];
        let out = upload(&card, old, self.number, self.shift);
        let params = Params {
            x: upload(&card, x, self.number, self.shift),
            w: upload(&card, &data.w, self.number, self.shift),
            bias: if self.bias { upload(&card, &data.bias, Number::F32, self.shift) } else { 0 },
            out,
            rows: rows.len() as u32,
            cols: cols as u32,
            inner: inner as u32,
            x_stride: x_stride as u32,
            w_stride: w_stride as u32,
            out_stride: out_stride as u32,
            activation: self.activation,
            epilogue: self.epilogue,
        };
        card.run(launch, (&raw const params).cast());
        download(&card, out, old.len(), self.number)
    }

    /// What it should be, and how much rounding can do to it.
    fn truth(&self, data: &Data, row: usize, column: usize) -> (f64, f64) {
        let Product { inner, x_stride, w_stride, out_stride, .. } = self.product();
        let x = &data.x[row * x_stride..][..inner];
        let w = &data.w[column * w_stride..][..inner];
        let parts = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
        let bias = if self.bias { f64::from(data.bias[column]) } else { 0.0 };
        let sum = parts.clone().sum::<f64>() + bias;
        let size = parts.map(f64::abs).sum::<f64>() + bias.abs();
        let old = f64::from(data.old[row * out_stride + column]);
        let silu = |x: f64| x / (1.0 + (-x).exp());
        match (self.epilogue, self.activation) {
            (ADD, _) => (old + sum, size + old.abs()),
            (GATE, _) => (silu(old) * sum, 2.0 * size),
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
        let data = self.data();
        let product = self.product();
        let order = |n: usize| ORDERS[(turn + n) % ORDERS.len()];
        let mut worst = 0.0f64;
        let mut first: Option<Vec<f32>> = None;
        for (n, launch) in every(path, self.number, &product, 1 + turn % 9).iter().enumerate() {
            let out = self.run(&data, 0..product.rows, launch, order(n));
            let bits = |out: &[f32]| out.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            if let Some(first) = &first {
                assert!(bits(&out) == bits(first), "{self:?} {launch:?}: other bits");
                continue;
            }
            for (i, &y) in out.iter().enumerate() {
                let (row, column) = (i / product.out_stride, i % product.out_stride);
                if column >= product.cols {
                    assert!(y.is_nan(), "{self:?} {launch:?}: wrote beside out");
                    continue;
                }
                let (truth, size) = self.truth(&data, row, column);
                let stored = match self.number {
                    Number::F32 => 0.0,
                    Number::F16 => truth.abs() * 2f64.powi(-11) + 2f64.powi(-25),
                };
                let error = ((f64::from(y) - truth).abs() - stored) / size;
                worst = worst.max(error);
                let place = format!("row {row} column {column}");
                assert!(error < 1e-6, "{self:?} {launch:?} {place}: {y} for {truth}");
            }
            // Beside fewer rows a row is the same.
            let (from, to) = (product.rows / 3, product.rows.div_ceil(2));
            let fewer = Product { rows: to - from, ..product };
            let launch = every(path, self.number, &fewer, 1).pop().expect("one takes all");
            let some = self.run(&data, from..to, &launch, order(n + 1));
            let all = &out[from * product.out_stride..to * product.out_stride];
            assert!(bits(&some) == bits(all), "{self:?} {launch:?}: other bits in {from}..{to}");
            first = Some(out);
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
fn formats(path: u32) -> &'static [Number] {
    if path == 61 { &[Number::F16, Number::F32] } else { &[Number::F16] }
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
    for &number in formats(path()) {
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
            check(Case::new(number, shape));
        }
        let base = Case::new(number, [70, 72, 72]);
        for activation in 0..4 {
            check(Case { activation, bias: activation % 2 == 0, ..base });
            check(Case { activation, gaps: [1, 2, 3], ..base });
        }
        for epilogue in [ADD, GATE] {
            check(Case { epilogue, gaps: [8, 16, 24], ..base });
            check(Case { epilogue, shape: [10, 131, 67], bias: false, ..base });
        }
        for shift in [1, 2, 4] {
            check(Case { shift, ..base });
        }
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
    for &number in formats(path()) {
        let base = Case::new(number, [66, 136, 104]);
        base.check(path(), 1);
        Case { epilogue: ADD, gaps: [8, 8, 8], ..base }.check(path(), 2);
    }
}
