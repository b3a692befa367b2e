//! Products of a few rows on the device, on the emulator: right, and a row's bits those that it has alone.
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
use half::f16;
use hired::format::Dtype;
use hired::ops::cuda::launch::Launch;
use hired::ops::cuda::matmul::choose::Kernels;
use hired::ops::cuda::matmul::gemv::{Form, Gemv};
use numbers::{Numbers, download, upload};
use params::GemvParams;

#[derive(Debug, Clone, Copy)]
struct Case {
    dtype: Dtype,
    form: Form,
    inner: usize,
    /// Added to inner.
    gaps: [usize; 2],
    cols: [usize; 3],
    norm: bool,
    bias: bool,
    add: bool,
    activation: u32,
    /// x starts so many numbers behind a multiple of 16.
    shift: usize,
}

struct Data {
    x: Vec<f32>,
    norm: Vec<f32>,
    weights: Vec<Vec<f32>>,
    biases: Vec<Vec<f32>>,
    old: Vec<Vec<f32>>,
}

impl Case {
    fn out(&self) -> Dtype {
        if self.form == Form::Logits { Dtype::F32 } else { self.dtype }
    }

    fn outs(&self) -> usize {
        if self.form == Form::Gate { 1 } else { 3 }
    }

    fn data(&self, rows: usize) -> Data {
        let mut numbers = Numbers(7);
        let [x_stride, w_stride] = self.gaps.map(|gap| self.inner + gap);
        let scale =
            |cols: usize, data: &mut Numbers| data.matrix(cols, self.inner, w_stride, self.dtype);
        Data {
            x: numbers.matrix(rows, self.inner, x_stride, self.dtype),
            norm: numbers.take(self.inner),
            weights: self.cols.iter().map(|&cols| scale(cols, &mut numbers)).collect(),
            biases: self.cols.iter().map(|&cols| numbers.take(cols)).collect(),
            old: self
                .cols
                .iter()
                .map(|&cols| numbers.matrix(rows, cols, cols.max(1), self.out()))
                .collect(),
        }
    }

    fn launch(&self, rows: usize, path: u32) -> Launch {
        let [x_stride, w_stride] = self.gaps.map(|gap| self.inner + gap);
        let product = Gemv {
            form: self.form,
            rows,
            inner: self.inner,
            cols: self.cols,
            x_stride,
            w_stride,
            aligned: self.shift == 0,
        };
        Kernels::of(path, self.dtype.into()).unwrap().gemv(&product)
    }

    /// Outs of rows `from..to`.
    fn run(
        &self,
        data: &Data,
        from: usize,
        to: usize,
        path: u32,
        order: (i32, u64, u8),
    ) -> Vec<Vec<f32>> {
        let card = Card::new(order);
        let rows = to - from;
        let [x_stride, w_stride] = self.gaps.map(|gap| self.inner + gap);
        let mut x = vec![f32::NAN; self.shift];
        x.extend(&data.x[from * x_stride..to * x_stride]);
        let at = |i: usize| data.old[i][from * self.cols[i]..to * self.cols[i]].to_vec();
        let mut params = GemvParams {
            x: upload(&card, &x, self.dtype, 0) + (self.shift * self.dtype.size()) as u64,
            norm: if self.norm { card.upload(&data.norm) } else { 0 },
            cols: self.cols.map(|cols| cols as u32),
            rows: rows as u32,
            inner: self.inner as u32,
            x_stride: x_stride as u32,
            w_stride: w_stride as u32,
            activation: self.activation,
            epilogue: self.add.into(),
            inverse_inner: 1.0 / self.inner as f32,
            eps: 1e-5,
            ..GemvParams::default()
        };
        for i in (0..3).filter(|&i| self.cols[i] > 0) {
            params.weights[i] = upload(&card, &data.weights[i], self.dtype, 0);
            params.biases[i] = if self.bias { card.upload(&data.biases[i]) } else { 0 };
            params.outs[i] = upload(&card, &at(i), self.out(), 0);
        }
        let launch = self.launch(rows, path);
        assert_eq!(launch.grid[1..], [1, 1]);
        card.launch(
            &launch.kernel,
            launch.grid[0] as usize,
            launch.block,
            launch.shared as usize,
            params,
        );
        let outs = (0..self.outs()).filter(|&i| self.cols[i] > 0);
        outs.map(|i| download(&card, params.outs[i], rows * self.cols[i], self.out())).collect()
    }

