//! The vision tower: all keys of a partition, all rows or the kept ones.

use super::card::{Card, ORDERS};
use super::{Random, Rows, attend, blank, download, hold, launch, path, upload};
use hired::ops::cuda::attention::{self, Heads};
use hired::ops::cuda::launch::Number;

#[repr(C)]
struct VisionAttentionParams {
    q: u64,
    k: u64,
    v: u64,
    out: u64,
    offsets: u64,
    tokens: u32,
    heads: u32,
    head_dim: u32,
    q_stride: u32,
    kv_stride: u32,
    out_stride: u32,
    scale: f32,
    reserved: u32,
}

struct Vision {
    number: Number,
    partitions: usize,
    tokens: usize,
    heads: usize,
    head_dim: usize,
    kept: Option<Vec<usize>>,
    pad: usize,
    aligned: bool,
}

fn vision(case: &Vision, order: (i32, u64, u8)) {
    let &Vision { number, partitions, tokens, heads, head_dim, pad, aligned, .. } = case;
    let (cols, stride) = (heads * head_dim, heads * head_dim + pad);
    let random = &mut Random(head_dim as u64 * 1000 + tokens as u64);
    let card = Card::new(order);
    let counts = case.kept.clone().unwrap_or(vec![tokens; partitions]);
    let mut offsets = vec![0u32];
    for count in &counts {
        offsets.push(offsets.last().unwrap() + *count as u32);
    }
    let rows = *offsets.last().unwrap() as usize;
    let q = Rows::new(random, number, rows, cols, stride);
    let k = Rows::new(random, number, partitions * tokens, cols, stride);
    let v = Rows::new(random, number, partitions * tokens, cols, stride);
    let shape = Heads {
        heads,
        kv_heads: heads,
        head_dim,
        number,
        q_stride: stride,
        kv_stride: stride,
        out_stride: stride,
        aligned,
    };
    let scale = 1.0 / (head_dim as f32).sqrt();
    let out = blank(&card, number, rows * stride, aligned);
    let params = VisionAttentionParams {
        q: upload(&card, number, &q.data, aligned),
        k: upload(&card, number, &k.data, aligned),
        v: upload(&card, number, &v.data, aligned),
        out,
        offsets: if case.kept.is_some() { card.upload(&offsets) } else { 0 },
        tokens: tokens as u32,
        heads: heads as u32,
        head_dim: head_dim as u32,
        q_stride: stride as u32,
        kv_stride: stride as u32,
        out_stride: stride as u32,
        scale,
        reserved: 0,
    };
    let before = download(&card, number, out, rows * stride);
    let most = counts.iter().copied().max().unwrap();
    let how = attention::vision(path(), &shape, most, partitions);
    launch(&card, &how, params);
    let got = download(&card, number, out, rows * stride);
    let mut worst = 0.0f64;
    let what = format!(
        "{} {tokens} tokens, {heads}x{head_dim}+{pad} {:?} {order:?}",
        how.kernel, case.kept
    );
    for partition in 0..partitions {
        for row in offsets[partition] as usize..offsets[partition + 1] as usize {
            for head in 0..heads {
                let column = head * head_dim;
                let of = |x: &Rows| -> Vec<Vec<f32>> {
                    (0..tokens)
                        .map(|t| x.at(partition * tokens + t, column, head_dim).to_vec())
                        .collect()
                };
                let (k, v) = (of(&k), of(&v));
                let (k, v): (Vec<_>, Vec<_>) =
                    (k.iter().map(|x| &x[..]).collect(), v.iter().map(|x| &x[..]).collect());
                let expected = attend(q.at(row, column, head_dim), &k, &v, scale);
                worst = worst.max(hold(
                    &what,
                    number,
                    &got[row * stride + column..][..head_dim],
                    &expected,
                ));
            }
            let gap = row * stride + cols..(row + 1) * stride;
            let same =
                got[gap.clone()].iter().zip(&before[gap]).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{what}: wrote between rows");
        }
    }
    println!("{what}: {worst:.2} of what is allowed");
}

#[test]
#[ignore = "runs on the emulator, started by the tests in main.rs"]
fn few() {
    let basic = |number, tokens, heads, head_dim| Vision {
        number,
        partitions: 1,
        tokens,
        heads,
        head_dim,
        kept: None,
        pad: 0,
        aligned: true,
    };
    vision(&basic(Number::F16, 67, 1, 24), ORDERS[1]);
    vision(&basic(Number::F32, 67, 1, 12), ORDERS[1]);
    vision(&basic(Number::F16, 35, 1, 6), ORDERS[2]);
    vision(&basic(Number::F16, 35, 1, 72), ORDERS[3]);
}

#[test]
#[ignore = "runs on the emulator, started by the tests in main.rs"]
fn cases() {
    for number in [Number::F16, Number::F32] {
        let basic = |tokens, heads, head_dim| Vision {
            number,
            partitions: 2,
            tokens,
            heads,
            head_dim,
            kept: None,
            pad: 0,
            aligned: true,
        };
        // Tokens around the tiles of keys and queries.
        for (turn, tokens) in [1, 2, 17, 31, 32, 33, 63, 64, 65, 127, 129].into_iter().enumerate() {
            vision(&basic(tokens, 1, 64), ORDERS[turn % 5]);
        }
        for (turn, head_dim) in [2, 6, 8, 16, 24, 48, 80, 96, 100, 126, 128].into_iter().enumerate()
        {
            vision(&basic(37, 2, head_dim), ORDERS[turn % 5]);
        }
        for order in ORDERS {
            vision(
                &Vision { kept: Some(vec![3, 0, 33]), partitions: 3, ..basic(35, 2, 64) },
                order,
            );
            vision(
                &Vision { kept: Some(vec![0, 1, 35]), partitions: 3, ..basic(35, 1, 128) },
                order,
            );
        }
        vision(&Vision { pad: 8, ..basic(33, 2, 64) }, ORDERS[1]);
        vision(&Vision { pad: 3, ..basic(33, 2, 64) }, ORDERS[2]);
        vision(&Vision { aligned: false, ..basic(33, 2, 64) }, ORDERS[3]);
    }
}
