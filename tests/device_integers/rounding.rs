//! Rows of activations as int8.

use super::*;

/// Rows of activations, and what becomes of them.
pub fn rows_become_codes(dtype: Dtype, cols: usize, gap: usize, normed: bool, turn: usize) {
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
        // Something for the pass to clear, and nothing.
        done: if turn.is_multiple_of(2) { card.upload(&[7u32]) } else { 0 },
    };
    let launch = quantize(dtype, rows, cols, x_stride);
    card.run(&launch, (&raw const params).cast::<c_void>());
    if params.done != 0 {
        assert_eq!(card.download::<u32>(params.done, 1), [0]);
    }
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
