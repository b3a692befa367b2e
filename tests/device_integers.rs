//! Products with integer weights on the device, on the emulator: those of int8 to the bit of an integer reference, by every
//! kernel and tile; those of int4 as their numbers in f64.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "support/card.rs"]
mod card;
#[path = "support/emulator.rs"]
mod emulator;
#[path = "support/numbers.rs"]
mod numbers;

use card::{Card, ORDERS};
use emulator::{Build, Emulator};
use half::f16;
use hired::format::{Dtype, Format};
use hired::ops::cuda::matmul::Factors;
use hired::ops::cuda::matmul::choose::{Kernels, quantize};
use hired::ops::cuda::matmul::gemm::{Product, Split};
use hired::ops::cuda::matmul::gemv::{Form, Gemv};
use hired::quant::q8_token;
use numbers::{Numbers, download, rounded, upload};
use std::ffi::c_void;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Scales {
    weights: [u64; 3],
    rows: u64,
    group_bits: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct GemmParams {
    x: u64,
    weights: [u64; 3],
    biases: [u64; 3],
    outs: [u64; 3],
    sums: u64,
    cols: [u32; 3],
    out_strides: [u32; 3],
    rows: u32,
    inner: u32,
    x_stride: u32,
    w_stride: u32,
    parts: u32,
    activation: u32,
    epilogue: u32,
    reserved: u32,
    scales: Scales,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct GemvParams {
    x: u64,
    norm: u64,
    weights: [u64; 3],
    biases: [u64; 3],
    outs: [u64; 3],
    cols: [u32; 3],
    rows: u32,
    inner: u32,
    x_stride: u32,
    w_stride: u32,
    activation: u32,
    epilogue: u32,
    inverse_inner: f32,
    eps: f32,
    reserved: u32,
    scales: Scales,
}

#[repr(C)]
struct QuantizeParams {
    x: u64,
    norm: u64,
    codes: u64,
    scales: u64,
    rows: u32,
    cols: u32,
    x_stride: u32,
    stride: u32,
    inverse_cols: f32,
    eps: f32,
}

const STORE: u32 = 0;
const ADD: u32 = 1;
const GATE: u32 = 2;

fn path() -> u32 {
    std::env::var("HIRED_EMULATOR_SM").unwrap().parse().unwrap()
}

fn on_emulator(build: Build, test: &str) {
    let emulator = Emulator::build(build, &[]);
    for sm in ["61", "75", "80"] {
        let output = emulator.child(test, &[("HIRED_EMULATOR_SM", sm)]);
        let words = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "sm_{sm}: {}", String::from_utf8_lossy(&words));
    }
}

/// Rows of codes, each number with its padding.
fn padded(codes: &[i8], cols: usize, stride: usize) -> Vec<i8> {
    let rows = codes.chunks(cols.max(1));
    rows.flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0, stride - cols))).collect()
}

/// What fills the factors.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fill {
    Random,
    /// All codes so large, the signs of one factor in turn.
    Largest(i8),
    Zero,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    out: Dtype,
    rows: usize,
    cols: [usize; 3],
    inner: usize,
    epilogue: u32,
    bias: bool,
    fill: Fill,
    /// Added to the width of the outs.
    gap: usize,
}

/// int8 factors, without padding.
struct Data {
    x: Vec<i8>,
    of_rows: Vec<f32>,
    w: [Vec<i8>; 3],
    of_cols: [Vec<f32>; 3],
    bias: [Vec<f32>; 3],
    old: [Vec<f32>; 3],
}

impl Case {
    fn new(rows: usize, cols: usize, inner: usize) -> Self {
        let (epilogue, bias, fill, gap) = (STORE, false, Fill::Random, 0);
        Self { out: Dtype::F32, rows, cols: [cols, 0, 0], inner, epilogue, bias, fill, gap }
    }

    fn factors(&self) -> Factors {
        Factors { weights: Format::Q8, activations: self.out }
    }

    fn outs(&self) -> usize {
        if self.epilogue == GATE { 1 } else { self.cols.iter().filter(|&&cols| cols > 0).count() }
    }

