//! Integer weights: the rounding rules, and folders in the compressed-tensors format.
//!
//! There are two schemes, both symmetric and computed from the weights alone (round to nearest, without calibration
//! data):
//! - **q8**, W8A8: one scale per output row of a weight and one per token of its input; products are summed in
//!   integers.
//! - **q4**, W4A16: one scale per group of 32, 64 or 128 weights along the input, chosen by the least squared error.

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

/// The scheme by which a linear layer's weights are quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// int8 with one scale per output row.
    Q8,
    /// int4 with one scale per group of weights along the input.
    Q4 {
        /// Weights per group: 32, 64 or 128.
        group: usize,
    },
}

impl Scheme {
    /// The group sizes of [`Scheme::Q4`] that the kernels support.
    pub const GROUPS: [usize; 3] = [32, 64, 128];

    /// The name on the command line, without the group size.
    pub fn name(self) -> &'static str {
        self.format().name()
    }

    /// Fails unless the scheme can quantize rows of `columns` weights.
    pub(crate) fn divides(self, name: &str, columns: usize) -> Result<()> {
        match self {
            Self::Q4 { group } if !Self::GROUPS.contains(&group) => Err(Error::Request(format!(
                "q4 does not support groups of {group}: give 32, 64 or 128"
            ))),
            Self::Q4 { group } if !columns.is_multiple_of(group) => Err(Error::Request(format!(
                "{name}: its rows have {columns} numbers, which is not a multiple of the group size {group}: use a smaller group, or q8"
            ))),
            Self::Q8 | Self::Q4 { .. } => Ok(()),
        }
    }

    /// The storage format of the quantized weights.
    pub(crate) fn format(self) -> Format {
        match self {
            Self::Q8 => Format::Q8,
            Self::Q4 { group } => Format::Q4 { group },
        }
    }
}

/// Which weights are quantized when a model is loaded, and by which scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantization {
    /// The scheme.
    pub scheme: Scheme,
    /// The layers.
    pub scope: Scope,
}

impl Quantization {
    /// The scheme for the weight with this canonical name, or `None` if it is not quantized.
    ///
    /// q4 leaves the vision tower unchanged, because each of its layers affects the scores that rank patches: with
    /// int4 there, the 20% of patches kept on the demo model overlap by 83% with those of f32 (int8: 97%).
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

/// Which linear layers are quantized. Embeddings, norms, biases and the patch convolution never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The linear layers of the decoder.
    Llm,
    /// Also the projector, the logits head and, with q8, the vision tower.
    All,
}

impl Scope {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llm => "llm",
            Self::All => "all",
        }
    }

    /// Returns true if the weight with this canonical name belongs to a linear layer in this scope.
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
