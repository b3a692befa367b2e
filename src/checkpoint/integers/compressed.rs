//! The compressed-tensors layout: `….weight` (I8) or `….weight_packed` (I32) with `….weight_shape`, and
//! `….weight_scale`.

use std::collections::BTreeMap;

use super::{Parts, WORD, expect_type, list, wrong};
use crate::Result;
use crate::checkpoint::tensor::{Raw, Tensor};
use crate::format::Format;
use crate::quant::Packing;

/// As [`super::find`].
pub(super) fn find(
    name: &str,
    stored: Packing,
    floats: &BTreeMap<String, Tensor>,
    others: &BTreeMap<String, Raw>,
) -> Result<Option<Tensor>> {
    let codes = match stored {
        Packing::Packed { .. } => format!("{name}_packed"),
        _ => name.to_owned(),
    };
    let Some(codes) = others.get(&codes) else { return Ok(None) };
    let Some(scales) = floats.get(&format!("{name}_scale")) else {
        let what = format!("tensor {name} is stored as integers, but {name}_scale is missing");
        return Err(wrong(codes, what));
    };
    let shape = match stored {
        Packing::Packed { bits, .. } => {
            expect_type(codes, stored, "I32")?;
            packed_shape(name, bits, codes, others.get(&format!("{name}_shape")), stored)?
        }
        _ => {
            expect_type(codes, stored, "I8")?;
            matrix(name, codes, &codes.shape)?
        }
    };
    let [rows, columns] = shape;
    let format = stored.format(name, columns)?;
    let groups = match stored {
        Packing::Packed { group: Some(group), .. } => columns / group,
        _ => 1,
    };
    if scales.shape != [rows, groups] && !(groups == 1 && scales.shape == [rows]) {
        let (has, wanted) = (list(&scales.shape), [rows, groups]);
        let what = format!("tensor {} has shape {has}, it must be {wanted:?}", scales.name);
        return Err(wrong(codes, what));
    }
    let parts = Parts { stored, scales: scales.clone(), zeros: None };
    Ok(Some(Tensor::joined(name, format, shape.into(), codes, parts)))
}

/// Rows and columns of a packed weight, from its `shape` tensor, checked against the number of words.
fn packed_shape(
    name: &str,
    bits: usize,
    codes: &Raw,
    shape: Option<&Raw>,
    stored: Packing,
) -> Result<[usize; 2]> {
    let Some(shape) = shape else {
        return Err(wrong(codes, format!("tensor {name}_shape is missing")));
    };
    expect_type(shape, stored, "I64")?;
    let sizes = shape.bytes().chunks_exact(8).map(|b| {
        usize::try_from(i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])).ok()
    });
    let Some(sizes) = sizes.collect::<Option<Vec<_>>>() else {
        return Err(wrong(codes, format!("tensor {name}_shape has a negative size")));
    };
    let [rows, columns] = matrix(name, codes, &sizes)?;
    // Each row begins in a new word.
    let wanted = [rows, columns.div_ceil(WORD / bits)];
    if codes.shape != wanted {
        let has = list(&codes.shape);
        let what =
            format!("tensor {} has shape {has}, {name}_shape asks for {wanted:?}", codes.name);
        return Err(wrong(codes, what));
    }
    Ok([rows, columns])
}

fn matrix(name: &str, codes: &Raw, shape: &[usize]) -> Result<[usize; 2]> {
    <[usize; 2]>::try_from(shape).map_err(|_| {
        wrong(codes, format!("tensor {name} has shape {}, which is not a matrix", list(shape)))
    })
}

/// Unpacks codes into the weight's format. Words are little-endian and begin with the lowest column, so nibbles are
/// in order already; 2^(bits − 1) was added to each code, which our int8 weights do not have.
pub(super) fn unpack(tensor: &Tensor, codes: &mut [u8]) {
    codes.copy_from_slice(tensor.bytes());
    if let Format::W8A16 { .. } = tensor.format {
        codes.iter_mut().for_each(|code| *code ^= 0x80);
    }
}