    fn data(&self) -> Data {
        let mut numbers = Numbers(11);
        let mut codes = |count: usize, least: f32| -> Vec<i8> {
            let random = numbers.take(count);
            let of = |(i, x): (usize, &f32)| match self.fill {
                Fill::Random => (x * 128.0).floor().max(least) as i8,
                Fill::Largest(code) if i % 3 == 0 => code,
                Fill::Largest(code) => code.saturating_neg(),
                Fill::Zero => 0,
            };
            random.iter().enumerate().map(of).collect()
        };
        let x = codes(self.rows * self.inner, -127.0);
        let w = self.cols.map(|cols| codes(cols * self.inner, -128.0));
        let scale = |numbers: &mut Numbers, count| -> Vec<f32> {
            numbers.take(count).iter().map(|x| (x.abs() + 0.01) / 100.0).collect()
        };
        Data {
            x,
            of_rows: scale(&mut numbers, self.rows),
            w,
            of_cols: self.cols.map(|cols| scale(&mut numbers, cols)),
            bias: self.cols.map(|cols| numbers.take(cols)),
            old: self.cols.map(|cols| numbers.matrix(self.rows, cols, cols + self.gap, self.out)),
        }
    }

    /// The rule, number by number.
    fn linear(&self, data: &Data, which: usize, row: usize, col: usize) -> f32 {
        let x = &data.x[row * self.inner..][..self.inner];
        let w = &data.w[which][col * self.inner..][..self.inner];
        let sum: i64 = x.iter().zip(w).map(|(&x, &w)| i64::from(x) * i64::from(w)).sum();
        let y = (sum as i32 as f32 * data.of_cols[which][col]) * data.of_rows[row];
        if self.bias { y + data.bias[which][col] } else { y }
    }

    /// What is stored; for gate and up nearly that.
    fn truth(&self, data: &Data, which: usize, row: usize, col: usize) -> f32 {
        let y = self.linear(data, which, row, col);
        let y = match self.epilogue {
            ADD => data.old[which][row * (self.cols[which] + self.gap) + col] + y,
            GATE => y / (1.0 + (-y).exp()) * self.linear(data, 1, row, col),
            _ => y,
        };
        let y = if self.out == Dtype::F16 { y.clamp(-65504.0, 65504.0) } else { y };
        rounded(y, self.out)
    }

    fn compare(&self, data: &Data, kernel: &str, outs: &[Vec<f32>]) {
        for (which, out) in outs.iter().enumerate() {
            let stride = self.cols[which] + self.gap;
            for (i, &y) in out.iter().enumerate() {
                let (row, col) = (i / stride, i % stride);
                let place = format!("{self:?} {kernel}: out {which} row {row} column {col}");
                if col >= self.cols[which] {
                    assert!(y.is_nan(), "{place}: wrote beside out");
                    continue;
                }
                let truth = self.truth(data, which, row, col);
                if self.epilogue == GATE {
                    let step = if self.out == Dtype::F16 { 2e-3 } else { 1e-5 };
                    assert!(
                        (y - truth).abs() <= step * truth.abs() + 1e-6,
                        "{place}: {y}, {truth}"
                    );
                } else {
                    // Zeros have no sign here.
                    assert_eq!(
                        (y + 0.0).to_bits(),
                        (truth + 0.0).to_bits(),
                        "{place}: {y}, {truth}"
                    );
                }
            }
        }
    }

    /// Pointers to the operands, which both kinds of kernels take.
    fn operands(&self, card: &Card, data: &Data) -> GemvParams {
        let stride = Format::Q8.stride(self.inner);
        let mut params = GemvParams {
            x: card.upload(&padded(&data.x, self.inner, stride)),
            cols: self.cols.map(|cols| cols as u32),
            rows: self.rows as u32,
            inner: stride as u32,
            x_stride: stride as u32,
            w_stride: stride as u32,
            epilogue: self.epilogue,
            ..Default::default()
        };
        params.scales.rows = card.upload(&data.of_rows);
        for i in (0..3).filter(|&i| self.cols[i] > 0) {
            params.weights[i] = card.upload(&padded(&data.w[i], self.inner, stride));
            params.scales.weights[i] = card.upload(&data.of_cols[i]);
            params.biases[i] = if self.bias { card.upload(&data.bias[i]) } else { 0 };
            if i < self.outs() {
                params.outs[i] = upload(card, &data.old[i], self.out, 0);
            }
        }
        params
    }

    fn read(&self, card: &Card, data: &Data, outs: [u64; 3]) -> Vec<Vec<f32>> {
        (0..self.outs()).map(|i| download(card, outs[i], data.old[i].len(), self.out)).collect()
    }

