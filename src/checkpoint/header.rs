//! The header of a safetensors file: which tensors it holds, and where.

use std::ops::Range;
use std::path::Path;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata};

use crate::error::{Error, Result, excerpt};
use crate::format::Format;

/// Bytes of the header's length, which comes first in the file.
pub(super) const LENGTH: usize = 8;

/// The largest header that is parsed: a hundred times what the largest LLaVA needs.
const LARGEST: usize = 8 << 20;

/// One tensor as a file describes it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its name in the file.
    pub name: String,
    /// Type of its elements, or the name of one that is not supported.
    pub format: Result<Format, String>,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Its bytes in the file, inside the file and as many as type and shape ask for.
    pub range: Range<usize>,
}

/// The tensors of the safetensors file with the content `file`, in order of their bytes. No two of
/// them overlap, and together they fill the file. `path` is for messages only.
///
/// # Errors
/// [`Error::Model`]: the content is no such file, or a damaged one.
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
    // Parsing also checks that the tensors follow each other without hole or overlap, each as long
    // as its shape asks for.
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

/// What is wrong with a header that this program made itself.
pub(super) fn unwritable(path: &Path, error: SafeTensorError) -> Error {
    Error::model(path, format!("its header cannot be written: {error}"))
}
