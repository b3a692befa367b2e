//! Products with int4 weights.

use super::*;

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
pub fn check_int4(
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
