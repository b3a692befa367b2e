//! A tensor in a file that is memory-mapped or was read.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use half::f16;
use memmap2::Mmap;

use super::integers::{self, Parts};
use crate::error::excerpt;
use crate::format::Format;
use crate::ops::cpu::system::available;
use crate::quant::{self, Scheme};
use crate::{Error, Result, files};

/// How weight files are accessed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// The file is memory-mapped: its pages are read when they are used and do not count as allocated memory. The
    /// file must not be modified.
    #[default]
    Mapped,
    /// The file is read into memory when it is opened; later changes to it have no effect.
    Read,
}

/// A safetensors file in memory, or generated weights.
#[derive(Debug)]
pub(super) struct Shard {
    path: PathBuf,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Mapped(Mapped),
    /// A file's content, as words so that it is as aligned as a mapped one, and its length.
    Read(Vec<u64>, usize),
    Made(Vec<f16>),
}

/// A mapped file, and its state when it was opened, for detecting changes.
#[derive(Debug)]
struct Mapped {
    map: Mmap,
    file: File,
    state: State,
}

/// Length and modification time of a file.
type State = (u64, Option<SystemTime>);

fn state(file: &File) -> std::io::Result<State> {
    let metadata = file.metadata()?;
    // Without modification times the length alone is compared.
    Ok((metadata.len(), metadata.modified().ok()))
}

impl Shard {
    /// Maps or reads a file; `None` if it does not exist.
    pub fn open(path: PathBuf, access: Access) -> Result<Option<Self>> {
        let Some(file) = files::open(&path)? else { return Ok(None) };
        let io = |e| Error::io(&path, e);
        if access == Access::Read {
            let (words, length) = read(&path, file)?;
            return Ok(Some(Self { path, data: Data::Read(words, length) }));
        }
        let state = state(&file).map_err(io)?;
        // SAFETY: the map is read-only and private to this type. `Checkpoint::open` requires of the user that the
        // file is not modified. Weights are plain numbers, so modified bytes give wrong weights but never an invalid
        // value.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Some(Self { path, data: Data::Mapped(Mapped { map, file, state }) }))
    }

    /// Fails if a mapped file was modified since it was opened. A file that was removed, or replaced by renaming
    /// another one, remains accessible through the mapping.
    pub fn check_unchanged(&self) -> Result<()> {
        let Data::Mapped(Mapped { file, state: opened, .. }) = &self.data else { return Ok(()) };
        if state(file).map_err(|e| Error::io(&self.path, e))? == *opened {
            return Ok(());
        }
        let what = "was changed while in use: load the model again, and replace a file by renaming another to its \
                    name, or read the weights into memory (--no-mmap)";
        Err(Error::model(&self.path, what))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Mapped(mapped) => &mapped.map,
            Data::Read(words, length) => &bytemuck::cast_slice(words)[..*length],
            Data::Made(numbers) => bytemuck::cast_slice(numbers),
        }
    }
}

/// Reads the whole content of a file.
fn read(path: &Path, mut file: File) -> Result<(Vec<u64>, usize)> {
    let io = |e| Error::io(path, e);
    let no_room = |length: u64| {
        Error::Capacity(format!(
            "{}: no memory for its {length} bytes: free some, or map the file (without --no-mmap)",
            path.display()
        ))
    };
    let size = file.metadata().map_err(io)?.len();
    let length = usize::try_from(size).map_err(|_| no_room(size))?;
    if available().is_some_and(|free| free < length) {
        return Err(no_room(size));
    }
    let mut words = Vec::new();
    let count = length.div_ceil(size_of::<u64>());
    words.try_reserve_exact(count).map_err(|_| no_room(size))?;
    words.resize(count, 0u64);
    file.read_exact(&mut bytemuck::cast_slice_mut(&mut words)[..length]).map_err(io)?;
    Ok((words, length))
}

/// A stored tensor, row-major: a view of a mapped file, which it keeps alive, or generated data. Cloning does not
/// copy data.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Canonical name.
    pub name: String,
    /// Format of the elements, as returned by [`Tensor::to_words`].
    pub format: Format,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    range: Range<usize>,
    shard: Arc<Shard>,
    /// Index of its first row in the stored tensor.
    first: usize,
    /// How the elements are computed when they are loaded, if they are not stored directly.
    made: Option<Made>,
}

/// Elements that are computed when they are loaded.
#[derive(Debug, Clone)]
enum Made {
    /// Quantized from floating-point elements in this format.
    Quantized(Format, Scheme),
    /// Stored codes, joined with scales and zero points from other tensors.
    Joined(Box<Parts>),
    /// A range of rows of such integers, whose layout in the file need not be row by row.
    Rows(Box<Tensor>, Range<usize>),
}

