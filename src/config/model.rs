//! `config.json` and `generation_config.json`.

use std::path::Path;

use serde_json::Value;

use super::generation::Generation;
use super::json::{self, Section};
use super::quantization::quantization;
use super::vision::vision;
use super::{
    Activation, Architecture, Family, Files, ModelConfig, Tower, VisionConfig, decoder,
    preprocessor,
};
use crate::{Error, Result};

pub(super) const CONFIG: &str = "config.json";

// Limits on the sizes in a file: far above every published model, and small enough that none of their products
// (elements of a tensor, bytes of a cache, scores of a block) exceeds 64 bits.
pub(super) const MAX_LAYERS: usize = 1000;
pub(super) const MAX_HIDDEN: usize = 1 << 20;
pub(super) const MAX_INTERMEDIATE: usize = 1 << 22;
pub(super) const MAX_HEADS: usize = 1 << 14;
pub(super) const MAX_VOCAB: usize = 1 << 24;
const MAX_PINPOINTS: usize = 1024;
pub(super) const MAX_SUB_IMAGES: usize = 64;
/// Integers up to this are exact in f32, in which rotary angles are computed.
pub(super) const MAX_POSITIONS: usize = 1 << 24;
/// The largest head size that the attention kernels support.
const MAX_HEAD_DIM: usize = 128;

/// Canvases of published LLaVA-NeXT models as (height, width), transformers' default.
const PINPOINTS: [(usize, usize); 5] =
    [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)];

pub(super) fn model(dir: &Path, files: &Files) -> Result<ModelConfig> {
    let path = dir.join(CONFIG);
    let map = json::parse(&path, files.config)?;
    let root = Section::root(&path, &map);
    let architecture = architecture(&root)?;
    let quantization = quantization(&path, &map)?;
    let one_vision = architecture == Architecture::OneVision;
    let vision = vision(&root.section("vision_config")?, architecture)?;
    strategy(&root, &vision, one_vision)?;
    let pooled = pooled(&root, architecture, &vision)?;
    let cell = if pooled { 2 } else { cell(&root, architecture, &vision)? };
    let text = decoder::text(&root, architecture)?;
    let pinpoints = match architecture {
        Architecture::LlavaNext => Some(pinpoints(&root, &vision, PINPOINTS.to_vec())?),
        Architecture::OneVision => {
            let sides = (1..=6).map(|strips| strips * 384);
            let all =
                sides.clone().flat_map(|height| sides.clone().map(move |width| (height, width)));
            Some(pinpoints(&root, &vision, all.collect())?)
        }
        Architecture::Llava | Architecture::InternVl => None,
    };
    let most_patches = one_vision.then(|| most_patches(&root, &vision)).transpose()?;
    let (last, default_image) = match architecture {
        Architecture::InternVl => (-1, 151_667),
        Architecture::OneVision => (-1, 151_646),
        Architecture::LlavaNext | Architecture::Llava => (-2, 32000),
    };
    let feature_blocks = feature_blocks(&root, vision.layers, last)?;
    let activations = [
        ("gelu", Activation::Gelu),
        ("quick_gelu", Activation::QuickGelu),
        ("silu", Activation::Silu),
    ];
    let image_token = {
        let key = root.spelling("image_token_id", "image_token_index");
        let default = default_image;
        root.whole(key, default, 0..=text.vocab - 1)? as u32
    };
    let generation = Generation::read(dir, files)?;
    let eos = eos(&generation, &root, text.family)?;
    let image = preprocessor::image(dir, files, &vision, architecture, pinpoints)?;
    Ok(ModelConfig {
        quantization,
        architecture,
        feature_blocks,
        cell,
        pooled,
        most_patches,
        projector_activation: root.choice("projector_hidden_act", "gelu", &activations)?,
        projector_bias: root.flag("multimodal_projector_bias", true)?,
        image_token,
        eos,
        ignored: generation.ignored(),
        vision,
        text,
        image,
    })
}

/// Fails unless the features consist of all patches and nothing else.
fn strategy(root: &Section, vision: &VisionConfig, one_vision: bool) -> Result<()> {
    const KEY: &str = "vision_feature_select_strategy";
    let absent = if one_vision { "full" } else { "default" };
    let is_default = root.choice(KEY, absent, &[("default", true), ("full", false)])?;
    if is_default == vision.class_token() {
        return Ok(());
    }
    // The methods define no score for the first row of a tower without a class token, nor for a class token in the
    // decoder.
    let what = match is_default {
        true => {
            "is \"default\", which drops the first patch of a tower without a class token \
             (vision_config.model_type siglip_vision_model), and is not supported; it must be \"full\""
        }
        false => {
            "is \"full\", which passes the class token to the decoder, and is not supported; it must be \"default\""
        }
    };
    Err(root.error(KEY, what))
}

