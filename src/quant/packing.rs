//! The layouts in which model folders store integer weights.

use std::fmt;

use super::Scheme;
use crate::format::Format;
use crate::{Error, Result};

/// A layout of integer weights, as described by a folder's `quantization_config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// compressed-tensors `int-quantized`: int8 with one scale per row; products with int8 activations.
    Int8,
    /// compressed-tensors `pack-quantized`: symmetric integers of 4 or 8 bits; products with floating-point
    /// activations.
    Packed {
        /// Bits per weight: 4 or 8.
        bits: usize,
        /// Weights of a row that share a scale; `None`: the whole row.
        group: Option<usize>,
    },
    /// AutoAWQ `gemm`: int4 with a scale and a zero point per group, stored transposed.
    Awq {
        /// Weights of a row that share a scale.
        group: usize,
    },
}

impl Packing {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "q8",
            Self::Packed { bits: 4, .. } => "q4",
            Self::Packed { .. } => "w8a16",
            Self::Awq { .. } => "awq",
        }
    }

    /// The storage format of a weight with that many columns. A scale for a whole row is repeated for groups of the
    /// row.
    ///
    /// # Errors
    /// [`Error::Request`] if groups do not divide the rows of the weight called `name`.
    pub(crate) fn format(self, name: &str, columns: usize) -> Result<Format> {
        let refused = |why: String| {
            Err(Error::Request(format!(
                "{name}: its rows have {columns} numbers, {why}: use the folder that this one was made from, with \
                 --dtype q8"
            )))
        };
        let group = match self {
            Self::Int8 => return Ok(Format::Q8),
            Self::Packed { group: Some(group), .. } | Self::Awq { group } => group,
            Self::Packed { group: None, .. } => {
                match Scheme::GROUPS.into_iter().rev().find(|group| columns.is_multiple_of(*group))
                {
                    Some(group) => group,
                    None => return refused("which is not a multiple of 32".into()),
                }
            }
        };
        if !columns.is_multiple_of(group) {
            return refused(format!("which is not a multiple of the group size {group}"));
        }
        Ok(match self {
            Self::Packed { bits: 8, .. } => Format::W8A16 { group },
            Self::Packed { .. } => Format::Q4 { group },
            _ => Format::Awq { group },
        })
    }

    /// Returns true if quantizing by `scheme` gives such a folder.
    pub(crate) fn made_by(self, scheme: Scheme) -> bool {
        self == Self::from(scheme)
    }
}

impl From<Scheme> for Packing {
    fn from(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Q8 => Self::Int8,
            Scheme::Q4 { group } => Self::Packed { bits: 4, group: Some(group) },
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int8 => write!(f, "q8"),
            Self::Packed { bits: 4, group: Some(group) } => write!(f, "q4, groups of {group}"),
            Self::Packed { bits, group: None } => {
                write!(f, "int{bits} with a scale for each row and floating-point activations")
            }
            Self::Packed { bits, group: Some(group) } => {
                write!(f, "int{bits} in groups of {group} with floating-point activations")
            }
            Self::Awq { group } => write!(f, "AWQ, groups of {group}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_for_a_row_is_repeated_for_the_largest_groups_that_divide_it() {
        let row = |bits| Packing::Packed { bits, group: None };
        assert_eq!(row(4).format("w", 384).unwrap(), Format::Q4 { group: 128 });
        assert_eq!(row(8).format("w", 96).unwrap(), Format::W8A16 { group: 32 });
        let message = row(4).format("w", 48).unwrap_err().to_string();
        assert!(
            message.starts_with("w: its rows have 48 numbers, which is not a multiple of 32"),
            "{message}"
        );
        let awq = Packing::Awq { group: 128 };
        assert_eq!(awq.format("w", 256).unwrap(), Format::Awq { group: 128 });
        assert!(awq.format("w", 192).is_err());
    }
}
