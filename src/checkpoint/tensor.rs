//! A tensor in a file that is mapped or has been read.

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

/// How the weights of a file come into memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// The file is mapped: its pages are read as they are used and count as free memory, and nobody may write to it.
    #[default]
    Mapped,
    /// The file is read when it is opened: it takes memory, and what becomes of it later plays no part.
    Read,
}

/// A safetensors file in memory, or numbers made on the spot.
#[derive(Debug)]
pub(super) struct Shard {
    path: PathBuf,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Mapped(Mapped),
    /// A file's content and its length: words, so that it is aligned as a mapped one.
    Read(Vec<u64>, usize),
    Made(Vec<f16>),
}

/// A mapped file, and what tells whether it has been changed.
#[derive(Debug)]
struct Mapped {
    map: Mmap,
    file: File,
    state: State,
}

/// Length of a file and when it was last written.
type State = (u64, Option<SystemTime>);

fn state(file: &File) -> std::io::Result<State> {
    let metadata = file.metadata()?;
    // A system that knows no times still knows the length.
    Ok((metadata.len(), metadata.modified().ok()))
}

impl Shard {
    /// Maps a file or reads it; `None` if there is none of this name.
    pub fn open(path: PathBuf, access: Access) -> Result<Option<Self>> {
        let Some(file) = files::open(&path)? else { return Ok(None) };
        let io = |e| Error::io(&path, e);
        if access == Access::Read {
            let (words, length) = read(&path, file)?;
            return Ok(Some(Self { path, data: Data::Read(words, length) }));
        }
        let state = state(&file).map_err(io)?;
        // SAFETY: the map is read-only and private to this type; that nobody changes the file
        // meanwhile is asked of the user in `Checkpoint::open`. Weights are plain numbers: bytes
        // that do change are wrong weights, never an invalid value.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Some(Self { path, data: Data::Mapped(Mapped { map, file, state }) }))
    }

    /// Fails if a mapped file has been written to since it was opened. One that was removed, or replaced by another of
    /// its name, is still there for those who have it open.
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

/// The whole content of a file.
fn read(path: &Path, mut file: File) -> Result<(Vec<u64>, usize)> {
    let io = |e| Error::io(path, e);
    let no_room = |length: u64| {
        Error::Capacity(format!(
            "{}: no memory for its {length} bytes: free some, or let the file be mapped (without --no-mmap)",
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

/// A stored tensor, row-major: a view of a mapped file that it keeps alive, or numbers of its own. Cloning copies no
/// data.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Canonical name.
    pub name: String,
    /// Format of the elements, as [`Tensor::to_words`] has them.
    pub format: Format,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    range: Range<usize>,
    shard: Arc<Shard>,
    /// Which row of the stored tensor is the first of this one.
    first: usize,
    /// How the elements are made when they are taken, if they do not lie there.
    made: Option<Made>,
}

/// Elements that are made when they are taken.
#[derive(Debug, Clone)]
enum Made {
    /// Integers of floating-point numbers in this format.
    Quantized(Format, Scheme),
    /// Integers that lie there, with what belongs to them, which lies elsewhere.
    Joined(Box<Parts>),
    /// Some rows of such integers, whose layout in the file need not be row by row.
    Rows(Box<Tensor>, Range<usize>),
}

/// A tensor of another type than floating-point numbers.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    /// Canonical name.
    pub name: String,
    /// As the file calls it.
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
    /// `range` lies inside the shard and fits format and shape: [`super::parse_header`] saw to it.
    pub(super) fn new(
        name: String,
        format: Format,
        shape: Vec<usize>,
        range: Range<usize>,
        shard: Arc<Shard>,
    ) -> Self {
        Self { name, format, shape, range, shard, first: 0, made: None }
    }

    /// Integers with their scales, and zero points where there are some.
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

    /// A tensor of numbers that are in no file.
    pub(super) fn made(name: String, shape: Vec<usize>, numbers: Vec<f16>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), numbers.len());
        let range = 0..size_of_val(&numbers[..]);
        let shard = Arc::new(Shard { path: PathBuf::from(&name), data: Data::Made(numbers) });
        Self { name, format: Format::F16, shape, range, shard, first: 0, made: None }
    }

    /// The same weight in integers, which are made when it is taken.
    ///
    /// # Errors
    /// [`Error::Request`] if a group does not divide its rows or it is no matrix of floating-point numbers.
    pub fn quantized(mut self, scheme: Scheme) -> Result<Self> {
        let dense = !self.format.is_integer();
        let (&[_, columns], true) = (&self.shape[..], dense) else {
            let what = format!(
                "tensor {} is no matrix of floating-point numbers: {scheme} cannot be made of it",
                self.name
            );
            return Err(Error::Request(what));
        };
        scheme.divides(&self.name, columns)?;
        self.made = Some(Made::Quantized(self.format, scheme));
        self.format = scheme.format();
        Ok(self)
    }

    /// A copy of the elements in their [format](Tensor::format), aligned for every format; what is to be quantised is
    /// made now.
    ///
    /// # Errors
    /// [`Error::Model`] if numbers to be quantised are not finite.
    pub fn to_words(&self) -> Result<Vec<u32>> {
        match &self.made {
            Some(Made::Quantized(_, scheme)) => quant::matrix(self, *scheme, self.first),
            Some(Made::Joined(parts)) => integers::words(self, parts),
            Some(Made::Rows(whole, rows)) => Ok(integers::rows(whole, &whole.to_words()?, rows)),
            None => Ok(bytemuck::pod_collect_to_vec(self.bytes())),
        }
    }

    /// Whether some of its rows are taken at the cost of these alone.
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

    /// The elements as they are stored, little-endian. They start at a multiple of [`Format::align`] in files of the usual writers, but
    /// safetensors does not promise it.
    pub fn bytes(&self) -> &[u8] {
        &self.shard.bytes()[self.range.clone()]
    }

    /// The file that holds it.
    pub(crate) fn path(&self) -> &Path {
        self.shard.path()
    }

    /// Whether the numbers can be read where they are mapped.
    pub fn is_aligned(&self) -> bool {
        self.made.is_none() && self.bytes().as_ptr().addr().is_multiple_of(self.format.align())
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Some of its rows, as a tensor of their own that copies nothing. They must be there.
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