    /// What it should be, and how large a number it is that loses a part of 1e-6 at most. Where `rounds` says so, the
    /// rows behind the norm are in fp16.
    fn truth(
        &self,
        data: &Data,
        row: usize,
        which: usize,
        column: usize,
        rounds: bool,
    ) -> (f64, f64) {
        let [x_stride, w_stride] = self.gaps.map(|gap| self.inner + gap);
        let x = &data.x[row * x_stride..][..self.inner];
        let square = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / self.inner as f64;
        let scale = if self.norm { 1.0 / (square + 1e-5).sqrt() } else { 1.0 };
        let product = |which: usize| {
            let w = &data.weights[which][column * w_stride..][..self.inner];
            let (mut sum, mut size, mut largest) = (0.0, 0.0, 0.0f64);
            for (k, (&x, &w)) in x.iter().zip(w).enumerate() {
                let norm = if self.norm { data.norm[k] } else { 1.0 };
                let mut y = scale * f64::from(x) * f64::from(norm);
                if rounds {
                    y = f16::from_f64(y).to_f64();
                }
                let part = y * f64::from(w);
                (sum, size, largest) = (sum + part, size + part.abs(), largest.max(part.abs()));
            }
            // The scale's last bit may take one of them to the other side of a rounding.
            if rounds {
                size += largest * 2f64.powi(-10) / 1e-6;
            }
            let bias = if self.bias { f64::from(data.biases[which][column]) } else { 0.0 };
            (sum + bias, size + bias.abs())
        };
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let (sum, size) = product(which);
        if self.form == Form::Gate {
            let (up, up_size) = product(1);
            return (silu(sum) * up, size * up.abs() + silu(sum).abs() * up_size + size * up_size);
        }
        if self.add {
            let old = f64::from(data.old[which][row * self.cols[which] + column]);
            return (old + sum, size + old.abs());
        }
        match self.activation {
            0 => (sum, size),
            1 => (sum / (1.0 + (-1.702 * sum).exp()), 2.0 * size),
            2 => (0.5 * sum * (1.0 + libm::erf(sum * std::f64::consts::FRAC_1_SQRT_2)), 2.0 * size),
            _ => (silu(sum), 2.0 * size),
        }
    }

    fn check(&self, path: u32, turn: usize) -> f64 {
        let data = self.data(8);
        let kernel = self.launch(8, path).kernel;
        let rounds = self.norm && kernel.contains("_mma_");
        let all = self.run(&data, 0, 8, path, ORDERS[turn % ORDERS.len()]);
        let mut worst = 0.0f64;
        let mut names = (0..self.outs()).filter(|&i| self.cols[i] > 0);
        for out in &all {
            let which = names.next().unwrap();
            for (i, &y) in out.iter().enumerate() {
                let (row, column) = (i / self.cols[which], i % self.cols[which]);
                let (truth, size) = self.truth(&data, row, which, column, rounds);
                let stored = match self.out() {
                    Dtype::F32 => 0.0,
                    _ => truth.abs() * 2f64.powi(-11) + 2f64.powi(-25),
                };
                let error = ((f64::from(y) - truth).abs() - stored) / size;
                worst = worst.max(error);
                assert!(
                    error < 1e-6,
                    "{self:?} sm_{path} row {row} column {column}: {y} for {truth}"
                );
            }
        }
        // Alone, in pairs and beside others a row is the same.
        for (from, to) in [(0, 1), (3, 4), (7, 8), (1, 3), (4, 7), (2, 6), (3, 8), (1, 7), (0, 7)] {
            let some = self.run(&data, from, to, path, ORDERS[(turn + to) % ORDERS.len()]);
            for (all, some) in all.iter().zip(&some) {
                let cols = all.len() / 8;
                let all = all[from * cols..to * cols].iter().map(|x| x.to_bits());
                assert!(
                    all.eq(some.iter().map(|x| x.to_bits())),
                    "{self:?} sm_{path} {from}..{to}"
                );
            }
        }
        worst
    }
}

fn on_emulator(test: &str, cards: &[&str]) {
    let emulator = Emulator::build(Build::Plain, &[]);
    for sm in cards {
        let output = emulator.child(test, &[("HIRED_EMULATOR_SM", *sm)]);
        let words = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "sm_{sm}: {}", String::from_utf8_lossy(&words));
        print!("sm_{sm}: {}", String::from_utf8_lossy(&words));
    }
}

#[test]
fn device_multiplies_few_rows() {
    on_emulator("products_are_right", &["61", "75", "80"]);
}

