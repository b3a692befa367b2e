//! The models, written once in terms of [`crate::ops::Ops`].

pub mod decoder;
pub mod llava;
pub mod projector;
pub mod vit;

use crate::checkpoint::{Checkpoint, Tensor, layout};
use crate::config::ModelConfig;
use crate::format::Format;
use crate::ops::Executor;
use crate::ops::clock::Stage;
use crate::ops::count::Counter;
use crate::ops::{Linear, Norm, Ops, Storage};
use crate::quant::Quantization;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

/// A tensor, or some of its rows.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Its canonical name.
    pub name: &'a str,
    /// The shape that the whole tensor must have.
    pub shape: &'a [usize],
    /// The rows that are needed, if not all.
    pub rows: Option<Range<usize>>,
}

impl Wanted<'_> {
    /// The shape of the needed rows.
    pub fn taken(&self) -> Vec<usize> {
        let mut shape = self.shape.to_vec();
        if let Some(rows) = &self.rows {
            shape[0] = rows.len();
        }
        shape
    }

    /// Reads the tensor from a checkpoint.
    ///
    /// # Errors
    /// Those of [`Checkpoint::get`], and for a tensor of another shape.
    pub fn of(&self, checkpoint: &Checkpoint) -> Result<Tensor> {
        let tensor = checkpoint.get(self.name)?;
        tensor.expect_shape(self.shape)?;
        Ok(match &self.rows {
            Some(rows) => tensor.rows(rows.clone()),
            None => tensor,
        })
    }
}

/// Where a model's weights come from.
pub trait Source<O: Ops> {
    /// Makes the weight on the executor.
    fn take(&self, ops: &mut O, wanted: &Wanted<'_>, storage: Storage) -> Result<O::Weight>;
}

impl<O: Ops> Source<O> for Checkpoint {
    fn take(&self, ops: &mut O, wanted: &Wanted<'_>, storage: Storage) -> Result<O::Weight> {
        ops.upload(&wanted.of(self)?, storage)
    }
}

/// Weights without a checkpoint, for the counting executor.
#[derive(Debug, Clone, Copy)]
pub struct Imagined {
    /// The format of all tensors in the imagined files.
    pub format: Format,
    /// Quantization of the weights when they are loaded, if any.
    pub quantization: Option<Quantization>,
}

impl Source<Counter> for Imagined {
    fn take(
        &self,
        ops: &mut Counter,
        wanted: &Wanted<'_>,
        storage: Storage,
    ) -> Result<<Counter as Executor>::Weight> {
        let (name, shape) = (wanted.name, &wanted.taken());
        let Some(scheme) = self.quantization.and_then(|quantization| quantization.of(name)) else {
            return Ok(ops.imagine(shape, self.format, storage, true));
        };
        scheme.divides(name, shape[1])?;
        Ok(ops.imagine(shape, scheme.format(), storage, false))
    }
}

/// Loads the weights of one part of the model after another. A part names its tensors; [`layout`] has their shapes, and
/// knows which have a bias.
pub struct Loader<'a, O: Ops> {
    ops: &'a mut O,
    source: &'a dyn Source<O>,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl<'a, O: Ops> Loader<'a, O> {
    /// Loads from `source` to `ops`, for a model of this configuration.
    pub fn new(ops: &'a mut O, source: &'a dyn Source<O>, config: &ModelConfig) -> Self {
        let shapes = layout(config).into_iter().map(|weight| (weight.name, weight.shape));
        Self { ops, source, shapes: shapes.collect() }
    }

    fn has(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    fn take(&mut self, name: &str, rows: Option<Range<usize>>, how: Storage) -> Result<O::Weight> {
        let shape = self.shapes.get(name).expect("the layout lists every tensor of the model");
        self.source.take(self.ops, &Wanted { name, shape, rows }, how)
    }

    fn matrix(&mut self, name: &str) -> Result<O::Weight> {
        self.take(name, None, Storage::Matrix)
    }

    fn vector(&mut self, name: &str) -> Result<O::Weight> {
        self.take(name, None, Storage::Vector)
    }

    /// Loads `{name}.bias`, if the model has it.
    fn bias(&mut self, name: &str, rows: Option<Range<usize>>) -> Result<Option<O::Weight>> {
        let name = format!("{name}.bias");
        self.has(&name).then(|| self.take(&name, rows, Storage::Vector)).transpose()
    }

    /// Loads `{name}.weight` and its bias, if any.
    fn linear(&mut self, name: &str) -> Result<Linear<O::Weight>> {
        let weight = self.matrix(&format!("{name}.weight"))?;
        Ok(Linear { weight, bias: self.bias(name, None)? })
    }

    /// Rows of `{name}_weight` and `{name}_bias`, where several layers are stored as one.
    fn packed(&mut self, name: &str, rows: Range<usize>) -> Result<Linear<O::Weight>> {
        let weight = self.take(&format!("{name}_weight"), Some(rows.clone()), Storage::Matrix)?;
        let bias = self.take(&format!("{name}_bias"), Some(rows), Storage::Vector)?;
        Ok(Linear { weight, bias: Some(bias) })
    }

    /// Loads layers with these names and numbers of outputs. Where the model stores them as one layer `fused`, they are
    /// consecutive rows of it.
    fn linears<const N: usize>(
        &mut self,
        fused: &str,
        layers: [(String, usize); N],
    ) -> Result<[Linear<O::Weight>; N]> {
        let whole = format!("{fused}.weight");
        let is_fused = self.has(&whole);
        let (mut taken, mut first) = (Vec::with_capacity(N), 0);
        for (name, outputs) in layers {
            let rows = Some(first..first + outputs);
            first += outputs;
            taken.push(match is_fused {
                true => Linear {
                    weight: self.take(&whole, rows.clone(), Storage::Matrix)?,
                    bias: self.bias(fused, rows)?,
                },
                false => self.linear(&name)?,
            });
        }
        Ok(taken.try_into().unwrap_or_else(|_| unreachable!("one for each layer")))
    }

    /// Loads a vector, if the model has it.
    fn if_there(&mut self, name: &str) -> Result<Option<O::Weight>> {
        self.has(name).then(|| self.vector(name)).transpose()
    }

    /// Loads a norm, if the model has it.
    fn norm_if_there(&mut self, name: &str, eps: f32) -> Result<Option<Norm<O::Weight>>> {
        self.has(&format!("{name}.weight")).then(|| self.norm(name, eps)).transpose()
    }

    /// Loads the norm `{name}.weight`, and its bias if it is a LayerNorm.
    fn norm(&mut self, name: &str, eps: f32) -> Result<Norm<O::Weight>> {
        let weight = self.vector(&format!("{name}.weight"))?;
        Ok(Norm { weight, bias: self.bias(name, None)?, eps })
    }
}

/// Called after every block with (stage, finished blocks, all blocks). It can stop the work, or use the executor for
/// other work in between. It also gets the caches of the interrupted work; the slice is empty where it has none.
pub type Progress<'a, O> =
    dyn FnMut(&mut O, &mut [<O as Executor>::Cache], Stage, usize, usize) -> ControlFlow<()> + 'a;

/// A [`Progress`] that does nothing.
pub fn quiet<O: Ops>(
    _: &mut O,
    _: &mut [O::Cache],
    _: Stage,
    _: usize,
    _: usize,
) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn report<O: Ops>(
    progress: &mut Progress<'_, O>,
    ops: &mut O,
    caches: &mut [O::Cache],
    stage: Stage,
    done: usize,
    all: usize,
) -> Result<()> {
    match progress(ops, caches, stage, done, all) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    }
}
