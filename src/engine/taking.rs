//! Weights on their way, for those who watch.

use crate::checkpoint::Checkpoint;
use crate::model::Source;
use crate::ops::{Ops, Storage};
use crate::{Error, Result};
use std::cell::RefCell;
use std::ops::ControlFlow;

/// Hears of weight bytes taken and in all, and may stop the loading.
pub type LoadProgress<'a> = dyn FnMut(usize, usize) -> ControlFlow<()> + 'a;

/// A checkpoint that tells how many bytes are taken from it.
pub struct Taking<'a> {
    checkpoint: &'a Checkpoint,
    told: RefCell<&'a mut dyn FnMut(usize) -> ControlFlow<()>>,
}

impl<'a> Taking<'a> {
    pub fn new(
        checkpoint: &'a Checkpoint,
        told: &'a mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Self {
        Self { checkpoint, told: RefCell::new(told) }
    }
}

impl<O: Ops> Source<O> for Taking<'_> {
    fn take(
        &self,
        ops: &mut O,
        name: &str,
        shape: &[usize],
        storage: Storage,
    ) -> Result<O::Weight> {
        let weight = self.checkpoint.take(ops, name, shape, storage)?;
        let bytes = self.checkpoint.get(name)?.bytes().len();
        match (self.told.borrow_mut())(bytes) {
            ControlFlow::Continue(()) => Ok(weight),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }
}
