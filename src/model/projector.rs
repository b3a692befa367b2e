//! The projector: two linear layers from the vision tower's width to the decoder's.

use super::Loader;
use crate::Result;
use crate::config::{Activation, ModelConfig};
use crate::ops::clock::Stage;
use crate::ops::{Linear, Ops};

/// The projector's weights.
#[derive(Debug)]
pub struct Projector<W> {
    first: Linear<W>,
    second: Linear<W>,
    activation: Activation,
}

impl<W> Projector<W> {
    /// Takes the weights.
    pub fn load<O: Ops<Weight = W>>(
        config: &ModelConfig,
        from: &mut Loader<'_, O>,
    ) -> Result<Self> {
        Ok(Self {
            first: from.linear("multi_modal_projector.linear_1")?,
            second: from.linear("multi_modal_projector.linear_2")?,
            activation: config.projector_activation,
        })
    }

    /// `[rows, vision width]` to `[rows, decoder width]`.
    pub fn forward<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        features: &O::Buffer,
    ) -> Result<O::Buffer> {
        ops.enter(Stage::Project)?;
        let inner = ops.linear(features, &self.first, Some(self.activation))?;
        ops.linear(&inner, &self.second, None)
    }
}