fn architecture(root: &Section) -> Result<Architecture> {
    let names = [
        ("llava_next", Architecture::LlavaNext),
        ("llava", Architecture::Llava),
        ("llava_onevision", Architecture::OneVision),
        ("internvl", Architecture::InternVl),
    ];
    if root.text("model_type")? == Some("internvl_chat") {
        let what = "is that of InternVL's own code, which is not supported: use the folder of the same name with -hf \
                    (InternVL3_5: -HF) at its end on the Hugging Face hub";
        return Err(root.error("model_type", what));
    }
    // LLaVA's own code refers to the vision tower by a path, transformers describes it.
    let key = "mm_vision_tower";
    if root.get(key).is_some() && root.get("vision_config").is_none()
        || root
            .text("model_type")?
            .is_some_and(|name| name.starts_with("llava_") && names.iter().all(|(n, _)| *n != name))
    {
        let what = "is that of LLaVA's original code: this is an original checkpoint, which is not supported; \
                    use the converted one, named llava-hf/… on the Hugging Face hub, or convert it with \
                    tools/convert";
        return Err(root.error(if root.get(key).is_some() { key } else { "model_type" }, what));
    }
    if root.get("model_type").is_some() {
        return root.choice("model_type", "", &names);
    }
    let first = root.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
    match first {
        Some("LlavaNextForConditionalGeneration") => Ok(Architecture::LlavaNext),
        Some("LlavaForConditionalGeneration") => Ok(Architecture::Llava),
        Some("InternVLForConditionalGeneration") => Ok(Architecture::InternVl),
        Some("LlavaOnevisionForConditionalGeneration") => Ok(Architecture::OneVision),
        _ => {
            let what = "is missing; it must be \"llava_next\", \"llava\", \"llava_onevision\" or \"internvl\"";
            Err(root.error("model_type", what))
        }
    }
}

/// Side of a token in patches.
fn cell(root: &Section, architecture: Architecture, vision: &VisionConfig) -> Result<usize> {
    if architecture != Architecture::InternVl {
        return Ok(1);
    }
    root.number("downsample_ratio", 0.5, 0.5..=0.5)?;
    if vision.side().is_multiple_of(2) {
        return Ok(2);
    }
    let what = format!(
        "gives {0} x {0} patches, which cannot be joined two by two (downsample_ratio 0.5)",
        vision.side()
    );
    Err(root.error("vision_config.image_size / patch_size", what))
}

/// `projector_type`, a key of this crate's own that `tools/convert` writes: `ldpv2` pools 24 × 24 patches to 12 × 12.
fn pooled(root: &Section, architecture: Architecture, vision: &VisionConfig) -> Result<bool> {
    const KEY: &str = "projector_type";
    const SIDE: usize = 24;
    if !root.choice(KEY, "mlp", &[("mlp", false), ("ldpv2", true)])? {
        return Ok(false);
    }
    let wrong = |what: String| Err(root.error(KEY, format!("is \"ldpv2\", {what}")));
    if architecture != Architecture::Llava {
        let what = "which pools the patches of one whole image, and this model_type is another; it must be \"llava\"";
        return wrong(what.into());
    }
    if vision.tower != Tower::Clip {
        return wrong(
            "which needs CLIP's tower; vision_config.model_type must be \"clip_vision_model\""
                .into(),
        );
    }
    if vision.side() != SIDE {
        let side = vision.side();
        return wrong(format!(
            "which pools {SIDE} x {SIDE} patches, and vision_config.image_size / patch_size gives {side} x {side}"
        ));
    }
    Ok(true)
}

/// `vision_aspect_ratio`: how many partitions' patches sub-images may have.
fn most_patches(root: &Section, vision: &VisionConfig) -> Result<usize> {
    const KEY: &str = "vision_aspect_ratio";
    let name = root.text(KEY)?.unwrap_or("anyres_max_9");
    let most = name.strip_prefix("anyres_max_").and_then(|n| n.parse::<usize>().ok());
    match most.filter(|most| (1..=MAX_SUB_IMAGES).contains(most)) {
        Some(most) => Ok(most * vision.patches()),
        None => {
            let wanted = format!("anyres_max_1 to anyres_max_{MAX_SUB_IMAGES}");
            Err(root.wrong(KEY, &Value::from(name), wanted))
        }
    }
}

