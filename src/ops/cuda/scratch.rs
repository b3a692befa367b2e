//! Bytes of device memory that is no matrix: what operations need beside their operands, and what they share.

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

/// The format in which a matrix of weights lies on the device where floating-point numbers are held in `dense`: integers
/// stay as they are stored.
pub fn held(dense: Format, stored: Format) -> Format {
    if stored.is_integer() { stored } else { dense }
}

/// Bytes of what the numbers of a group share: a scale, with its zero point a word for both (`Awq` in kernels/groups.cuh).
pub fn shared(format: Format) -> usize {
    match format {
        Format::Awq { .. } => WORD,
        _ => format.align(),
    }
}

/// A matrix of weights: its scales, then its numbers, row by row with padding.
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

/// Rows of activations as int8, padded as int8 weights are: codes, then a scale for each row.
pub fn tokens(rows: usize, cols: usize) -> Parts<2> {
    Parts::of([rows * Format::Q8.stride(cols), rows * size_of::<f32>()])
}

/// Slot and sequence of each row, and the sequences' block tables.
pub fn rows(rows: usize, sequences: usize, pages: usize) -> Parts<3> {
    Parts::of([rows * WORD, rows * WORD, sequences * pages * WORD])
}

/// Beside the cache: rotation frequencies, and what a decode step reads, at one place for all steps: positions and
/// slots, sequences, tokens and block tables, of which a step fills as much as it needs. Last, what the blocks of its
/// attention count by: the step's own rows, head by head of the keys, 0 between launches.
pub fn step(shape: kv::Shape) -> Parts<6> {
    let row = DECODE_ROWS * WORD;
    let pages = attention::reach(shape.pages * kv::PAGE) / kv::PAGE;
    let counters = shape.kv_heads * row;
    Parts::of([shape.head_dim / 2 * size_of::<f32>(), 2 * row, row, row, pages * row, counters])
}

/// Of [`step`]: the counters.
pub const DONE: usize = 5;

/// Slots that a decode step of these sequences is laid out for.
pub fn reach(spans: &[Span]) -> usize {
    attention::reach(spans.iter().map(Span::context).max().unwrap_or(0))
}

/// The table of normalised values and the bytes of all tiles.
pub fn patches(pixels: usize) -> Parts<2> {
    Parts::of([3 * 256 * size_of::<f32>(), pixels])
}

/// Weights of the patches in each head, and their sums.
pub fn scores(partitions: usize, heads: usize, patches: usize) -> Parts<2> {
    Parts::of(attention::cls_bytes(heads, partitions, patches))
}

/// Of so many heads in all partitions: each query's greatest score and the sum of its weights.
pub fn received(heads: usize, tokens: usize) -> usize {
    heads * tokens * size_of::<[f32; 2]>()
}

/// Where the sources of so many combined rows begin and end; the sources, and what each is multiplied by.
pub fn mix(rows: usize, sources: usize) -> Parts<3> {
    Parts::of([2 * rows * WORD, sources * WORD, sources * size_of::<f32>()])
}

/// Splits of the attention of a decode step laid out for so many slots: mixed values, greatest scores with sums.
pub fn decode(shape: kv::Shape, heads: usize, sequences: usize, slots: usize) -> Parts<2> {
    Parts::of(attention::decode_scratch(heads, shape.head_dim, sequences, slots))
}

/// Sums of the parts in which products of more than a few rows with weights of so many columns are made, all in one
/// launch.
pub fn products(rows: usize, cols: &[usize], inner: usize, weights: Format) -> Option<usize> {
    let widest = cols.iter().copied().max().unwrap_or(0);
    Split::of(rows, widest, inner, weights).bytes(rows, cols.iter().sum())
}

/// Of a prompt's last row: its weights to all `rows` in each head, their sums, and the scores of the rows `among` which
/// some are dropped.
pub fn retain(heads: usize, rows: usize, among: usize) -> Parts<3> {
    let number = size_of::<f32>();
    Parts::of([heads * rows * number, heads * number, among * number])
}

/// Bytes of a choice of tokens among `vocab`.
pub fn sample(vocab: usize, how: &[(Sampling, usize)]) -> usize {
    Choosing::new(how.len(), vocab, Choosing::is_greedy(how)).layout().bytes()
}
