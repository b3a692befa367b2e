//! Reports the progress of loading weights.

use super::origin::Weights;
use crate::model::{Source, Wanted};
use crate::ops::{Ops, Storage};
use crate::{Error, Result};
use std::cell::RefCell;
use std::ops::ControlFlow;

/// Callback with the bytes of weights loaded so far and in total; it can stop the loading.
pub type LoadProgress<'a> = dyn FnMut(usize, usize) -> ControlFlow<()> + 'a;

/// A source of weights that reports how many bytes are taken from it.
pub struct Taking<'a> {
    weights: &'a Weights,
    told: RefCell<&'a mut dyn FnMut(usize) -> ControlFlow<()>>,
}

impl<'a> Taking<'a> {
    pub fn new(weights: &'a Weights, told: &'a mut dyn FnMut(usize) -> ControlFlow<()>) -> Self {
        Self { weights, told: RefCell::new(told) }
    }
}

impl<O: Ops> Source<O> for Taking<'_> {
    fn take(&self, ops: &mut O, wanted: &Wanted<'_>, storage: Storage) -> Result<O::Weight> {
        let weight = self.weights.take(ops, wanted, storage)?;
        let bytes = self.weights.bytes(wanted)?;
        match (self.told.borrow_mut())(bytes) {
            ControlFlow::Continue(()) => Ok(weight),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }
}