fn pinpoints(
    root: &Section,
    vision: &VisionConfig,
    absent: Vec<(usize, usize)>,
) -> Result<Vec<(usize, usize)>> {
    const KEY: &str = "image_grid_pinpoints";
    let canvases = pinpoint_list(root)?.unwrap_or(absent);
    let side = vision.image_size;
    for &(height, width) in &canvases {
        let (rows, cols) = (height / side, width / side);
        if height == 0 || width == 0 || height % side != 0 || width % side != 0 {
            let what = format!(
                "holds [{height}, {width}], which is not a multiple of vision_config.image_size {side}"
            );
            return Err(root.error(KEY, what));
        }
        if rows.saturating_mul(cols) > MAX_SUB_IMAGES {
            let what = format!(
                "holds [{height}, {width}], a grid of {rows} x {cols} sub-images; \
                 at most {MAX_SUB_IMAGES} can be run"
            );
            return Err(root.error(KEY, what));
        }
    }
    Ok(canvases)
}

/// The list of (height, width) under `image_grid_pinpoints`, which two files may have.
pub(super) fn pinpoint_list(section: &Section) -> Result<Option<Vec<(usize, usize)>>> {
    const KEY: &str = "image_grid_pinpoints";
    let Some(value) = section.get(KEY) else { return Ok(None) };
    let wrong = || section.wrong(KEY, value, "a list of [height, width] in pixels");
    let list = value.as_array().filter(|list| !list.is_empty()).ok_or_else(wrong)?;
    if list.len() > MAX_PINPOINTS {
        let what = format!("has {} entries; at most {MAX_PINPOINTS} make sense", list.len());
        return Err(section.error(KEY, what));
    }
    let pair = |entry: &Value| match entry.as_array().map(Vec::as_slice) {
        Some([height, width]) => Some((json::whole(height)?, json::whole(width)?)),
        _ => None,
    };
    list.iter().map(pair).collect::<Option<Vec<_>>>().map(Some).ok_or_else(wrong)
}

/// The number of blocks to run for `vision_feature_layer`, which is an index of the hidden states: 0 is the
/// embedding, and −1 is the last block's output.
fn feature_blocks(root: &Section, layers: usize, default: i32) -> Result<usize> {
    const KEY: &str = "vision_feature_layer";
    let default = Value::from(default);
    let value = root.get(KEY).unwrap_or(&default);
    let value = match value.as_array().map(Vec::as_slice) {
        None => value,
        Some([one]) => one,
        Some(_) => {
            let wanted = "one layer; features of several are not supported";
            return Err(root.wrong(KEY, value, wanted));
        }
    };
    let blocks = value.as_i64().and_then(|index| match index {
        0.. => usize::try_from(index).ok(),
        _ => (layers + 1).checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    });
    blocks.filter(|blocks| (1..=layers).contains(blocks)).ok_or_else(|| {
        let wanted =
            format!("the output of one of the {layers} blocks, 1 to {layers} or -{layers} to -1");
        root.wrong(KEY, value, wanted)
    })
}

/// Ids that end an answer: from `generation_config.json`, otherwise from `config.json` itself, otherwise from its
/// decoder, otherwise the default of the decoder's class.
fn eos(generation: &Generation, root: &Section, family: Family) -> Result<Vec<u32>> {
    const KEY: &str = "eos_token_id";
    let text = root.section("text_config")?;
    for section in [&generation.root(), root, &text] {
        if let Some(value) = section.get(KEY) {
            return ids(section, KEY, value);
        }
    }
    Ok(decoder::facts(family).eos.to_vec())
}

pub(super) fn ids(section: &Section, key: &str, value: &Value) -> Result<Vec<u32>> {
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids = list.iter().map(id).collect::<Option<Vec<_>>>();
    ids.filter(|ids| !ids.is_empty())
        .ok_or_else(|| section.wrong(key, value, "a token id or a list of token ids"))
}

pub(super) fn divides(
    section: &Section,
    key: &str,
    part: usize,
    of: &str,
    whole: usize,
) -> Result<()> {
    if whole.is_multiple_of(part) {
        return Ok(());
    }
    Err(section.error(key, format!("is {part}, which does not divide {of} {whole}")))
}

pub(super) fn head_dim(section: &Section, key: &str, width: usize) -> Result<()> {
    if (2..=MAX_HEAD_DIM).contains(&width) && width.is_multiple_of(2) {
        return Ok(());
    }
    let what = format!("is {width}; heads must be an even number wide, from 2 to {MAX_HEAD_DIM}");
    Err(section.error(key, what))
}

/// The error for a missing required file.
pub(super) fn missing(dir: &Path, what: &str) -> Error {
    Error::model(dir, format!("{what}; download it from where the checkpoint came from"))
}
