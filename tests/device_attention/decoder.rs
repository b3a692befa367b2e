//! The decoder: spans of a prompt and steps of one row, keys and values in pages.

use super::card::{Card, ORDERS};
use super::{Random, Rows, attend, blank, download, hold, launch, path, rounded, upload};
use hired::ops::cuda::attention::{self, Heads};
use hired::ops::cuda::launch::Number;

const PAGE: usize = 16;

#[repr(C)]
struct PrefillParams {
    q: u64,
    cache: u64,
    out: u64,
    pages: u64,
    rows: u32,
    position: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    q_stride: u32,
    out_stride: u32,
    scale: f32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct DecodeParams {
    q: u64,
    cache: u64,
    out: u64,
    positions: u64,
    tables: u64,
    mixed: u64,
    weights: u64,
    splits: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    table_stride: u32,
    q_stride: u32,
    out_stride: u32,
    scale: f32,
}

/// Sequences in one layer of a cache, pages shuffled; NaN wherever nobody has written.
struct Paged {
    number: Number,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    tables: Vec<u32>,
    stride: usize,
    cache: Vec<f32>,
}

impl Paged {
    fn new(
        number: Number,
        [heads, kv_heads, head_dim]: [usize; 3],
        contexts: &[usize],
        stride: usize,
    ) -> Self {
        let random = &mut Random((head_dim * heads) as u64);
        let width = kv_heads * head_dim;
        let pages: usize = contexts.iter().map(|c| c.div_ceil(PAGE)).sum::<usize>() + 1;
        let mut cache = vec![f32::NAN; pages * 2 * PAGE * width];
        // Pages from the last to the second; unused entries name a page that is not there.
        let mut next = pages;
        let (mut all_keys, mut all_values, mut tables) = (vec![], vec![], vec![]);
        for &context in contexts {
            let mut table = vec![u32::MAX; stride];
            let mut draw = || {
                (0..context * width).map(|_| rounded(number, random.next())).collect::<Vec<f32>>()
            };
            let (keys, values) = (draw(), draw());
            for position in 0..context {
                if position % PAGE == 0 {
                    next -= 1;
                    table[position / PAGE] = next as u32;
                }
                for (part, from) in [&keys, &values].into_iter().enumerate() {
                    for head in 0..kv_heads {
                        let to = (((next * 2 + part) * kv_heads + head) * PAGE + position % PAGE)
                            * head_dim;
                        cache[to..][..head_dim].copy_from_slice(
                            &from[position * width + head * head_dim..][..head_dim],
                        );
                    }
                }
            }
            all_keys.push(keys);
            all_values.push(values);
            tables.extend(table);
        }
        Self {
            number,
            heads,
            kv_heads,
            head_dim,
            keys: all_keys,
            values: all_values,
            tables,
            stride,
            cache,
        }
    }

    fn shape(&self, stride: usize, aligned: bool) -> Heads {
        Heads {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            number: self.number,
            q_stride: stride,
            kv_stride: self.head_dim,
            out_stride: stride,
            aligned,
        }
    }

