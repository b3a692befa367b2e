//! Sizes and layouts of device memory that is not a matrix of activations: weights, scratch and shared arrays.

use crate::format::Format;
use crate::kv;
use crate::ops::arena::rounded;
use crate::ops::cuda::attention::choose as attention;
use crate::ops::cuda::matmul::gemm::Split;
use crate::ops::cuda::parts::Parts;
use crate::ops::cuda::sample::choose::Choosing;
use crate::ops::sample::Sampling;
use crate::ops::{DECODE_ROWS, Span, Storage};

const WORD: usize = size_of::<u32>();

/// The format of a matrix of weights on the device, where floating-point weights are held in `dense`. Integers keep
/// their stored format.
pub fn device_format(dense: Format, stored: Format) -> Format {
    if stored.is_integer() { stored } else { dense }
}

/// Bytes that each group has beside its numbers: a scale, or one word for scale and zero point (`Awq` in
/// kernels/groups.cuh).
pub fn shared(format: Format) -> usize {
    match format {
        Format::Awq { .. } => WORD,
        _ => format.align(),
    }
}

/// Layout of a matrix of weights: its scales, then its numbers, in padded rows.
pub fn matrix(format: Format, rows: usize, cols: usize) -> Parts<2> {
    let stride = format.stride(cols);
    let scales = format.scales(rows, cols) * shared(format);
    Parts::of([scales, format.code_bytes(rows, stride)])
}

/// Bytes of a weight.
pub fn weight(format: Format, rows: usize, cols: usize, storage: Storage) -> usize {
    match storage {
        Storage::Matrix if format.is_integer() => matrix(format, rows, cols).bytes(),
        Storage::Matrix => rounded(format.bytes(rows, format.stride(cols))),
        Storage::Vector => rounded(rows * cols * size_of::<f32>()),
    }
}

/// Layout of rows of activations as int8, padded like int8 weights: codes, a scale for each row, and the counter by
/// which the blocks of the product that reads them find the last one.
pub fn tokens(rows: usize, cols: usize) -> Parts<3> {
    Parts::of([rows * Format::Q8.stride(cols), rows * size_of::<f32>(), WORD])
}

/// Layout of a prompt's batch: slot and sequence of each row, and the sequences' block tables.
pub fn rows(rows: usize, sequences: usize, pages: usize) -> Parts<3> {
    Parts::of([rows * WORD, rows * WORD, sequences * pages * WORD])
}

/// Layout of the arrays that are allocated with a cache: rotary frequencies; the arrays of a decode step, at the same
/// addresses in every step (positions and slots, sequences, tokens, block tables); and the counters by which the blocks
/// of attention find the last one of a row and key/value head, and of a row. The counters are 0 between launches.
pub fn step(shape: kv::Shape) -> Parts<6> {
    let row = DECODE_ROWS * WORD;
    let pages = attention::reach(shape.pages * kv::PAGE) / kv::PAGE;
    let counters = (shape.kv_heads + 1) * row;
    Parts::of([shape.head_dim / 2 * size_of::<f32>(), 2 * row, row, row, pages * row, counters])
}

/// The part of [`step`] with the counters.
pub const DONE: usize = 5;

/// Number of slots that a decode step of these sequences is laid out for.
pub fn reach(spans: &[Span]) -> usize {
    attention::reach(spans.iter().map(Span::context).max().unwrap_or(0))
}

/// Layout of the table of normalised values and of the pixels of all tiles.
pub fn patches(pixels: usize) -> Parts<2> {
    Parts::of([3 * 256 * size_of::<f32>(), pixels])
}

/// Layout of the patches' weights in each head, and their sums.
pub fn scores(partitions: usize, heads: usize, patches: usize) -> Parts<2> {
    Parts::of(attention::cls_bytes(heads, partitions, patches))
}

/// Bytes of the maximum and the sum for each query, of `heads` heads over all partitions.
pub fn received(heads: usize, tokens: usize) -> usize {
    heads * tokens * size_of::<[f32; 2]>()
}

/// Layout of weighted sums: start and end of each row's sources; the sources; and their factors.
pub fn mix(rows: usize, sources: usize) -> Parts<3> {
    Parts::of([2 * rows * WORD, sources * WORD, sources * size_of::<f32>()])
}

/// Layout of the partial results of a decode step's attention over `slots` slots: weighted values, then maxima and
/// sums.
pub fn decode(shape: kv::Shape, heads: usize, sequences: usize, slots: usize) -> Parts<2> {
    Parts::of(attention::decode_scratch(heads, shape.head_dim, sequences, slots))
}

/// Bytes of the partial sums of a GEMM with split-K, for weights of `cols` columns in one launch.
pub fn products(rows: usize, cols: &[usize], inner: usize, weights: Format) -> Option<usize> {
    let widest = cols.iter().copied().max().unwrap_or(0);
    Split::of(rows, widest, inner, weights).bytes(rows, cols.iter().sum())
}

/// Layout of FastV's ranking: weights of a prompt's last row to all `rows` in each head, their sums, and the scores of
/// the `among` rows that are ranked.
pub fn retain(heads: usize, rows: usize, among: usize) -> Parts<3> {
    let number = size_of::<f32>();
    Parts::of([heads * rows * number, heads * number, among * number])
}

/// Bytes of sampling among `vocab` tokens.
pub fn sample(vocab: usize, how: &[(Sampling, usize)]) -> usize {
    Choosing::new(how.len(), vocab, Choosing::is_greedy(how)).layout().bytes()
}
