//! Activations and weights in main memory.

use super::numbers::{Matrix, Numbers};
use super::simd::Isa;
use crate::checkpoint::Tensor;
use crate::format::Format;
use crate::ops::memory::{Charge, Meter, Purpose};
use crate::ops::{Chosen, Extent, Storage, extent};
use crate::{Error, Result, select};
use std::sync::Arc;

/// A matrix of f32, row-major.
#[derive(Debug)]
pub struct Buffer {
    pub(super) data: Vec<f32>,
    rows: usize,
    cols: usize,
    _charge: Charge,
}

impl Extent for Buffer {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }
}

impl Buffer {
    /// Views each `each` consecutive rows as one row.
    pub(super) fn joined(self, each: usize) -> Self {
        Self { rows: self.rows / each, cols: self.cols * each, ..self }
    }

    pub(super) fn new(meter: &Arc<Meter>, rows: usize, cols: usize) -> Self {
        let charge = meter.charge(Purpose::Workspace, rows * cols * size_of::<f32>());
        Self { data: vec![0.0; rows * cols], rows, cols, _charge: charge }
    }

    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.cols..][..self.cols]
    }

    pub(super) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.cols..][..self.cols]
    }
}

/// Bytes allocated for a weight; 0 when it is used in the mapped file.
pub(crate) fn weight_bytes(
    rows: usize,
    cols: usize,
    format: Format,
    storage: Storage,
    aligned: bool,
) -> usize {
    match storage {
        Storage::Vector => rows * cols * size_of::<f32>(),
        Storage::Matrix if aligned => 0,
        Storage::Matrix => format.bytes(rows, cols),
    }
}

/// A weight: used in the mapped file, or copied because it is small or unaligned in the file.
#[derive(Debug)]
pub struct Weight {
    data: Data,
    format: Format,
    /// `[rows, cols]`; a vector is one row.
    pub(super) rows: usize,
    pub(super) cols: usize,
    _charge: Option<Charge>,
}

#[derive(Debug)]
enum Data {
    Mapped(Tensor),
    /// 32-bit words, so that numbers of every format are aligned.
    Copied(Vec<u32>),
    Vector(Vec<f32>),
}

impl Weight {
    pub(super) fn new(meter: &Arc<Meter>, tensor: &Tensor, storage: Storage) -> Result<Self> {
        let (rows, cols) = extent(&tensor.shape);
        let (aligned, format) = (tensor.is_aligned(), tensor.format);
        if storage == Storage::Matrix && aligned {
            meter.map(tensor.bytes().len());
            let data = Data::Mapped(tensor.clone());
            return Ok(Self { data, format, rows, cols, _charge: None });
        }
        let bytes = weight_bytes(rows, cols, format, storage, aligned);
        let charge = Some(meter.charge(Purpose::Weights, bytes));
        let words = tensor.to_words()?;
        Ok(match storage {
            Storage::Matrix => {
                Self { data: Data::Copied(words), format, rows, cols, _charge: charge }
            }
            Storage::Vector => {
                let cols = rows * cols;
                let bytes = &bytemuck::cast_slice(&words)[..format.bytes(1, cols)];
                let mut wide = vec![0.0; cols];
                let numbers = Numbers::of(format, bytes).expect("vectors are never quantised");
                Isa::best().widen(numbers, &mut wide);
                let (data, format) = (Data::Vector(wide), Format::F32);
                Self { data, format, rows: 1, cols, _charge: charge }
            }
        })
    }

    /// The rows in their stored format.
    pub(super) fn matrix(&self) -> Matrix<'_> {
        let bytes = match &self.data {
            Data::Mapped(tensor) => tensor.bytes(),
            Data::Copied(words) => &bytemuck::cast_slice(words)[..self.bytes()],
            Data::Vector(numbers) => bytemuck::cast_slice(numbers),
        };
        Matrix::new(self.format, bytes, self.rows, self.cols)
    }

    /// The stored format.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Size in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.format.bytes(self.rows, self.cols)
    }

    /// The numbers of a vector.
    ///
    /// # Errors
    /// When the weight was loaded as a matrix.
    pub(super) fn vector(&self) -> Result<&[f32]> {
        match &self.data {
            Data::Vector(numbers) => Ok(numbers),
            _ => Err(Error::Device("a weight taken as a matrix is used as a vector".into())),
        }
    }
}

/// Attention of class tokens to patches, head by head.
#[derive(Debug)]
pub struct Scores {
    /// `[partitions · heads, T]`.
    pub(super) rows: Buffer,
    pub(super) heads: usize,
}

impl Scores {
    /// `[partitions, T]`, reduced over the heads as the plan says.
    pub(super) fn of(&self, plan: &select::Plan) -> Vec<f32> {
        let scores = plan.needs.heads.scores(&self.rows.data, self.heads, self.rows.cols);
        plan.geometry.pooled(scores)
    }
}

/// Kept patches on the host.
#[derive(Debug)]
pub struct Kept {
    pub(super) kept: select::Kept,
    /// First kept row of each partition, then the number of all kept rows.
    pub(super) offsets: Vec<usize>,
    /// The source rows of the kept patches, partition after partition.
    pub(super) rows: Vec<usize>,
    /// Number of source rows of each kept patch.
    pub(super) each: usize,
    /// For each visual row of the prompt the kept row that goes there; `None` is a newline.
    pub(super) slots: Vec<Option<usize>>,
    pub(super) scores: select::Scores,
    _charge: Charge,
}

/// Bytes of a selection: its scores, and its weighted sums.
pub(crate) fn kept_bytes(plan: &select::Plan) -> usize {
    plan.scores().iter().sum::<usize>() * size_of::<f32>() + plan.mix_bytes()
}

impl Kept {
    /// A selection that was made from these scores.
    pub(super) fn new(
        meter: &Arc<Meter>,
        plan: &select::Plan,
        kept: select::Kept,
        scores: select::Scores,
    ) -> Self {
        let charge = meter.charge(Purpose::Workspace, kept_bytes(plan));
        let mut offsets = vec![0];
        for indices in &kept.indices {
            offsets.push(offsets[offsets.len() - 1] + indices.len());
        }
        let place = |partition: usize, patch: u32| {
            let among = kept.indices[partition].binary_search(&patch);
            offsets[partition] + among.expect("the order holds kept patches only")
        };
        let slots = select::order(plan, &kept)
            .into_iter()
            .map(|slot| match slot {
                select::Slot::Newline => None,
                select::Slot::Patch { partition, patch } => Some(place(partition, patch)),
                select::Slot::Merged(added) => Some(kept.count() + added),
            })
            .collect();
        let rows = plan.rows_of(&kept.indices);
        let each = plan.rows_each();
        Self { kept, offsets, rows, each, slots, scores, _charge: charge }
    }
}

impl Chosen for Kept {
    fn rows(&self) -> usize {
        self.kept.count() + self.kept.merged()
    }

    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn synchronized(&self) -> bool {
        false
    }
}