    /// By every tile.
    fn gemm(&self, turn: usize) {
        let data = self.data();
        let stride = Format::Q8.stride(self.inner);
        let product = Product {
            rows: self.rows,
            cols: self.cols,
            gated: self.epilogue == GATE,
            inner: stride,
            x_stride: stride,
            w_stride: stride,
            out_strides: self.cols.map(|cols| cols + self.gap),
            aligned: true,
            split: Split::ONE,
        };
        let kernels = Kernels::of(path(), self.factors()).unwrap();
        for (n, launches) in kernels.every_gemm(&product, 1 + turn % 9).iter().enumerate() {
            let card = Card::new(ORDERS[(turn + n) % ORDERS.len()]);
            let of = self.operands(&card, &data);
            let params = GemmParams {
                x: of.x,
                weights: of.weights,
                biases: of.biases,
                outs: of.outs,
                cols: of.cols,
                out_strides: product.out_strides.map(|n| n as u32),
                rows: of.rows,
                inner: of.inner,
                x_stride: of.x_stride,
                w_stride: of.w_stride,
                parts: 1,
                epilogue: of.epilogue,
                scales: of.scales,
                ..Default::default()
            };
            card.run(&launches.product, (&raw const params).cast::<c_void>());
            self.compare(&data, &launches.product.kernel, &self.read(&card, &data, of.outs));
        }
    }

    /// By the kernel of a few rows.
    fn gemv(&self, turn: usize) {
        let data = self.data();
        let stride = Format::Q8.stride(self.inner);
        let product = Gemv {
            form: if self.epilogue == GATE { Form::Gate } else { Form::Linear },
            rows: self.rows,
            inner: stride,
            cols: self.cols,
            x_stride: stride,
            w_stride: stride,
            aligned: true,
        };
        let launch = Kernels::of(path(), self.factors()).unwrap().gemv(&product);
        let card = Card::new(ORDERS[turn % ORDERS.len()]);
        let params = self.operands(&card, &data);
        card.run(&launch, (&raw const params).cast::<c_void>());
        self.compare(&data, &launch.kernel, &self.read(&card, &data, params.outs));
    }
}

#[test]
fn device_multiplies_codes() {
    on_emulator(Build::Plain, "codes_are_multiplied_to_the_bit");
}

#[test]
#[ignore = "runs on the emulator, started by device_multiplies_codes"]
fn codes_are_multiplied_to_the_bit() {
    let mut turn = 0;
    for out in [Dtype::F32, Dtype::F16] {
        // One, primes, around tiles, and around vectors and steps along inner.
        for (rows, cols, inner) in [
            (9, 8, 1),
            (9, 1, 16),
            (13, 17, 15),
            (63, 64, 17),
            (64, 72, 32),
            (65, 63, 33),
            (127, 128, 63),
            (128, 136, 64),
            (129, 120, 65),
            (260, 200, 129),
            (20, 24, 333),
        ] {
            turn += 1;
            let case = Case { out, bias: turn % 2 == 0, ..Case::new(rows, cols, inner) };
            case.gemm(turn);
            Case { epilogue: ADD, gap: turn % 3 * 4, ..case }.gemm(turn + 1);
        }
        let several = Case { out, cols: [72, 136, 8], bias: true, ..Case::new(70, 0, 80) };
        several.gemm(turn);
        Case { cols: [5, 67, 3], ..several }.gemm(turn + 1);
        Case { cols: [72, 72, 0], epilogue: GATE, ..several }.gemm(turn + 2);
        Case { cols: [13, 13, 0], epilogue: GATE, bias: false, ..several }.gemm(turn + 3);
        for rows in 1..=8 {
            turn += 1;
            for (cols, inner) in
                [([1, 0, 0], 1), ([5, 3, 9], 47), ([7, 0, 0], 512), ([4, 1, 0], 2100)]
            {
                let case = Case { out, cols, bias: rows % 2 == 0, ..Case::new(rows, 0, inner) };
                case.gemv(turn);
                Case { epilogue: ADD, ..case }.gemv(turn + 1);
            }
            Case { out, cols: [5, 5, 0], epilogue: GATE, ..Case::new(rows, 0, 100) }.gemv(turn);
        }
        // Sums as large as they get, and none at all.
        for fill in [Fill::Largest(127), Fill::Largest(-128), Fill::Zero] {
            Case { out, fill, ..Case::new(17, 24, 4099) }.gemm(turn);
            Case { out, fill, ..Case::new(3, 6, 4099) }.gemv(turn);
        }
    }
}

