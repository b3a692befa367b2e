//! Weights as small integers: the rounding rules, and folders in the compressed-tensors layout.
//!
//! Two schemes, both symmetric and made from the weights alone (round to nearest, no calibration data):
//! - **q8**, W8A8: one scale for each output row of a weight, one for each token of its input, products summed in integers.
//! - **q4**, W4A16: one scale for each group of 32, 64 or 128 numbers along a weight's input, chosen by the squared error.

mod folder;
mod matrix;
mod packing;
mod rounding;

use std::fmt;

use crate::format::Format;
use crate::{Error, Result};

pub use folder::{Summary, quantize};
pub(crate) use matrix::{matrix, rows};
pub use packing::Packing;
pub use rounding::{q4_group, q8_row, q8_token};

/// How a linear layer's weight is made into integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// int8 with a scale for each output row.
    Q8,
    /// int4 with a scale for each group of this many numbers along the input: 32, 64 or 128.
    Q4 {
        /// Numbers of a group.
        group: usize,
    },
}

impl Scheme {
    /// The groups of [`Scheme::Q4`] that kernels of this field read.
    pub const GROUPS: [usize; 3] = [32, 64, 128];

    /// Its name on the command line, without the group.
    pub fn name(self) -> &'static str {
        self.format().name()
    }

    /// Fails unless the scheme can take rows of so many numbers.
    pub(crate) fn divides(self, name: &str, columns: usize) -> Result<()> {
        match self {
            Self::Q4 { group } if !Self::GROUPS.contains(&group) => {
                Err(Error::Request(format!("q4 has no groups of {group}: give 32, 64 or 128")))
            }
            Self::Q4 { group } if !columns.is_multiple_of(group) => Err(Error::Request(format!(
                "{name}: its rows have {columns} numbers, which groups of {group} do not divide: take a smaller group, or q8"
            ))),
            Self::Q8 | Self::Q4 { .. } => Ok(()),
        }
    }

    /// The format of a weight's numbers.
    pub(crate) fn format(self) -> Format {
        match self {
            Self::Q8 => Format::Q8,
            Self::Q4 { group } => Format::Q4 { group },
        }
    }
}

/// Which weights become integers when a model is loaded, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantization {
    /// How.
    pub scheme: Scheme,
    /// Which.
    pub scope: Scope,
}

impl Quantization {
    /// The scheme for the weight of this canonical name, if it is to be quantised.
    ///
    /// q4 leaves the vision tower as it is: each of its layers feeds the scores by which patches are kept, and with int4
    /// there a fifth of all patches kept has 83% in common with f32's on the demo model (int8: 97%).
    pub fn of(self, name: &str) -> Option<Scheme> {
        let spared = matches!(self.scheme, Scheme::Q4 { .. }) && name.starts_with("vision_tower.");
        (self.scope.contains(name) && !spared).then_some(self.scheme)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Q8 => write!(f, "q8"),
            Self::Q4 { group } => write!(f, "q4, groups of {group}"),
        }
    }
}

/// Which linear layers are quantised. Embeddings, norms, biases and the patch convolution never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The linear layers of the decoder's blocks.
    Llm,
    /// Also those of the projector, the logits head and, with q8, the vision tower.
    All,
}

impl Scope {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llm => "llm",
            Self::All => "all",
        }
    }

    /// Whether the weight of this canonical name is that of a linear layer in this scope.
    fn contains(self, name: &str) -> bool {
        let Some(layer) = name.strip_suffix(".weight") else { return false };
        let last = layer.rsplit('.').next().unwrap_or(layer);
        let projection = last.ends_with("_proj");
        let linear = projection || matches!(last, "dense" | "fc1" | "fc2");
        if layer.starts_with("language_model.layers.") {
            return linear;
        }
        self == Self::All
            && (layer == "lm_head"
                || layer.starts_with("multi_modal_projector.linear_")
                || layer.starts_with("vision_tower.encoder.layers.") && linear)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_the_linear_layers_of_a_model() {
        let gated = ["self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"];
        let parallel = ["self_attn.dense", "mlp.fc1", "mlp.fc2"];
        for layer in gated
            .into_iter()
            .chain(parallel)
            .map(|layer| format!("language_model.layers.3.{layer}.weight"))
        {
            assert!(Scope::Llm.contains(&layer) && Scope::All.contains(&layer), "{layer}");
        }
        for layer in [
            "lm_head",
            "multi_modal_projector.linear_2",
            "vision_tower.encoder.layers.0.self_attn.out_proj",
            "vision_tower.encoder.layers.22.mlp.fc1",
        ] {
            let name = format!("{layer}.weight");
            assert!(!Scope::Llm.contains(&name) && Scope::All.contains(&name), "{layer}");
        }
        let tower = "vision_tower.encoder.layers.0.mlp.fc1.weight";
        let of = |scheme, name| Quantization { scheme, scope: Scope::All }.of(name);
        let q4 = Scheme::Q4 { group: 32 };
        assert_eq!((of(Scheme::Q8, tower), of(q4, tower)), (Some(Scheme::Q8), None));
        assert_eq!(of(q4, "lm_head.weight"), Some(q4));
        for name in [
            "language_model.embed_tokens.weight",
            "language_model.norm.weight",
            "language_model.layers.0.input_layernorm.weight",
            "vision_tower.embeddings.patch_embedding.weight",
            "vision_tower.encoder.layers.0.self_attn.q_proj.bias",
            "vision_tower.encoder.layers.0.layer_norm1.weight",
            "multi_modal_projector.linear_1.bias",
            "image_newline",
        ] {
            assert!(!Scope::All.contains(name), "{name}");
        }
    }
}