/// A tensor that is not floating-point.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    /// Canonical name.
    pub name: String,
    /// The type's name in the file.
    pub dtype: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    pub range: Range<usize>,
    pub shard: Arc<Shard>,
}

impl Raw {
    pub fn bytes(&self) -> &[u8] {
        &self.shard.bytes()[self.range.clone()]
    }
}

impl Tensor {
    /// `range` lies inside the shard and matches format and shape, as checked by [`super::parse_header`].
    pub(super) fn new(
        name: String,
        format: Format,
        shape: Vec<usize>,
        range: Range<usize>,
        shard: Arc<Shard>,
    ) -> Self {
        Self { name, format, shape, range, shard, first: 0, made: None }
    }

    /// A tensor of integer codes with their scales and zero points.
    pub(super) fn joined(
        name: &str,
        format: Format,
        shape: Vec<usize>,
        codes: &Raw,
        parts: Parts,
    ) -> Self {
        let Raw { range, shard, .. } = codes.clone();
        let made = Some(Made::Joined(Box::new(parts)));
        Self { name: name.to_owned(), format, shape, range, shard, first: 0, made }
    }

    /// A tensor of generated data.
    pub(super) fn made(name: String, shape: Vec<usize>, numbers: Vec<f16>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), numbers.len());
        let range = 0..size_of_val(&numbers[..]);
        let shard = Arc::new(Shard { path: PathBuf::from(&name), data: Data::Made(numbers) });
        Self { name, format: Format::F16, shape, range, shard, first: 0, made: None }
    }

    /// The same weight, quantized when it is loaded.
    ///
    /// # Errors
    /// [`Error::Request`] if a group does not divide its rows or it is not a floating-point matrix.
    pub fn quantized(mut self, scheme: Scheme) -> Result<Self> {
        let dense = !self.format.is_integer();
        let (&[_, columns], true) = (&self.shape[..], dense) else {
            let what = format!(
                "tensor {} is not a floating-point matrix and cannot be converted to {scheme}",
                self.name
            );
            return Err(Error::Request(what));
        };
        scheme.divides(&self.name, columns)?;
        self.made = Some(Made::Quantized(self.format, scheme));
        self.format = scheme.format();
        Ok(self)
    }

    /// A copy of the elements in their [format](Tensor::format), aligned for every format; quantization happens here.
    ///
    /// # Errors
    /// [`Error::Model`] if weights to be quantized are not finite.
    pub fn to_words(&self) -> Result<Vec<u32>> {
        match &self.made {
            Some(Made::Quantized(_, scheme)) => quant::matrix(self, *scheme, self.first),
            Some(Made::Joined(parts)) => integers::words(self, parts),
            Some(Made::Rows(whole, rows)) => Ok(integers::rows(whole, &whole.to_words()?, rows)),
            None => Ok(bytemuck::pod_collect_to_vec(self.bytes())),
        }
    }

    /// Returns true if a range of rows can be loaded without loading the rest.
    #[cfg(feature = "cuda")]
    pub(crate) fn is_row_by_row(&self) -> bool {
        !matches!(self.made, Some(Made::Joined(_) | Made::Rows(..)))
    }

    /// Format of [`Tensor::bytes`].
    pub(crate) fn stored_format(&self) -> Format {
        match self.made {
            Some(Made::Quantized(stored, _)) => stored,
            _ => self.format,
        }
    }

    /// The elements as stored, little-endian. They start at a multiple of [`Format::align`] in files of the usual
    /// writers, but safetensors does not guarantee it.
    pub fn bytes(&self) -> &[u8] {
        &self.shard.bytes()[self.range.clone()]
    }

    /// The file that contains the tensor.
    pub(crate) fn path(&self) -> &Path {
        self.shard.path()
    }

    /// Returns true if the elements can be read in place.
    pub fn is_aligned(&self) -> bool {
        self.made.is_none() && self.bytes().as_ptr().addr().is_multiple_of(self.format.align())
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// A range of rows as a tensor, without copying. The rows must exist.
    pub fn rows(mut self, rows: Range<usize>) -> Self {
        if let Some(Made::Joined(_)) = self.made {
            self.made = Some(Made::Rows(Box::new(self.clone()), rows.clone()));
        }
        let stride = self.range.len() / self.shape[0].max(1);
        self.range = self.range.start + rows.start * stride..self.range.start + rows.end * stride;
        self.shape[0] = rows.len();
        self.first += rows.start;
        self
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
