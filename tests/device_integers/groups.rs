//! Products with weights whose codes share scales in groups: as products of the numbers that these stand for, in f64; to the
//! bit where every sum is exact in any order.

use super::*;

/// One product by all its kernels.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Of the weights, with the size of groups.
    pub format: Format,
    pub dtype: Dtype,
    pub rows: usize,
    pub cols: [usize; 3],
    pub inner: usize,
    pub epilogue: u32,
    /// Behind an RMSNorm, of few rows.
    pub normed: bool,
    /// Results leave in f32, whatever the format of x: of few rows.
    pub logits: bool,
    /// x is small integers and scales are powers of two: all sums are exact.
    pub exact: bool,
}

/// A weight as it lies on the device, and its numbers.
struct Weight {
    codes: Vec<u8>,
    shared: Vec<u8>,
    numbers: Vec<f32>,
}

struct Data {
    x: Vec<f32>,
    norm: Vec<f32>,
    w: [Weight; 3],
    old: [Vec<f32>; 3],
}

fn group(format: Format) -> usize {
    match format {
        Format::Q4 { group } | Format::Awq { group } | Format::W8A16 { group } => group,
        _ => unreachable!("{format:?} has no groups"),
    }
}

impl Case {
    fn weight(&self, numbers: &mut Numbers, cols: usize) -> Weight {
        let group = group(self.format);
        let groups = cols * self.inner / group;
        let scale = |x: f32| match self.exact {
            true => f16::from_f32(2f32.powi(-((x.abs() * 4.0) as i32))),
            false => f16::from_f32((x.abs() + 0.01) / 8.0),
        };
        let scales: Vec<f16> = numbers.take(groups).into_iter().map(scale).collect();
        let zeros: Vec<u8> = match self.format {
            Format::Awq { .. } => {
                numbers.take(groups).iter().map(|x| ((x + 1.0) * 8.0) as u8).collect()
            }
            Format::Q4 { .. } => vec![8; groups],
            _ => vec![0; groups],
        };
        // All codes of the format, negative ones of int8 among them.
        let all = if matches!(self.format, Format::W8A16 { .. }) { 256.0 } else { 16.0 };
        let codes: Vec<u8> =
            numbers.take(cols * self.inner).iter().map(|x| ((x + 1.0) / 2.0 * all) as u8).collect();
        let number = |(i, &code): (usize, &u8)| {
            let code = if all > 16.0 { i32::from(code as i8) } else { i32::from(code) };
            (code - i32::from(zeros[i / group])) as f32 * scales[i / group].to_f32()
        };
        let shared = scales.iter().zip(&zeros).flat_map(|(scale, &zero)| {
            let mut bytes = scale.to_le_bytes().to_vec();
            if matches!(self.format, Format::Awq { .. }) {
                let upper = ((1.0 + f32::from(zero) / 16.0).to_bits() >> 16) as u16;
                bytes.extend(upper.to_le_bytes());
            }
            bytes
        });
        Weight {
            numbers: codes.iter().enumerate().map(number).collect(),
            shared: shared.collect(),
            codes: match all > 16.0 {
                true => codes,
                false => codes.chunks(2).map(|pair| pair[0] | pair[1] << 4).collect(),
            },
        }
    }

    fn data(&self, seed: u64) -> Data {
        let mut numbers = Numbers(seed);
        let mut x = numbers.matrix(self.rows, self.inner, self.inner, self.dtype);
        if self.exact {
            x.iter_mut().for_each(|x| *x = (*x * 3.0).round());
        }
        let norm = numbers.take(self.inner).iter().map(|x| x + 1.5).collect();
        let w = self.cols.map(|cols| self.weight(&mut numbers, cols));
        let old = self.cols.map(|cols| {
            let mut old = numbers.matrix(self.rows, cols, cols, self.dtype);
            if self.exact {
                old.iter_mut().for_each(|x| *x = (*x * 8.0).round());
            }
            old
        });
        Data { x, norm, w, old }
    }

    /// Of the results.
    fn out(&self) -> Dtype {
        if self.logits { Dtype::F32 } else { self.dtype }
    }

    fn outs(&self) -> usize {
        if self.epilogue == GATE { 1 } else { self.cols.iter().filter(|&&cols| cols > 0).count() }
    }

    /// A sum and the size of what it adds.
    fn linear(&self, data: &Data, which: usize, row: usize, col: usize) -> (f64, f64) {
        let x = &data.x[row * self.inner..][..self.inner];
        let w = &data.w[which].numbers[col * self.inner..][..self.inner];
        let square: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / x.len() as f64;
        let scale = if self.normed { 1.0 / (square + 1e-5).sqrt() } else { 1.0 };
        let products = x.iter().zip(w).zip(&data.norm).map(|((&x, &w), &norm)| {
            let norm = if self.normed { f64::from(norm) } else { 1.0 };
            f64::from(x) * scale * norm * f64::from(w)
        });
        (products.clone().sum(), products.map(f64::abs).sum())
    }

