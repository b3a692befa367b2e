//! Weights that are stored as integers: codes in one tensor, scales in another, possibly zero points in a third. They
//! are checked when they are looked up, and reordered into their [`Format`] when they are loaded.

mod awq;
mod compressed;

use std::collections::BTreeMap;
use std::ops::Range;

use half::{bf16, f16};

use super::tensor::{Raw, Tensor};
use crate::error::excerpt;
use crate::format::Format;
use crate::quant::Packing;
use crate::{Error, Result};

/// Bits per word of packed codes.
const WORD: usize = 32;

/// The tensors that belong to the codes of a weight.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    stored: Packing,
    scales: Tensor,
    zeros: Option<Raw>,
}

/// Looks up the weight with this canonical name (`….weight`) in a folder with this layout; `None` if it is not stored
/// as integers.
///
/// # Errors
/// [`Error::Model`] if one of its tensors is missing or they do not match, [`Error::Request`] if its groups do not
/// divide its rows.
pub(super) fn find(
    name: &str,
    stored: Packing,
    floats: &BTreeMap<String, Tensor>,
    others: &BTreeMap<String, Raw>,
) -> Result<Option<Tensor>> {
    match stored {
        Packing::Int8 | Packing::Packed { .. } => compressed::find(name, stored, floats, others),
        Packing::Awq { .. } => awq::find(name, stored, floats, others),
    }
}

/// The number of weights in a tensor of codes; `None` if it is not one.
pub(super) fn numbers(stored: Packing, raw: &Raw) -> Option<u64> {
    let (ending, in_element) = match stored {
        Packing::Int8 => (".weight", 1),
        Packing::Packed { bits, .. } => (".weight_packed", WORD / bits),
        Packing::Awq { .. } => (".qweight", awq::IN_WORD),
    };
    let elements = raw.shape.iter().map(|&n| n as u64).product::<u64>();
    raw.name.ends_with(ending).then(|| elements * in_element as u64)
}

/// Returns true if a floating-point tensor holds the scales of a weight.
pub(super) fn is_scale(stored: Packing, name: &str) -> bool {
    match stored {
        Packing::Int8 | Packing::Packed { .. } => name.ends_with(".weight_scale"),
        Packing::Awq { .. } => name.ends_with(".scales"),
    }
}

/// Scales, zero points and codes, concatenated in the weight's format.
///
/// # Errors
/// [`Error::Model`], naming tensor and row, if a scale is not finite or too large for f16, or is 0 although codes are
/// not.
pub(super) fn words(tensor: &Tensor, parts: &Parts) -> Result<Vec<u32>> {
    let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
    let format = tensor.format;
    let mut words = vec![0u32; format.bytes(rows, columns).div_ceil(size_of::<u32>())];
    let bytes = &mut bytemuck::cast_slice_mut::<u32, u8>(&mut words)[..];
    let (scales, rest) = bytes.split_at_mut(format.scales(rows, columns) * format.align());
    let (zeros, rest) = rest.split_at_mut(format.zeros(rows, columns));
    let codes = &mut rest[..format.code_bytes(rows, columns)];
    match parts.stored {
        Packing::Int8 => codes.copy_from_slice(tensor.bytes()),
        Packing::Packed { .. } => compressed::unpack(tensor, codes),
        Packing::Awq { .. } => awq::unpack(tensor, parts, zeros, codes),
    }
    let of_row = (format.scales(rows, columns) / rows.max(1)).max(1);
    let in_group = codes.len() / (rows * of_row).max(1);
    let numbers = floats(&parts.scales);
    for (i, codes) in codes.chunks(in_group.max(1)).enumerate() {
        let (row, group) = (i / of_row, i % of_row);
        let number = numbers[match parts.stored {
            Packing::Int8 | Packing::Packed { group: None, .. } => row,
            Packing::Packed { group: Some(_), .. } => i,
            Packing::Awq { .. } => group * rows + row,
        }];
        let place = &mut scales[i * format.align()..][..format.align()];
        let held = match format {
            Format::Q8 => {
                place.copy_from_slice(&number.to_le_bytes());
                number
            }
            _ => {
                place.copy_from_slice(&f16::from_f32(number).to_le_bytes());
                f16::from_f32(number).to_f32()
            }
        };
        // The code that stands for 0, in each nibble or in the byte.
        let zero = match format {
            Format::Q4 { .. } => 0x88,
            Format::Awq { .. } => zeros[i] * 0x11,
            _ => 0,
        };
        if !held.is_finite() || held == 0.0 && codes.iter().any(|&code| code != zero) {
            let why = match number.is_finite() && number != 0.0 {
                true => {
                    "which f16 cannot represent: use the folder that it was made from, with --dtype"
                }
                false => "the file is damaged, download it again",
            };
            let what = format!(
                "row {row} of tensor {} has the scale {number:e}: {why}",
                parts.scales.name
            );
            return Err(Error::model(parts.scales.path(), what));
        }
    }
    Ok(words)
}

/// Extracts rows of a matrix of integers in its format.
pub(super) fn rows(whole: &Tensor, words: &[u32], rows: &Range<usize>) -> Vec<u32> {
    let (format, count, columns) = (whole.format, whole.shape[0], whole.shape[1]);
    let mut out = vec![0u32; format.bytes(rows.len(), columns).div_ceil(size_of::<u32>())];
    let mut bytes = &mut bytemuck::cast_slice_mut::<u32, u8>(&mut out)[..];
    let mut words: &[u8] = bytemuck::cast_slice(words);
    let scales = format.scales(1, columns) * format.align();
    for row in [scales, format.zeros(1, columns), format.code_bytes(1, columns)] {
        let (from, to);
        (from, words) = words.split_at(count * row);
        (to, bytes) = bytes.split_at_mut(rows.len() * row);
        to.copy_from_slice(&from[rows.start * row..rows.end * row]);
    }
    out
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    let numbers = tensor.bytes().chunks_exact(tensor.format.align());
    numbers
        .map(|b| match tensor.format {
            Format::F16 => f16::from_le_bytes([b[0], b[1]]).to_f32(),
            Format::Bf16 => bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            _ => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        })
        .collect()
}

/// An error about the tensors that belong to `codes`.
fn wrong(codes: &Raw, what: String) -> Error {
    Error::model(codes.shard.path(), format!("{what}; download the files again"))
}

/// Fails unless a tensor has this type.
fn expect_type(raw: &Raw, stored: Packing, wanted: &str) -> Result<()> {
    if raw.dtype == wanted {
        return Ok(());
    }
    let what =
        format!("tensor {} is stored as {}, {stored} has {wanted} there", raw.name, raw.dtype);
    Err(wrong(raw, what))
}

/// Formats a shape for a message.
fn list(shape: &[usize]) -> String {
    excerpt(format!("{shape:?}"), 100)
}
