//! Scores of the class token.

use super::card::{Card, ORDERS};
use super::{Random, Rows, launch, softmax, upload};
use hired::ops::cuda::attention::{self, Heads};
use hired::ops::cuda::launch::Number;

#[repr(C)]
#[derive(Clone, Copy)]
struct ClsScoresParams {
    q: u64,
    k: u64,
    weights: u64,
    sums: u64,
    out: u64,
    patches: u32,
    heads: u32,
    head_dim: u32,
    q_stride: u32,
    k_stride: u32,
    scale: f32,
}

#[allow(clippy::too_many_arguments)] // a shape
fn cls(
    number: Number,
    partitions: usize,
    patches: usize,
    heads: usize,
    head_dim: usize,
    own_rows: bool,
    pad: usize,
    order: (i32, u64, u8),
) {
    let (keys, cols, stride) = (patches + 1, heads * head_dim, heads * head_dim + pad);
    let random = &mut Random(patches as u64);
    let card = Card::new(order);
    let step = if own_rows { 1 } else { keys };
    let q = Rows::new(random, number, partitions * step, cols, stride);
    let k = Rows::new(random, number, partitions * keys, cols, stride);
    let shape = Heads {
        heads,
        kv_heads: heads,
        head_dim,
        number,
        q_stride: stride,
        kv_stride: stride,
        out_stride: stride,
        aligned: true,
    };
    let scale = 1.0 / (head_dim as f32).sqrt();
    let [weights, sums] = attention::cls_scratch(heads, partitions, patches);
    let out = card.blank::<f32>(partitions * patches);
    let params = ClsScoresParams {
        q: upload(&card, number, &q.data, true),
        k: upload(&card, number, &k.data, true),
        weights: card.blank::<u8>(weights),
        sums: card.blank::<u8>(sums),
        out,
        patches: patches as u32,
        heads: heads as u32,
        head_dim: head_dim as u32,
        q_stride: (step * stride) as u32,
        k_stride: stride as u32,
        scale,
    };
    let launches = attention::cls_scores(&shape, partitions, patches);
    for one in &launches {
        launch(&card, one, params);
    }
    let got: Vec<f32> = card.download(out, partitions * patches);
    let mut worst = 0.0f64;
    for partition in 0..partitions {
        let mut expected = vec![0.0; patches];
        for head in 0..heads {
            let keys: Vec<&[f32]> =
                (0..keys).map(|t| k.at(partition * keys + t, head * head_dim, head_dim)).collect();
            let weights = softmax(q.at(partition * step, head * head_dim, head_dim), &keys, scale);
            expected.iter_mut().zip(&weights[1..]).for_each(|(sum, w)| *sum += w);
        }
        for (got, expected) in got[partition * patches..].iter().zip(expected) {
            worst = worst.max((f64::from(*got) - expected).abs() / expected);
        }
    }
    println!(
        "{} {partitions}x{patches} {heads}x{head_dim} {}: {worst:.1e}",
        launches[0].kernel,
        number.name()
    );
    assert!(worst < 2e-6, "{worst}");
}

#[test]
#[ignore = "runs on the emulator, started by the tests in main.rs"]
fn few() {
    cls(Number::F16, 2, 40, 2, 8, false, 0, ORDERS[1]);
    cls(Number::F32, 1, 300, 3, 6, true, 0, ORDERS[3]);
}

#[test]
#[ignore = "runs on the emulator, started by the tests in main.rs"]
fn cases() {
    for number in [Number::F16, Number::F32] {
        for (turn, patches) in [1, 4, 31, 255, 256, 257].into_iter().enumerate() {
            cls(number, 2, patches, 3, 64, turn % 2 == 0, 0, ORDERS[turn % 5]);
        }
        for (turn, head_dim) in [2, 6, 24, 80, 128].into_iter().enumerate() {
            cls(number, 1, 20, 2, head_dim, turn % 2 == 0, turn % 3, ORDERS[turn % 5]);
        }
    }
}
