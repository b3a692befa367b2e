//! A tensor in a mapped file.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::f16;
use memmap2::Mmap;

use crate::error::excerpt;
use crate::{Error, Result, files};

/// Type of the elements of a stored tensor, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// IEEE 754 binary32.
    F32,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
        }
    }
}

/// A safetensors file in memory, or numbers made on the spot.
#[derive(Debug)]
pub(super) struct Shard {
    path: PathBuf,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Mapped(Mmap),
    Made(Vec<f16>),
}

impl Shard {
    /// Maps a file; `None` if there is none of this name.
    pub fn open(path: PathBuf) -> Result<Option<Self>> {
        let Some(file) = files::open(&path)? else { return Ok(None) };
        // SAFETY: the map is read-only and private to this type; that nobody changes the file
        // meanwhile is asked of the user in `Checkpoint::open`. Weights are plain numbers: bytes
        // that do change are wrong weights, never an invalid value.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(&path, e))?;
        Ok(Some(Self { path, data: Data::Mapped(map) }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Mapped(map) => map,
            Data::Made(numbers) => bytemuck::cast_slice(numbers),
        }
    }
}

/// A stored tensor, row-major: a view of a mapped file that it keeps alive, or numbers of its own. Cloning copies no
/// data.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Canonical name.
    pub name: String,
    /// Type of the elements.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    range: Range<usize>,
    shard: Arc<Shard>,
}

impl Tensor {
    /// `range` lies inside the shard and fits type and shape: [`super::parse_header`] saw to it.
    pub(super) fn new(
        name: String,
        dtype: DType,
        shape: Vec<usize>,
        range: Range<usize>,
        shard: Arc<Shard>,
    ) -> Self {
        Self { name, dtype, shape, range, shard }
    }

    /// A tensor of numbers that are in no file.
    pub(super) fn made(name: String, shape: Vec<usize>, numbers: Vec<f16>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), numbers.len());
        let range = 0..size_of_val(&numbers[..]);
        let shard = Arc::new(Shard { path: PathBuf::from(&name), data: Data::Made(numbers) });
        Self { name, dtype: DType::F16, shape, range, shard }
    }

    /// The elements, `elements() · dtype.size()` bytes, little-endian. They start at a multiple of
    /// the element size in files of the usual writers, but the format does not promise it.
    pub fn bytes(&self) -> &[u8] {
        &self.shard.bytes()[self.range.clone()]
    }

    /// The file that holds it.
    pub(crate) fn path(&self) -> &Path {
        self.shard.path()
    }

    /// Whether the numbers can be read where they are mapped.
    pub fn is_aligned(&self) -> bool {
        self.bytes().as_ptr().addr().is_multiple_of(self.dtype.size())
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.range.len() / self.dtype.size()
    }

    /// Fails unless the dimensions are these.
    pub fn expect_shape(&self, shape: &[usize]) -> Result<()> {
        if self.shape == shape {
            return Ok(());
        }
        let what = format!(
            "tensor {} has shape {}, but config.json asks for {shape:?}; \
             take both files from the same checkpoint",
            self.name,
            excerpt(format!("{:?}", self.shape), 100)
        );
        Err(Error::model(self.shard.path(), what))
    }
}
