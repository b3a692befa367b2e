//! The header of a safetensors file: its tensors and their positions.

use std::ops::Range;
use std::path::Path;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata};

use crate::error::{Error, Result, excerpt};
use crate::format::Format;

/// Bytes of the header length at the start of the file.
pub(super) const LENGTH: usize = 8;

/// Largest header that is parsed: a hundred times that of the largest LLaVA.
const LARGEST: usize = 8 << 20;

/// A tensor as described in a file.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The name in the file.
    pub name: String,
    /// Format of the elements, or the name of an unsupported one.
    pub format: Result<Format, String>,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Byte range in the file; it lies inside the file and matches format and shape.
    pub range: Range<usize>,
}

/// The tensors of the safetensors file with the content `file`, in the order of their bytes. They do not overlap and
/// fill the file. `path` is only used in messages.
///
/// # Errors
/// [`Error::Model`] if the content is not a safetensors file or is damaged.
pub fn parse_header(file: &[u8], path: &Path) -> Result<Vec<Stored>> {
    let damaged = |what: String| Error::model(path, format!("{what}; download the file again"));
    if file.starts_with(b"version https://git-lfs") {
        let what = "this is a Git LFS pointer, not the weights; fetch them with `git lfs pull`";
        return Err(Error::model(path, what));
    }
    let Some((length, rest)) = file.split_first_chunk::<LENGTH>() else {
        return Err(damaged(format!("the file has only {} bytes", file.len())));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().filter(|length| *length <= LARGEST);
    let Some(header) = header.and_then(|length| rest.get(..length)) else {
        let what = format!(
            "its header claims {length} bytes, the file has {} and no header more than {LARGEST}",
            file.len()
        );
        return Err(damaged(what));
    };
    // Parsing also checks that the tensors follow each other without gaps or overlaps and have the lengths of their
    // shapes.
    let metadata: Metadata = serde_json::from_slice(header)
        .map_err(|e| damaged(format!("its header is broken ({})", excerpt(e, 200))))?;
    let start = LENGTH + header.len();
    let data = file.len() - start;
    if metadata.data_len() != data {
        let (end, state) = (
            metadata.data_len(),
            if metadata.data_len() > data { "truncated" } else { "too long" },
        );
        let what =
            format!("its tensors end at byte {end} of the data, which has {data}: it is {state}");
        return Err(damaged(what));
    }
    let stored = metadata.offset_keys().into_iter().filter_map(|name| {
        let info = metadata.info(&name)?;
        let range = start + info.data_offsets.0..start + info.data_offsets.1;
        let format = match info.dtype {
            Dtype::F16 => Ok(Format::F16),
            Dtype::BF16 => Ok(Format::Bf16),
            Dtype::F32 => Ok(Format::F32),
            other => Err(other.to_string()),
        };
        Some(Stored { format, shape: info.shape.clone(), range, name })
    });
    Ok(stored.collect())
}

/// The error for an invalid header that this program created itself.
pub(super) fn unwritable(path: &Path, error: SafeTensorError) -> Error {
    Error::model(path, format!("its header cannot be written: {error}"))
}
