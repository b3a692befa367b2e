//! The projector: two linear layers from the vision tower's width to the decoder's, in InternVL after a norm, in MobileVLM V2
//! (LDPv2; Chu et al., "MobileVLM V2: faster and stronger baseline for vision language model", 2024) before a pool of each two
//! by two patches and a convolution by which a token hears of its neighbours.

use super::Loader;
use crate::Result;
use crate::config::{Activation, Architecture, ModelConfig};
use crate::ops::clock::Stage;
use crate::ops::{Extent, Linear, Norm, Ops};
use crate::select::Mix;

/// Epsilon of InternVL's norm: torch's default, which no configuration file contains.
const EPS: f32 = 1e-5;

/// The projector's weights.
#[derive(Debug)]
pub struct Projector<W> {
    norm: Option<Norm<W>>,
    first: Linear<W>,
    second: Linear<W>,
    activation: Activation,
    pool: Option<Pool<W>>,
}

/// The convolution behind the pool.
#[derive(Debug)]
struct Pool<W> {
    /// `[decoder width, 1, 3, 3]`.
    weight: W,
    /// `[decoder width]`.
    bias: W,
}

/// Patches that the pool makes a token of.
const POOLED: usize = 4;

impl<W> Projector<W> {
    /// Loads the weights.
    pub fn load<O: Ops<Weight = W>>(
        config: &ModelConfig,
        from: &mut Loader<'_, O>,
    ) -> Result<Self> {
        let norm = match config.architecture {
            Architecture::InternVl => Some(from.norm("multi_modal_projector.layer_norm", EPS)?),
            Architecture::LlavaNext | Architecture::Llava | Architecture::OneVision => None,
        };
        Ok(Self {
            norm,
            first: from.linear("multi_modal_projector.linear_1")?,
            second: from.linear("multi_modal_projector.linear_2")?,
            activation: config.projector_activation,
            pool: match config.pooled {
                true => Some(Pool {
                    weight: from.vector("multi_modal_projector.peg.weight")?,
                    bias: from.vector("multi_modal_projector.peg.bias")?,
                }),
                false => None,
            },
        })
    }

    /// Projects `[rows, vision width]` (a row has all patches of a token) to `[rows, decoder width]`. Where it pools,
    /// the rows are all patches of one image, those of a token one after the other, and a fourth as many come out.
    pub fn forward<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        features: &O::Buffer,
    ) -> Result<O::Buffer> {
        ops.enter(Stage::Project)?;
        let normed = self.norm.as_ref().map(|norm| ops.layer_norm(features, norm)).transpose()?;
        let features = normed.as_ref().unwrap_or(features);
        let inner = ops.linear(features, &self.first, Some(self.activation))?;
        drop(normed);
        let out = ops.linear(&inner, &self.second, None)?;
        drop(inner);
        let Some(pool) = &self.pool else { return Ok(out) };
        let mut means = Mix::default();
        for first in (0..out.rows()).step_by(POOLED) {
            means.push((first..first + POOLED).map(|row| (row, 1.0 / POOLED as f32)));
        }
        let pooled = ops.mix(&out, &means)?;
        drop(out);
        ops.convolve(&pooled, &pool.weight, &pool.bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::synth::Preset;
    use crate::format::{Dtype, Format};
    use crate::model::Imagined;
    use crate::ops::count::Counter;
    use crate::ops::footprint::Footprint;

    /// No output shows the difference at the sizes that features have, so it is held here: the tower's norms have the file's
    /// epsilon, the projector's that of torch.
    #[test]
    fn internvls_norm_has_an_epsilon_of_its_own() {
        let config = Preset::InternVl3x1b.config().unwrap();
        assert_eq!(config.vision.eps, 1e-6);
        let mut counter = Counter::new(Footprint::Cpu { cache: Dtype::F16 });
        let source = Imagined { format: Format::F16, quantization: None };
        let mut from = Loader::new(&mut counter, &source, &config);
        let projector = Projector::load(&config, &mut from).unwrap();
        assert_eq!(projector.norm.unwrap().eps, 1e-5);
    }
}
