//! AutoAWQ's `gemm` layout: `….qweight` (I32, `[columns, rows / 8]`), `….qzeros` (I32, `[groups, rows / 8]`) and
//! `….scales` (`[groups, rows]`), that is, transposed with respect to the weight.
//!
//! The factors by which AWQ scales a layer's inputs are folded into the preceding norms, whose weights are in the
//! folder too.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{Parts, expect_type, list, wrong};
use crate::Result;
use crate::checkpoint::tensor::{Raw, Tensor};
use crate::quant::Packing;

/// Codes per word.
pub(super) const IN_WORD: usize = 8;

/// The position of each of 8 consecutive rows in a word, in nibbles from the lowest.
const NIBBLE: [u32; IN_WORD] = [0, 4, 1, 5, 2, 6, 3, 7];

/// As [`super::find`].
pub(super) fn find(
    name: &str,
    stored: Packing,
    floats: &BTreeMap<String, Tensor>,
    others: &BTreeMap<String, Raw>,
) -> Result<Option<Tensor>> {
    let Some(layer) = name.strip_suffix(".weight") else { return Ok(None) };
    let Some(codes) = others.get(&format!("{layer}.qweight")) else { return Ok(None) };
    let missing = |what: &str| {
        wrong(codes, format!("tensor {} is there, but {layer}.{what} is missing", codes.name))
    };
    let Some(scales) = floats.get(&format!("{layer}.scales")) else {
        return Err(missing("scales"));
    };
    let Some(zeros) = others.get(&format!("{layer}.qzeros")) else { return Err(missing("qzeros")) };
    expect_type(codes, stored, "I32")?;
    expect_type(zeros, stored, "I32")?;
    let &[columns, words] = &codes.shape[..] else {
        let has = list(&codes.shape);
        return Err(wrong(
            codes,
            format!("tensor {} has shape {has}, which is not a matrix", codes.name),
        ));
    };
    let rows = words * IN_WORD;
    let format = stored.format(name, columns)?;
    let groups = format.scales(1, columns);
    for (what, shape, wanted) in [
        (&zeros.name, &zeros.shape, [groups, words]),
        (&scales.name, &scales.shape, [groups, rows]),
    ] {
        if *shape != wanted {
            let has = list(shape);
            return Err(wrong(
                codes,
                format!("tensor {what} has shape {has}, it must be {wanted:?}"),
            ));
        }
    }
    let parts = Parts { stored, scales: scales.clone(), zeros: Some(zeros.clone()) };
    Ok(Some(Tensor::joined(name, format, vec![rows, columns], codes, parts)))
}

/// Reorders zero points and codes by row.
pub(super) fn unpack(tensor: &Tensor, parts: &Parts, zeros: &mut [u8], codes: &mut [u8]) {
    let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
    if rows == 0 || columns == 0 {
        return;
    }
    let in_row = rows / IN_WORD;
    let stored = parts.zeros.as_ref().expect("found with zero points");
    let groups = zeros.len() / rows;
    for (row, zeros) in zeros.chunks_mut(groups).enumerate() {
        for (group, zero) in zeros.iter_mut().enumerate() {
            *zero = code(word(stored.bytes(), group * in_row + row / IN_WORD), row);
        }
    }
    // A word has the codes of 8 rows in one column.
    let bytes = tensor.bytes();
    codes.par_chunks_mut(IN_WORD * columns / 2).enumerate().for_each(|(block, codes)| {
        for pair in 0..columns / 2 {
            let [low, high] =
                [2 * pair, 2 * pair + 1].map(|column| word(bytes, column * in_row + block));
            for row in 0..IN_WORD {
                codes[row * columns / 2 + pair] = code(low, row) | code(high, row) << 4;
            }
        }
    });
}

fn word(bytes: &[u8], index: usize) -> u32 {
    let b = &bytes[4 * index..][..4];
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}

fn code(word: u32, row: usize) -> u8 {
    (word >> (4 * NIBBLE[row % IN_WORD]) & 15) as u8
}
