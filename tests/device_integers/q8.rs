//! Products of int8 factors with one scale for each row of both: to the bit of an integer reference.

use super::*;

/// Rows of codes, each number with its padding.
fn padded(codes: &[i8], cols: usize, stride: usize) -> Vec<i8> {
    let rows = codes.chunks(cols.max(1));
    rows.flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0, stride - cols))).collect()
}

/// What fills the factors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    Random,
    /// All codes so large, the signs of one factor in turn.
    Largest(i8),
    Zero,
}

#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub out: Dtype,
    pub rows: usize,
    pub cols: [usize; 3],
    pub inner: usize,
    pub epilogue: u32,
    pub bias: bool,
    pub fill: Fill,
    /// Added to the width of the outs.
    pub gap: usize,
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
    pub fn new(rows: usize, cols: usize, inner: usize) -> Self {
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
    pub fn gemm(&self, turn: usize) {
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
    pub fn gemv(&self, turn: usize) {
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

    /// Gate and up, whose rows leave as codes, too: in every order of the blocks, twice by one counter.
    pub fn gate_leaves_codes(&self) {
        let data = self.data();
        let stride = Format::Q8.stride(self.inner);
        let (rows, cols) = (self.rows, self.cols[0]);
        assert!(gate_leaves_codes(rows, cols, &[Format::Q8; 2]) && self.epilogue == GATE);
        let product = Gemv {
            form: Form::Gate,
            rows,
            inner: stride,
            cols: self.cols,
            x_stride: stride,
            w_stride: stride,
            aligned: true,
        };
        let launch = Kernels::of(path(), self.factors()).unwrap().gemv(&product);
        for order in ORDERS {
            let card = Card::new(order);
            let mut params = self.operands(&card, &data);
            params.coded = params::Coded {
                codes: card.blank::<i8>(rows * cols),
                scales: card.blank::<f32>(rows),
                done: card.upload(&[0u32]),
            };
            for _ in 0..2 {
                card.run(&launch, (&raw const params).cast::<c_void>());
                let out = self.read(&card, &data, params.outs);
                self.compare(&data, &launch.kernel, &out);
                let codes: Vec<i8> = card.download(params.coded.codes, rows * cols);
                let scales: Vec<f32> = card.download(params.coded.scales, rows);
                for (row, numbers) in out[0].chunks_exact(cols).enumerate() {
                    let mut wanted = vec![0i8; cols];
                    let place = format!("{self:?} {} row {row}", launch.kernel);
                    match q8_token(numbers, &mut wanted) {
                        None => assert!(scales[row].is_nan(), "{place}: {}", scales[row]),
                        Some(scale) => {
                            assert_eq!(scales[row].to_bits(), scale.to_bits(), "{place}");
                            assert_eq!(codes[row * cols..][..cols], wanted, "{place}");
                        }
                    }
                }
                assert_eq!(card.download::<u32>(params.coded.done, 1), [0]);
            }
        }
    }
}