    fn expected(
        &self,
        sequence: usize,
        head: usize,
        context: usize,
        q: &[f32],
        scale: f32,
    ) -> Vec<f64> {
        let width = self.kv_heads * self.head_dim;
        let column = head / (self.heads / self.kv_heads) * self.head_dim;
        let of = |x: &Vec<f32>| -> Vec<Vec<f32>> {
            (0..context).map(|t| x[t * width + column..][..self.head_dim].to_vec()).collect()
        };
        let (k, v) = (of(&self.keys[sequence]), of(&self.values[sequence]));
        let (k, v): (Vec<_>, Vec<_>) =
            (k.iter().map(|x| &x[..]).collect(), v.iter().map(|x| &x[..]).collect());
        attend(q, &k, &v, scale)
    }
}

fn prefill(
    number: Number,
    shape: [usize; 3],
    position: usize,
    rows: usize,
    aligned: bool,
    order: (i32, u64, u8),
) {
    let [heads, kv_heads, head_dim] = shape;
    let context = position + rows;
    let paged = Paged::new(number, shape, &[context], context.div_ceil(PAGE));
    let card = Card::new(order);
    let cols = heads * head_dim;
    let q = Rows::new(&mut Random(7), number, rows, cols, cols);
    let scale = 1.0 / (head_dim as f32).sqrt();
    let out = blank(&card, number, rows * cols, aligned);
    let params = PrefillParams {
        q: upload(&card, number, &q.data, aligned),
        cache: upload(&card, number, &paged.cache, aligned),
        out,
        pages: card.upload(&paged.tables),
        rows: rows as u32,
        position: position as u32,
        heads: heads as u32,
        kv_heads: kv_heads as u32,
        head_dim: head_dim as u32,
        q_stride: cols as u32,
        out_stride: cols as u32,
        scale,
    };
    let how = attention::prefill(path(), &paged.shape(cols, aligned), rows);
    launch(&card, &how, params);
    let got = download(&card, number, out, rows * cols);
    let what = format!(
        "{} {rows} rows at {position}, {heads}/{kv_heads}x{head_dim} {order:?}",
        how.kernel
    );
    let mut worst = 0.0f64;
    for row in 0..rows {
        for head in 0..heads {
            let expected = paged.expected(
                0,
                head,
                position + row + 1,
                q.at(row, head * head_dim, head_dim),
                scale,
            );
            worst = worst.max(hold(
                &what,
                number,
                &got[row * cols + head * head_dim..][..head_dim],
                &expected,
            ));
        }
    }
    println!("{what}: {worst:.2} of what is allowed");
}

/// Results by sequence.
fn decode(
    number: Number,
    shape: [usize; 3],
    contexts: &[usize],
    capacity: usize,
    aligned: bool,
    order: (i32, u64, u8),
) -> Vec<Vec<u32>> {
    let [heads, kv_heads, head_dim] = shape;
    let paged = Paged::new(number, shape, contexts, capacity.div_ceil(PAGE));
    let card = Card::new(order);
    let (cols, sequences) = (heads * head_dim, contexts.len());
    let q = Rows::new(&mut Random(5), number, sequences, cols, cols);
    let scale = 1.0 / (head_dim as f32).sqrt();
    let out = blank(&card, number, sequences * cols, aligned);
    let splits = attention::splits(paged.stride);
    let [mixed, weights] = attention::decode_scratch(heads, head_dim, sequences, splits);
    let positions: Vec<u32> = contexts.iter().map(|c| *c as u32 - 1).collect();
    let params = DecodeParams {
        q: upload(&card, number, &q.data, aligned),
        cache: upload(&card, number, &paged.cache, aligned),
        out,
        positions: card.upload(&positions),
        tables: card.upload(&paged.tables),
        mixed: card.blank::<u8>(mixed),
        weights: card.blank::<u8>(weights),
        splits: splits as u32,
        heads: heads as u32,
        kv_heads: kv_heads as u32,
        head_dim: head_dim as u32,
        table_stride: paged.stride as u32,
        q_stride: cols as u32,
        out_stride: cols as u32,
        scale,
    };
    let launches = attention::decode(&paged.shape(cols, aligned), sequences, splits);
    for one in &launches {
        launch(&card, one, params);
    }
    let got = download(&card, number, out, sequences * cols);
    let what = format!(
        "{} {contexts:?} of {capacity}, {heads}/{kv_heads}x{head_dim} {order:?}",
        launches[0].kernel
    );
    let mut worst = 0.0f64;
    for (sequence, &context) in contexts.iter().enumerate() {
        for head in 0..heads {
            let expected = paged.expected(
                sequence,
                head,
                context,
                q.at(sequence, head * head_dim, head_dim),
                scale,
            );
            worst = worst.max(hold(
                &what,
                number,
                &got[sequence * cols + head * head_dim..][..head_dim],
                &expected,
            ));
        }
    }
    println!("{what}: {worst:.2} of what is allowed");
    got.chunks_exact(cols).map(|row| row.iter().map(|x| x.to_bits()).collect()).collect()
}

#[test]
#[ignore = "runs on the emulator, started by the tests in main.rs"]
fn few() {
    prefill(Number::F16, [2, 1, 24], 14, 35, true, ORDERS[1]);
    prefill(Number::F32, [2, 1, 6], 3, 5, true, ORDERS[2]);
    decode(Number::F16, [2, 1, 24], &[17, 3], 272, true, ORDERS[1]);
    decode(Number::F32, [3, 1, 6], &[5], 16, true, ORDERS[3]);
}

#[test]
#[ignore = "runs on the emulator, started by the tests in main.rs"]
fn prefill_cases() {
    for number in [Number::F16, Number::F32] {
        for (turn, context) in [1, 15, 16, 17, 33, 64, 65, 130].into_iter().enumerate() {
            prefill(number, [2, 1, 64], 0, context, true, ORDERS[turn % 5]);
        }
        for (turn, (position, rows)) in
            [(15, 1), (16, 2), (17, 31), (40, 70), (63, 65), (100, 3)].into_iter().enumerate()
        {
            prefill(number, [2, 2, 128], position, rows, true, ORDERS[turn % 5]);
        }
        for (turn, head_dim) in [2, 6, 24, 80, 96, 126].into_iter().enumerate() {
            prefill(number, [4, 2, head_dim], turn * 7, 20, true, ORDERS[turn % 5]);
        }
        for (turn, heads) in [[4, 4], [4, 1], [7, 1], [14, 2]].into_iter().enumerate() {
            prefill(number, [heads[0], heads[1], 16], 9, 10, true, ORDERS[turn % 5]);
        }
        prefill(number, [2, 1, 64], 5, 20, false, ORDERS[1]);
    }
}

#[test]
#[ignore = "runs on the emulator, started by the tests in main.rs"]
fn decode_cases() {
    for number in [Number::F16, Number::F32] {
        for (turn, context) in [1, 2, 15, 16, 17, 255, 256, 257, 520].into_iter().enumerate() {
            decode(number, [2, 2, 64], &[context], context + 16, true, ORDERS[turn % 5]);
        }
        for (turn, head_dim) in [2, 6, 24, 80, 96, 126, 128].into_iter().enumerate() {
            decode(number, [4, 2, head_dim], &[20 + turn * 40], 300, true, ORDERS[turn % 5]);
        }
        for (turn, heads) in
            [[4, 4], [4, 2], [4, 1], [7, 1], [14, 2], [9, 1]].into_iter().enumerate()
        {
            for head_dim in [64, 128, 6] {
                decode(number, [heads[0], heads[1], head_dim], &[40], 48, true, ORDERS[turn % 5]);
            }
        }
        decode(number, [4, 2, 64], &[33], 48, false, ORDERS[1]);
    }
    // A row has its own bits whatever the batch, the capacity and the order of blocks.
    let shape = [4, 2, 64];
    let alone = decode(Number::F16, shape, &[270], 272, true, ORDERS[0]);
    let batch = decode(Number::F16, shape, &[270, 1, 31], 1000, true, ORDERS[3]);
    assert_eq!(alone[0], batch[0]);
}
