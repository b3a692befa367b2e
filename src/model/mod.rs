//! What LLaVA computes, written once in the words of [`crate::ops::Ops`].

pub mod llama;
pub mod llava;
pub mod projector;
pub mod vit;

use crate::checkpoint::Checkpoint;
use crate::format::Format;
use crate::ops::Executor;
use crate::ops::clock::Stage;
use crate::ops::count::Counter;
use crate::ops::{Linear, Norm, Ops, Storage};
use crate::quant::Quantization;
use crate::{Error, Result};
use std::ops::ControlFlow;

/// Where a model's weights come from.
pub trait Source<O: Ops> {
    /// The tensor of this canonical name, which must have this shape.
    fn take(&self, ops: &mut O, name: &str, shape: &[usize], storage: Storage)
    -> Result<O::Weight>;
}

impl<O: Ops> Source<O> for Checkpoint {
    fn take(
        &self,
        ops: &mut O,
        name: &str,
        shape: &[usize],
        storage: Storage,
    ) -> Result<O::Weight> {
        let tensor = self.get(name)?;
        tensor.expect_shape(shape)?;
        ops.upload(&tensor, storage)
    }
}

/// Weights of a checkpoint that does not exist: for counting.
#[derive(Debug, Clone, Copy)]
pub struct Imagined {
    /// Format of all numbers in the files.
    pub format: Format,
    /// Which of them become integers when they are taken.
    pub quantization: Option<Quantization>,
}

impl Source<Counter> for Imagined {
    fn take(
        &self,
        ops: &mut Counter,
        name: &str,
        shape: &[usize],
        storage: Storage,
    ) -> Result<<Counter as Executor>::Weight> {
        let Some(scheme) = self.quantization.and_then(|quantization| quantization.of(name)) else {
            return Ok(ops.imagine(shape, self.format, storage, true));
        };
        scheme.divides(name, shape[1])?;
        Ok(ops.imagine(shape, scheme.format(), storage, false))
    }
}

/// Takes the weights of one part after another.
pub struct Loader<'a, O: Ops> {
    ops: &'a mut O,
    source: &'a dyn Source<O>,
}

impl<'a, O: Ops> Loader<'a, O> {
    /// A loader from `source` to `ops`.
    pub fn new(ops: &'a mut O, source: &'a dyn Source<O>) -> Self {
        Self { ops, source }
    }

    fn matrix(&mut self, name: &str, shape: &[usize]) -> Result<O::Weight> {
        self.source.take(self.ops, name, shape, Storage::Matrix)
    }

    fn vector(&mut self, name: &str, shape: &[usize]) -> Result<O::Weight> {
        self.source.take(self.ops, name, shape, Storage::Vector)
    }

    /// `{name}.weight` `[out, in]` and, if wanted, `{name}.bias` `[out]`.
    fn linear(
        &mut self,
        name: &str,
        out: usize,
        into: usize,
        bias: bool,
    ) -> Result<Linear<O::Weight>> {
        let weight = self.matrix(&format!("{name}.weight"), &[out, into])?;
        let bias = bias.then(|| self.vector(&format!("{name}.bias"), &[out])).transpose()?;
        Ok(Linear { weight, bias })
    }

    /// `{name}.weight` and, for a LayerNorm, `{name}.bias`.
    fn norm(&mut self, name: &str, width: usize, eps: f32, bias: bool) -> Result<Norm<O::Weight>> {
        let weight = self.vector(&format!("{name}.weight"), &[width])?;
        let bias = bias.then(|| self.vector(&format!("{name}.bias"), &[width])).transpose()?;
        Ok(Norm { weight, bias, eps })
    }
}

/// Hears of every finished block (stage, blocks done, blocks in all) and may stop the work.
pub type Progress<'a> = dyn FnMut(Stage, usize, usize) -> ControlFlow<()> + 'a;

fn report(progress: &mut Progress<'_>, stage: Stage, done: usize, all: usize) -> Result<()> {
    match progress(stage, done, all) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    }
}
