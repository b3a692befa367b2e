//! The vision tower's section of `config.json`.

use serde_json::Value;

use super::json::{self, Section};
use super::model::{MAX_HEADS, MAX_HIDDEN, MAX_INTERMEDIATE, MAX_LAYERS, divides, head_dim};
use super::{Activation, Architecture, Tower, VisionConfig};
use crate::Result;

const MAX_IMAGE_SIDE: usize = 8192;
const MAX_PATCHES: usize = 1 << 16;

/// Reads `vision_config`, with the defaults of the tower's class in transformers.
pub(super) fn vision(section: &Section, architecture: Architecture) -> Result<VisionConfig> {
    let one_vision = architecture == Architecture::OneVision;
    let tower = match architecture {
        Architecture::InternVl => {
            let towers = [("internvl_vision", Tower::InternVit)];
            section.choice("model_type", "internvl_vision", &towers)?
        }
        Architecture::LlavaNext | Architecture::Llava | Architecture::OneVision => {
            let towers =
                [("clip_vision_model", Tower::Clip), ("siglip_vision_model", Tower::Siglip)];
            let default = if one_vision { "siglip_vision_model" } else { "clip_vision_model" };
            section.choice("model_type", default, &towers)?
        }
    };
    // An absent section means ViT-L/14 at 336 pixels, or SigLIP at 384 for LLaVA-OneVision; a present one has the
    // defaults of its class in transformers.
    let [hidden, intermediate, layers, heads, image_size, patch_size] =
        match (section.exists(), tower) {
            (_, Tower::InternVit) => [1024, 4096, 24, 16, 448, 14],
            (false, _) if one_vision => [1152, 4304, 26, 16, 384, 14],
            (false, _) => [1024, 4096, 24, 16, 336, 14],
            (true, Tower::Clip) => [768, 3072, 12, 12, 224, 32],
            (true, Tower::Siglip) => [768, 3072, 12, 12, 224, 16],
        };
    let (eps, act) = match tower {
        Tower::Clip => (1e-5, "quick_gelu"),
        Tower::Siglip => (1e-6, "gelu_pytorch_tanh"),
        Tower::InternVit => (1e-6, "gelu"),
    };
    let is_internvit = tower == Tower::InternVit;
    if is_internvit {
        // Other values are those of InternViT-6B, in models of 26B and more.
        section.choice("norm_type", "layer_norm", &[("layer_norm", ())])?;
        section.require_flag("use_mean_pooling", true, true)?;
        section.require_flag("use_absolute_position_embeddings", true, true)?;
    }
    section.whole("num_channels", 3, 3..=3)?;
    let activations: &[_] = match tower {
        Tower::Clip => &[("quick_gelu", Activation::QuickGelu), ("gelu", Activation::Gelu)],
        Tower::Siglip => &[("gelu_pytorch_tanh", Activation::GeluTanh), ("gelu", Activation::Gelu)],
        Tower::InternVit => &[("gelu", Activation::Gelu)],
    };
    let config = VisionConfig {
        tower,
        hidden: section.whole("hidden_size", hidden, 1..=MAX_HIDDEN)?,
        intermediate: section.whole("intermediate_size", intermediate, 1..=MAX_INTERMEDIATE)?,
        layers: section.whole("num_hidden_layers", layers, 1..=MAX_LAYERS)?,
        heads: section.whole("num_attention_heads", heads, 1..=MAX_HEADS)?,
        image_size: side(section, "image_size", image_size)?,
        patch_size: side(section, "patch_size", patch_size)?,
        eps: section.number("layer_norm_eps", eps, 1e-12..=1.0)? as f32,
        activation: section.choice("hidden_act", act, activations)?,
        qkv_bias: !is_internvit || section.flag("attention_bias", false)?,
        qk_norm: is_internvit && section.flag("use_qk_norm", false)?,
        // Until the files are seen, which decide.
        pooling_head: tower == Tower::Siglip
            && section.get("vision_use_head") != Some(&Value::Bool(false)),
    };
    divides(section, "num_attention_heads", config.heads, "hidden_size", config.hidden)?;
    match tower {
        Tower::Clip | Tower::InternVit => {
            divides(section, "patch_size", config.patch_size, "image_size", config.image_size)?;
        }
        // 14 does not divide the 384 pixels of published models.
        Tower::Siglip if config.patch_size <= config.image_size => {}
        Tower::Siglip => {
            let what =
                format!("is {}, more than image_size {}", config.patch_size, config.image_size);
            return Err(section.error("patch_size", what));
        }
    }
    head_dim(section, "hidden_size / num_attention_heads", config.head_dim())?;
    if config.patches() > MAX_PATCHES {
        let what = format!("gives {} patches; at most {MAX_PATCHES} can be run", config.patches());
        return Err(section.error("image_size / patch_size", what));
    }
    Ok(config)
}

/// The side of a square: a number, or the same number twice.
fn side(section: &Section, key: &str, default: usize) -> Result<usize> {
    match section.get(key).map(|value| (value, value.as_array().map(Vec::as_slice))) {
        Some((value, Some([height, width]))) => json::whole(height)
            .filter(|side| json::whole(width) == Some(*side))
            .filter(|side| (1..=MAX_IMAGE_SIDE).contains(side))
            .ok_or_else(|| {
                let wanted = format!("one number twice, from 1 to {MAX_IMAGE_SIDE}");
                section.wrong(key, value, wanted)
            }),
        _ => section.whole(key, default, 1..=MAX_IMAGE_SIDE),
    }
}
