//! The blocks of the vision tower from which a selection takes its evidence.

use crate::config::ModelConfig;
use crate::select::{Layer, Needs, Score};
use crate::{Error, Result};

/// The blocks that a plan needs; `None` for evidence that it does not need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layers {
    /// The block whose attention in the full image scores content; the number of blocks: the pooling head.
    pub init: Option<usize>,
    /// The block whose attention ranks patches; the number of blocks: the pooling head.
    pub last: Option<usize>,
    /// The block whose keys the method compares.
    pub keys: Option<usize>,
    /// The kind of attention that both scores use.
    pub score: Score,
}

impl Layers {
    /// The blocks that `needs` names, in this model's tower.
    ///
    /// # Errors
    /// [`Error::Request`] for a block that the tower does not have.
    pub fn of(needs: &Needs, config: &ModelConfig) -> Result<Self> {
        let find = |layer: Option<Layer>, what| {
            // The pooling head has its place behind the last block.
            let place = |layer| match needs.score {
                Score::Head => Ok(config.vision.layers),
                _ => resolve(layer, config, what),
            };
            layer.map(place).transpose()
        };
        Ok(Self {
            init: find(needs.init, "init layer")?,
            last: find(needs.last, "final layer")?,
            keys: needs.keys.map(|l| resolve(l, config, "key layer")).transpose()?,
            score: needs.score,
        })
    }

    /// The number of blocks that must be loaded.
    pub fn blocks(&self) -> usize {
        let behind = |layer: usize| if self.score == Score::Head { layer } else { layer + 1 };
        let scored = self.init.max(self.last).map_or(0, behind);
        self.keys.map_or(scored, |layer| scored.max(layer + 1))
    }

    /// Whether the tower's pooling head scores.
    pub fn by_head(&self) -> bool {
        self.score == Score::Head && (self.init.is_some() || self.last.is_some())
    }
}

/// The index of a block that a layer number names.
///
/// # Errors
/// [`Error::Request`] if there is no such block.
pub fn resolve(layer: Layer, config: &ModelConfig, what: &str) -> Result<usize> {
    let Layer::At(layer) = layer else { return Ok(config.feature_blocks.saturating_sub(1)) };
    let layers = config.vision.layers as i64;
    let index = i64::from(layer) + if layer < 0 { layers } else { 0 };
    if (0..layers).contains(&index) {
        return Ok(index as usize);
    }
    Err(Error::Request(format!(
        "{what} {layer}: the vision tower has layers 0 to {} (or -{layers} to -1)",
        layers - 1
    )))
}