    fn compare(&self, data: &Data, kernel: &str, card: &Card, at: [u64; 3]) {
        for (which, &at) in at.iter().enumerate().take(self.outs()) {
            let width = self.cols[which];
            let out = download(card, at, self.rows * width, self.out());
            for (i, &y) in out.iter().enumerate() {
                let (row, col) = (i / width, i % width);
                let place = format!("{self:?} {kernel}: out {which} row {row} column {col}: {y}");
                let (sum, size) = self.linear(data, which, row, col);
                let (truth, size) = match self.epilogue {
                    ADD => (f64::from(data.old[which][i]) + sum, size + 1.0),
                    GATE => {
                        let (up, other) = self.linear(data, 1, row, col);
                        (sum / (1.0 + (-sum).exp()) * up, 2.0 * size * other)
                    }
                    _ => (sum, size),
                };
                if self.exact {
                    assert_eq!(y, rounded(truth as f32, self.out()), "{place}");
                    continue;
                }
                let stored = if self.out() == Dtype::F16 {
                    truth.abs() * 2f64.powi(-11) + 2f64.powi(-25)
                } else {
                    0.0
                };
                // Tensor cores take weights and normed rows rounded to fp16.
                let each = if self.dtype == Dtype::F16 && path() >= 75 { 1e-3 } else { 1e-6 };
                let error = ((f64::from(y) - truth).abs() - stored) / size;
                assert!(error < each, "{place} for {truth}");
            }
        }
    }

    fn operands(&self, card: &Card, data: &Data) -> GemvParams {
        let mut params = GemvParams {
            x: upload(card, &data.x, self.dtype, 0),
            norm: if self.normed { card.upload(&data.norm) } else { 0 },
            cols: self.cols.map(|cols| cols as u32),
            rows: self.rows as u32,
            inner: self.inner as u32,
            x_stride: self.inner as u32,
            w_stride: self.inner as u32,
            epilogue: self.epilogue,
            inverse_inner: 1.0 / self.inner as f32,
            eps: 1e-5,
            ..Default::default()
        };
        params.scales.group_bits = group(self.format).ilog2();
        for i in (0..3).filter(|&i| self.cols[i] > 0) {
            params.weights[i] = card.upload(&data.w[i].codes);
            params.scales.weights[i] = card.upload(&data.w[i].shared);
            if i < self.outs() {
                params.outs[i] = upload(card, &data.old[i], self.out(), 0);
            }
        }
        params
    }

    /// By all kernels for so many rows, in one part and in two.
    pub fn check(&self, turn: usize) {
        let data = self.data(turn as u64);
        let factors = Factors { weights: self.format, activations: self.dtype };
        let kernels = Kernels::of(path(), factors).unwrap();
        let &Self { rows, inner, cols, .. } = self;
        let gated = self.epilogue == GATE;
        if rows <= 8 {
            let form = match (gated, self.logits) {
                (true, _) => Form::Gate,
                (false, true) => Form::Logits,
                (false, false) => Form::Linear,
            };
            let product =
                Gemv { form, rows, inner, cols, x_stride: inner, w_stride: inner, aligned: true };
            let launch = kernels.gemv(&product);
            assert_eq!(launch.kernel.contains("logits"), self.logits && self.dtype == Dtype::F16);
            let card = Card::new(ORDERS[turn % ORDERS.len()]);
            let params = self.operands(&card, &data);
            card.run(&launch, (&raw const params).cast::<c_void>());
            self.compare(&data, &launch.kernel, &card, params.outs);
            return;
        }
        for split in [1, 2].map(|parts| Split { parts }) {
            if !inner.is_multiple_of(group(self.format) * split.parts) {
                continue;
            }
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
                let of = self.operands(&card, &data);
                let params = GemmParams {
                    x: of.x,
                    weights: of.weights,
                    outs: of.outs,
                    sums: split.bytes(rows, cols.iter().sum()).map_or(0, |n| card.blank::<u8>(n)),
                    cols: of.cols,
                    out_strides: of.cols,
                    rows: of.rows,
                    inner: (inner / split.parts) as u32,
                    x_stride: of.x_stride,
                    w_stride: of.w_stride,
                    parts: split.parts as u32,
                    epilogue: self.epilogue,
                    scales: of.scales,
                    ..Default::default()
                };
                card.run(&launches.product, (&raw const params).cast::<c_void>());
                if let Some(sum) = &launches.sum {
                    // Takes the same parameters without the scales behind them.
                    card.run(sum, (&raw const params).cast::<c_void>());
                }
                self.compare(&data, &launches.product.kernel, &card, of.outs);
            }
        }
    }
}

/// The formats with groups of this size.
pub fn formats(group: usize) -> [Format; 3] {
    [Format::Q4 { group }, Format::Awq { group }, Format::W8A16 { group }]
}