#[test]
#[ignore = "runs on the emulator, started by device_multiplies_few_rows"]
fn products_are_right() {
    let path = std::env::var("HIRED_EMULATOR_SM").unwrap().parse().unwrap();
    let mut worst = 0.0f64;
    let mut turn = 0;
    let mut check = |case: Case| {
        turn += 1;
        worst = worst.max(case.check(path, turn));
    };
    for dtype in [Dtype::F16, Dtype::F32] {
        let base = Case {
            dtype,
            form: Form::Linear,
            inner: 264,
            gaps: [0, 0],
            cols: [5, 0, 0],
            norm: false,
            bias: false,
            add: false,
            activation: 0,
            shift: 0,
        };
        for inner in [1, 7, 8, 33, 64, 256, 259, 264, 520, 1096] {
            check(Case { inner, norm: inner % 3 == 0, ..base });
            check(Case { inner, form: Form::Gate, cols: [3, 3, 0], norm: true, ..base });
        }
        // Several steps of each warp of a block, whole ones and a part.
        for inner in [1024, 1600, 2120] {
            check(Case { inner, norm: inner == 1600, cols: [18, 0, 0], ..base });
            check(Case { inner, form: Form::Gate, cols: [9, 9, 0], norm: true, ..base });
        }
        for cols in [[1, 0, 0], [4, 0, 0], [17, 0, 0], [9, 3, 6], [4, 8, 1], [16, 20, 33]] {
            check(Case { cols, norm: true, gaps: [8, 16], ..base });
            check(Case { cols, add: true, bias: true, gaps: [16, 8], ..base });
            check(Case { cols, inner: 40, form: Form::Logits, norm: true, ..base });
            check(Case {
                cols: [cols[0], cols[0], 0],
                form: Form::Gate,
                bias: true,
                gaps: [8, 8],
                ..base
            });
        }
        for activation in 0..4 {
            check(Case { activation, bias: true, cols: [7, 2, 0], ..base });
        }
        for shift in [1, 3, 4, 8] {
            check(Case { shift, ..base });
            check(Case { shift, form: Form::Logits, gaps: [3, 5], ..base });
        }
    }
    println!("largest error beside the sum of absolute products: {worst:.1e}");
}

/// Gate and residual of a 7B model pass fp16: what is finite stays finite, and a fault remains visible.
#[test]
fn device_keeps_finite_numbers_finite() {
    on_emulator("numbers_beyond_fp16_become_the_largest", &["61", "75", "80"]);
}

#[test]
#[ignore = "runs on the emulator, started by device_keeps_finite_numbers_finite"]
fn numbers_beyond_fp16_become_the_largest() {
    let path = std::env::var("HIRED_EMULATOR_SM").unwrap().parse().unwrap();
    for (dtype, largest) in [(Dtype::F16, 65504.0), (Dtype::F32, 66975.28)] {
        // 9 numbers: no vector reaches them.
        for inner in [8, 9] {
            let row = |first: f32| {
                let mut row = vec![0.0; inner];
                row[0] = first;
                row
            };
            let rows = |firsts: &[f32]| firsts.iter().flat_map(|&x| row(x)).collect::<Vec<_>>();
            let base = Case {
                dtype,
                form: Form::Gate,
                inner,
                gaps: [0, 0],
                cols: [2, 2, 0],
                norm: false,
                bias: false,
                add: false,
                activation: 0,
                shift: 0,
            };
            let mut data = Data {
                x: rows(&[1.0, 0.5, f32::INFINITY, f32::NAN]),
                norm: Vec::new(),
                weights: vec![rows(&[255.875, 255.875]), rows(&[261.75, -261.75])],
                biases: vec![Vec::new(); 3],
                old: vec![vec![0.0; 8]; 3],
            };
            let near = |got: f32, wanted: f32| {
                let is_near = (got - wanted).abs() <= wanted.abs() * 1e-3;
                assert!(is_near || got == wanted, "{dtype:?} {inner} sm_{path}: {got}, {wanted}");
            };
            let check = |out: &[f32], [one, half, infinite]: [[f32; 2]; 3]| {
                for (&got, wanted) in out.iter().zip([one, half, infinite].into_iter().flatten()) {
                    near(got, wanted);
                }
                assert!(out[6..].iter().all(|x| x.is_nan()), "{dtype:?} {inner} sm_{path}");
            };
            let infinite = [f32::INFINITY, f32::NEG_INFINITY];
            let out = &base.run(&data, 0, 4, path, ORDERS[0])[0];
            check(out, [[largest, -largest], [16743.8, -16743.8], infinite]);
            if dtype == Dtype::F16 {
                assert_eq!(out[..2], [65504.0, -65504.0]);
            }

            data.weights = vec![rows(&[1975.0, -1975.0])];
            data.old = vec![[65000.0, -65000.0].repeat(4)];
            let base = Case { form: Form::Linear, cols: [2, 0, 0], add: true, ..base };
            let out = &base.run(&data, 0, 4, path, ORDERS[0])[0];
            let largest = if dtype == Dtype::F16 { largest } else { 66975.0 };
            check(
                out,
                [[largest, -largest], [largest.min(65987.5), -largest.min(65987.5)], infinite],
            );
            if dtype == Dtype::F16 {
                assert_eq!(out[..2], [65504.0, -65504.0]);
            }
        }
    }
}