/// Rows of activations, and what becomes of them.
fn rows_become_codes(dtype: Dtype, cols: usize, gap: usize, normed: bool, turn: usize) {
    let mut numbers = Numbers(turn as u64);
    let (rows, x_stride, stride) = (8, cols + gap, Format::Q8.stride(cols));
    let mut x = numbers.matrix(rows, cols, x_stride, dtype);
    // A row of zeros, one of tiny numbers, some that are not finite.
    x[x_stride..][..cols].fill(0.0);
    x[2 * x_stride..][..cols].iter_mut().for_each(|x| *x = rounded(*x / 60000.0, dtype));
    for (row, bad) in [(3, f32::NAN), (4, f32::INFINITY), (5, f32::NEG_INFINITY)] {
        x[row * x_stride + cols * row / 8] = bad;
    }
    let norm: Vec<f32> = numbers.take(cols).iter().map(|x| x + 1.5).collect();
    let card = Card::new(ORDERS[turn % ORDERS.len()]);
    let params = QuantizeParams {
        x: upload(&card, &x, dtype, 0),
        norm: if normed { card.upload(&norm) } else { 0 },
        codes: card.blank::<i8>(rows * stride),
        scales: card.blank::<f32>(rows),
        rows: rows as u32,
        cols: cols as u32,
        x_stride: x_stride as u32,
        stride: stride as u32,
        inverse_cols: 1.0 / cols as f32,
        eps: 1e-5,
    };
    let launch = quantize(dtype, rows, cols, x_stride);
    card.run(&launch, (&raw const params).cast::<c_void>());
    let codes: Vec<i8> = card.download(params.codes, rows * stride);
    let scales: Vec<f32> = card.download(params.scales, rows);
    for row in 0..rows {
        let place = format!("{} {cols} {dtype:?} {normed} row {row}", launch.kernel);
        let got = &codes[row * stride..][..stride];
        assert!(got[cols..].iter().all(|&code| code == 0), "{place}: padding");
        let numbers = &x[row * x_stride..][..cols];
        let square: f32 = numbers.iter().map(|x| x * x).sum::<f32>() / cols as f32;
        let factor = 1.0 / (square + 1e-5).sqrt();
        let y: Vec<f32> = match normed {
            true => {
                numbers.iter().zip(&norm).map(|(x, n)| rounded(x * factor * n, dtype)).collect()
            }
            false => numbers.to_vec(),
        };
        let mut wanted = vec![0i8; cols];
        match q8_token(&y, &mut wanted) {
            None => assert!(scales[row].is_nan(), "{place}: {}", scales[row]),
            Some(scale) if !normed => {
                assert_eq!(scales[row].to_bits(), scale.to_bits(), "{place}");
                assert_eq!(&got[..cols], wanted, "{place}");
            }
            // The squares are added up in another order.
            Some(scale) => {
                assert!((scales[row] - scale).abs() <= 2e-3 * scale, "{place}");
                let far = got.iter().zip(&wanted).filter(|(a, b)| a.abs_diff(**b) > 1).count();
                assert_eq!(far, 0, "{place}");
            }
        }
    }
}

#[test]
fn device_rounds_rows() {
    on_emulator(Build::Plain, "rows_become_codes_by_the_rule");
}

#[test]
#[ignore = "runs on the emulator, started by device_rounds_rows"]
fn rows_become_codes_by_the_rule() {
    let mut turn = 0;
    for dtype in [Dtype::F32, Dtype::F16] {
        for (cols, gap) in
            [(1, 0), (7, 1), (8, 0), (24, 8), (64, 0), (257, 3), (4104, 0), (16400, 0)]
        {
            for normed in [false, true] {
                turn += 1;
                rows_become_codes(dtype, cols, gap, normed, turn);
            }
        }
    }
}

/// int4 weights of one product and their numbers.
struct Int4 {
    codes: Vec<u8>,
    scales: Vec<f16>,
    numbers: Vec<f32>,
}

