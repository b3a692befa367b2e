//! Quantizes whole matrices of floating-point weights.

use half::{bf16, f16};
use rayon::prelude::*;

use super::Scheme;
use super::rounding::{q4_group, q8_row};
use crate::checkpoint::Tensor;
use crate::format::Format;
use crate::{Error, Result};

/// The matrix in the layout of [`Format::Q8`] or [`Format::Q4`], as words, so that its scales are aligned. `first` is
/// the index of its first row in the stored tensor. Needs two bytes per row and one row per thread in addition to the
/// result.
///
/// # Errors
/// As [`rows`].
pub(crate) fn matrix(tensor: &Tensor, scheme: Scheme, first: usize) -> Result<Vec<u32>> {
    let (count, columns) = (tensor.shape[0], tensor.shape[1]);
    let format = scheme.format();
    let mut words = vec![0u32; format.bytes(count, columns).div_ceil(size_of::<u32>())];
    let bytes =
        &mut bytemuck::cast_slice_mut::<u32, u8>(&mut words)[..format.bytes(count, columns)];
    let (place, codes) = bytes.split_at_mut(format.scales(count, columns) * format.align());
    match scheme {
        Scheme::Q8 => {
            let mut scales = vec![f16::ZERO; count];
            rows(tensor, scheme, first, tensor.bytes(), &mut scales, codes)?;
            let place: &mut [f32] = bytemuck::cast_slice_mut(place);
            place.iter_mut().zip(&scales).for_each(|(to, scale)| *to = scale.to_f32());
        }
        Scheme::Q4 { .. } => {
            let place = bytemuck::cast_slice_mut(place);
            rows(tensor, scheme, first, tensor.bytes(), place, codes)?;
        }
    }
    Ok(words)
}

/// Quantizes rows of a matrix, given as bytes, from row `first` on, into scales and codes.
///
/// # Errors
/// [`Error::Model`], naming tensor and row, if a weight is not finite or too large for an f16 scale.
pub(crate) fn rows(
    tensor: &Tensor,
    scheme: Scheme,
    first: usize,
    bytes: &[u8],
    scales: &mut [f16],
    codes: &mut [u8],
) -> Result<()> {
    let columns = tensor.shape[1];
    if columns == 0 {
        return Ok(());
    }
    let (group, packed) = match scheme {
        Scheme::Q8 => (columns, columns),
        Scheme::Q4 { group } => (group, columns / 2),
    };
    let format = tensor.stored_format();
    codes
        .par_chunks_mut(packed)
        .zip(scales.par_chunks_mut(columns / group))
        .zip(bytes.par_chunks(format.bytes(1, columns)))
        .enumerate()
        .try_for_each_init(
            || (vec![0f32; columns], vec![0i8; columns]),
            |(row, ints), (index, ((codes, scales), bytes))| {
                widen(format, bytes, row);
                for ((numbers, ints), scale) in
                    row.chunks(group).zip(ints.chunks_mut(group)).zip(scales)
                {
                    let found = match scheme {
                        Scheme::Q8 => q8_row(numbers, ints),
                        Scheme::Q4 { .. } => q4_group(numbers, ints),
                    };
                    *scale = found.ok_or(first + index)?;
                }
                match scheme {
                    Scheme::Q8 => codes.copy_from_slice(bytemuck::cast_slice(ints)),
                    Scheme::Q4 { .. } => pack(ints, codes),
                }
                Ok(())
            },
        )
        .map_err(|row: usize| {
            let what = format!(
                "row {row} of tensor {} has numbers that are infinite, not numbers, or too large for an f16 scale; \
                 the weights are damaged",
                tensor.name
            );
            Error::model(tensor.path(), what)
        })
}

/// Packs codes −8…7 two per byte, the first in the lower half, each plus 8.
fn pack(codes: &[i8], bytes: &mut [u8]) {
    for (byte, pair) in bytes.iter_mut().zip(codes.chunks_exact(2)) {
        let [low, high] = [pair[0], pair[1]].map(|code| (code + 8) as u8);
        *byte = low | high << 4;
    }
}

fn widen(format: Format, bytes: &[u8], row: &mut [f32]) {
    let pairs = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match format {
        Format::F16 => row.iter_mut().zip(pairs).for_each(|(x, b)| *x = f16::from_bits(b).to_f32()),
        Format::Bf16 => {
            row.iter_mut().zip(pairs).for_each(|(x, b)| *x = bf16::from_bits(b).to_f32());
        }
        Format::F32 => row
            .iter_mut()
            .zip(bytes.chunks_exact(4))
            .for_each(|(x, b)| *x = f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        _ => unreachable!("integers are not quantised again"),
    }
}
