//! Weights that compressed-tensors stores as integers: codes in one tensor, scales in another.

use half::{bf16, f16};

use super::tensor::{Raw, Tensor};
use crate::error::excerpt;
use crate::format::Format;
use crate::quant::Scheme;
use crate::{Error, Result};

/// Codes in a word of a packed tensor.
const NIBBLES: usize = 8;

/// The weight of this canonical name; what says it lies in `codes`, `scales` and, for packed ones, `shape`.
///
/// # Errors
/// [`Error::Model`] if these do not fit each other.
pub(super) fn tensor(
    name: &str,
    scheme: Scheme,
    codes: &Raw,
    scales: &Tensor,
    shape: Option<&Raw>,
) -> Result<Tensor> {
    let wrong = |what: String| {
        Error::model(codes.shard.path(), format!("{what}; download the files again"))
    };
    let type_of = |raw: &Raw, wanted: &str| {
        if raw.dtype == wanted {
            return Ok(());
        }
        Err(wrong(format!(
            "tensor {} is stored as {}, {scheme} has {wanted} there",
            raw.name, raw.dtype
        )))
    };
    let list = |shape: &[usize]| excerpt(format!("{shape:?}"), 100);
    let logical = match scheme {
        Scheme::Q8 => {
            type_of(codes, "I8")?;
            codes.shape.clone()
        }
        Scheme::Q4 { .. } => {
            type_of(codes, "I32")?;
            let Some(shape) = shape else {
                return Err(wrong(format!("tensor {name}_shape is missing")));
            };
            type_of(shape, "I64")?;
            let sizes = shape.bytes().chunks_exact(8).map(|b| {
                let size = i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
                usize::try_from(size).ok()
            });
            match sizes.collect::<Option<Vec<_>>>() {
                Some(sizes) => sizes,
                None => return Err(wrong(format!("tensor {name}_shape has a negative size"))),
            }
        }
    };
    let &[rows, columns] = &logical[..] else {
        return Err(wrong(format!(
            "tensor {name} has shape {}, which is no matrix",
            list(&logical)
        )));
    };
    scheme.divides(name, columns)?;
    if let Scheme::Q4 { .. } = scheme
        && codes.shape != [rows, columns / NIBBLES]
    {
        let (has, wanted) = (list(&codes.shape), [rows, columns / NIBBLES]);
        return Err(wrong(format!(
            "tensor {} has shape {has}, {name}_shape asks for {wanted:?}",
            codes.name
        )));
    }
    let format = scheme.format();
    let groups = match scheme {
        Scheme::Q8 => 1,
        Scheme::Q4 { group } => columns / group,
    };
    if scales.shape != [rows, groups] && !(groups == 1 && scales.shape == [rows]) {
        let has = list(&scales.shape);
        return Err(wrong(format!(
            "tensor {} has shape {has}, it must be {:?}",
            scales.name,
            [rows, groups]
        )));
    }
    Ok(Tensor::joined(name, format, logical, codes, scales))
}

/// Scales and codes one after the other, as the weight's format has them.
///
/// # Errors
/// [`Error::Model`] that names tensor and row: a scale is not finite or too large for f16, or 0 where codes are not.
pub(super) fn words(tensor: &Tensor, scales: &Tensor) -> Result<Vec<u32>> {
    let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
    let format = tensor.format;
    let size = format.bytes(rows, columns);
    let mut words = vec![0u32; size.div_ceil(size_of::<u32>())];
    let bytes = &mut bytemuck::cast_slice_mut::<u32, u8>(&mut words)[..size];
    let (place, codes) = bytes.split_at_mut(format.scales(rows, columns) * format.align());
    codes.copy_from_slice(tensor.bytes());
    let numbers = scales.bytes().chunks_exact(scales.format.align()).map(|b| match scales.format {
        Format::F16 => f16::from_le_bytes([b[0], b[1]]).to_f32(),
        Format::Bf16 => bf16::from_le_bytes([b[0], b[1]]).to_f32(),
        _ => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
    });
    // What stands for 0: in packed codes 8 is added to each.
    let (in_group, zero) = match format {
        Format::Q4 { group } => (group / 2, 0x88),
        _ => (columns, 0),
    };
    let of_row = (format.scales(rows, columns) / rows.max(1)).max(1);
    for (i, number) in numbers.enumerate() {
        let bytes = match format {
            Format::Q4 { .. } => &f16::from_f32(number).to_le_bytes()[..],
            _ => &number.to_le_bytes()[..],
        };
        place[i * bytes.len()..][..bytes.len()].copy_from_slice(bytes);
        let dead = number == 0.0 && codes[i * in_group..][..in_group].iter().any(|&c| c != zero);
        let infinite = matches!(format, Format::Q4 { .. }) && !f16::from_f32(number).is_finite();
        if !number.is_finite() || infinite || dead {
            let what = format!(
                "row {} of tensor {} has the scale {number}: the file is damaged, download it again",
                i / of_row,
                scales.name
            );
            return Err(Error::model(scales.path(), what));
        }
    }
    Ok(words)
}