fn int4(numbers: &mut Numbers, cols: usize, inner: usize, group: usize) -> Int4 {
    let codes: Vec<i8> =
        numbers.take(cols * inner).iter().map(|x| (x * 8.0).floor() as i8).collect();
    let of = numbers.take(cols * inner / group);
    let scales: Vec<f16> = of.iter().map(|x| f16::from_f32((x.abs() + 0.01) / 8.0)).collect();
    let number = |(i, &code): (usize, &i8)| f32::from(code) * scales[i / group].to_f32();
    Int4 {
        numbers: codes.iter().enumerate().map(number).collect(),
        codes: codes.chunks(2).map(|c| (c[0] + 8) as u8 | ((c[1] + 8) as u8) << 4).collect(),
        scales,
    }
}

/// Products of `rows` with int4 weights by all kernels, of few rows behind a norm or without.
fn check_int4(
    dtype: Dtype,
    rows: usize,
    cols: [usize; 3],
    inner: usize,
    group: usize,
    kind: (u32, bool),
    turn: usize,
) {
    let (epilogue, normed) = kind;
    let mut numbers = Numbers(turn as u64);
    let x = numbers.matrix(rows, inner, inner, dtype);
    let norm: Vec<f32> = numbers.take(inner).iter().map(|x| x + 1.5).collect();
    let w = cols.map(|cols| int4(&mut numbers, cols, inner, group));
    let old = cols.map(|cols| numbers.matrix(rows, cols, cols, dtype));
    let factors = Factors { weights: Format::Q4 { group }, activations: dtype };
    let kernels = Kernels::of(path(), factors).unwrap();
    let outs = if epilogue == GATE { 1 } else { cols.iter().filter(|&&cols| cols > 0).count() };
    let operands = |card: &Card| {
        let mut params = GemvParams {
            x: upload(card, &x, dtype, 0),
            norm: if normed { card.upload(&norm) } else { 0 },
            cols: cols.map(|cols| cols as u32),
            rows: rows as u32,
            inner: inner as u32,
            x_stride: inner as u32,
            w_stride: inner as u32,
            epilogue,
            inverse_inner: 1.0 / inner as f32,
            eps: 1e-5,
            ..Default::default()
        };
        params.scales.group_bits = group.ilog2();
        for i in (0..3).filter(|&i| cols[i] > 0) {
            params.weights[i] = card.upload(&w[i].codes);
            params.scales.weights[i] =
                card.upload(&w[i].scales.iter().map(|s| s.to_bits()).collect::<Vec<_>>());
            if i < outs {
                params.outs[i] = upload(card, &old[i], dtype, 0);
            }
        }
        params
    };
    let linear = |which: usize, row: usize, col: usize| -> (f64, f64) {
        let numbers = &x[row * inner..][..inner];
        let square: f64 = numbers.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / inner as f64;
        let scale = if normed { 1.0 / (square + 1e-5).sqrt() } else { 1.0 };
        let products = numbers.iter().enumerate().map(|(k, &x)| {
            let n = if normed { f64::from(norm[k]) } else { 1.0 };
            f64::from(x) * scale * n * f64::from(w[which].numbers[col * inner + k])
        });
        (products.clone().sum(), products.map(f64::abs).sum())
    };
    let compare = |kernel: &str, card: &Card, at: [u64; 3]| {
        for which in 0..outs {
            let out = download(card, at[which], rows * cols[which], dtype);
            for (i, &y) in out.iter().enumerate() {
                let (row, col) = (i / cols[which], i % cols[which]);
                let (sum, size) = linear(which, row, col);
                let (truth, size) = match epilogue {
                    ADD => (f64::from(old[which][i]) + sum, size + 1.0),
                    GATE => {
                        let (up, other) = linear(1, row, col);
                        (sum / (1.0 + (-sum).exp()) * up, 2.0 * size * other)
                    }
                    _ => (sum, size),
                };
                let stored = if dtype == Dtype::F16 {
                    truth.abs() * 2f64.powi(-11) + 2f64.powi(-25)
                } else {
                    0.0
                };
                // Tensor cores take weights and normed rows rounded to fp16.
                let each = if dtype == Dtype::F16 && path() >= 75 { 1e-3 } else { 1e-6 };
                let error = ((f64::from(y) - truth).abs() - stored) / size;
                assert!(
                    error < each,
                    "{kernel} {rows} {cols:?} {inner} {group} {kind:?}: out {which} row {row} column {col}: {y} for {truth}"
                );
            }
        }
    };
    if rows <= 8 {
        let form = if epilogue == GATE { Form::Gate } else { Form::Linear };
        let product =
            Gemv { form, rows, inner, cols, x_stride: inner, w_stride: inner, aligned: true };
        let launch = kernels.gemv(&product);
        let card = Card::new(ORDERS[turn % ORDERS.len()]);
        let params = operands(&card);
        card.run(&launch, (&raw const params).cast::<c_void>());
        compare(&launch.kernel, &card, params.outs);
        return;
    }
    for parts in [1, 2] {
        let split = Split { parts };
        if !inner.is_multiple_of(group * parts) {
            continue;
        }
        let gated = epilogue == GATE;
        let product = Product {
            rows,
            cols,
            gated,
            inner,
            x_stride: inner,
            w_stride: inner,
            out_strides: cols,
            aligned: true,
            split,
        };
        for launches in kernels.every_gemm(&product, 1 + turn % 9) {
            let card = Card::new(ORDERS[turn % ORDERS.len()]);
            let of = operands(&card);
            let params = GemmParams {
                x: of.x,
                weights: of.weights,
                outs: of.outs,
                sums: split.bytes(rows, cols.iter().sum()).map_or(0, |n| card.blank::<u8>(n)),
                cols: of.cols,
                out_strides: of.cols,
                rows: of.rows,
                inner: (inner / parts) as u32,
                x_stride: of.x_stride,
                w_stride: of.w_stride,
                parts: parts as u32,
                epilogue,
                scales: of.scales,
                ..Default::default()
            };
            card.run(&launches.product, (&raw const params).cast::<c_void>());
            if let Some(sum) = &launches.sum {
                // Takes the same parameters without the scales behind them.
                card.run(sum, (&raw const params).cast::<c_void>());
            }
            compare(&launches.product.kernel, &card, of.outs);
        }
    }
}

