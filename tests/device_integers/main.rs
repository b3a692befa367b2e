//! Products with integer weights on the device, on the emulator: those of int8 to the bit of an integer reference, by every
//! kernel and tile; those of int4 as their numbers in f64.
#![cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]

#[path = "../support/card.rs"]
mod card;
#[path = "../support/emulator.rs"]
mod emulator;
mod int4;
#[path = "../support/numbers.rs"]
mod numbers;
mod params;
mod rounding;

use card::{Card, ORDERS};
use emulator::{Build, Emulator};
use half::f16;
use hired::format::{Dtype, Format};
use hired::ops::cuda::matmul::Factors;
use hired::ops::cuda::matmul::choose::{Kernels, quantize};
use hired::ops::cuda::matmul::gemm::{Product, Split};
use hired::ops::cuda::matmul::gemv::{Form, Gemv};
use hired::quant::q8_token;
use int4::check_int4;
use numbers::{Numbers, download, rounded, upload};
use params::{GemmParams, GemvParams, QuantizeParams};
use rounding::rows_become_codes;
use std::ffi::c_void;

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