#[test]
fn device_multiplies_int4() {
    on_emulator(Build::Plain, "int4_is_multiplied_as_its_numbers");
}

#[test]
#[ignore = "runs on the emulator, started by device_multiplies_int4"]
fn int4_is_multiplied_as_its_numbers() {
    let mut turn = 0;
    for dtype in [Dtype::F32, Dtype::F16] {
        for (rows, cols, inner, group) in [
            (9, [8, 0, 0], 32, 32),
            (65, [72, 0, 0], 96, 32),
            (127, [128, 0, 0], 128, 64),
            (129, [136, 0, 0], 384, 128),
            (13, [17, 5, 9], 224, 32),
            (20, [24, 40, 8], 256, 128),
        ] {
            turn += 1;
            check_int4(dtype, rows, cols, inner, group, (STORE, false), turn);
            check_int4(dtype, rows, cols, inner, group, (ADD, false), turn);
        }
        check_int4(dtype, 70, [72, 72, 0], 192, 64, (GATE, false), turn);
        check_int4(dtype, 12, [13, 13, 0], 64, 32, (GATE, false), turn);
        for rows in 1..=8 {
            turn += 1;
            for (cols, inner, group) in [
                ([1, 0, 0], 32, 32),
                ([5, 3, 9], 1056, 32),
                ([7, 2, 0], 2176, 64),
                ([4, 0, 0], 384, 128),
            ] {
                for kind in [(STORE, false), (ADD, false), (STORE, true)] {
                    check_int4(dtype, rows, cols, inner, group, kind, turn);
                }
            }
            check_int4(dtype, rows, [5, 5, 0], 128, 64, (GATE, true), turn);
        }
    }
}

#[test]
fn device_multiplies_integers_without_races() {
    on_emulator(Build::Races, "integers_are_clean");
}

#[test]
fn device_multiplies_integers_within_bounds() {
    on_emulator(Build::Asan, "integers_are_clean");
}

#[test]
#[ignore = "runs on the emulator, started by the tests of races and bounds"]
fn integers_are_clean() {
    for dtype in [Dtype::F32, Dtype::F16] {
        let base = Case { out: dtype, bias: true, ..Case::new(66, 136, 113) };
        base.gemm(1);
        Case { cols: [40, 40, 0], epilogue: GATE, ..base }.gemm(2);
        Case { rows: 5, cols: [5, 7, 3], ..base }.gemv(3);
        rows_become_codes(dtype, 264, 8, true, 4);
        check_int4(dtype, 66, [136, 8, 0], 96, 32, (STORE, false), 5);
        check_int4(dtype, 6, [9, 0, 0], 1056, 32, (STORE, true), 6);
    }
}
