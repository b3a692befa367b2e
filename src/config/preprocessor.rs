//! `preprocessor_config.json`, or the equivalent section of `processor_config.json`.

use std::path::Path;

use serde_json::Value;

use super::json::{self, Section};
use super::model::{self, CONFIG};
use super::{Architecture, Files, ImageConfig, Tower, VisionConfig};
use crate::{Error, Result};

pub(super) const PREPROCESSOR: &str = "preprocessor_config.json";
pub(super) const PROCESSOR: &str = "processor_config.json";

/// Mean and standard deviation of CLIP's training images, transformers' default.
const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// Pillow's number for bicubic resampling.
const BICUBIC: usize = 3;

/// The preprocessing for `vision` with the canvases `pinpoints` of `config.json`.
pub(super) fn image(
    dir: &Path,
    files: &Files,
    vision: &VisionConfig,
    architecture: Architecture,
    pinpoints: Option<Vec<(usize, usize)>>,
) -> Result<ImageConfig> {
    let read = |path: &Path, section: &Section, pinpoints| match architecture {
        Architecture::InternVl => cut(section, vision),
        Architecture::LlavaNext | Architecture::Llava | Architecture::OneVision => {
            read(path, section, vision, architecture, pinpoints)
        }
    };
    // transformers 5 saves everything in one file, which it prefers.
    if let Some(bytes) = files.processor {
        let path = dir.join(PROCESSOR);
        let map = json::parse(&path, bytes)?;
        let section = Section::root(&path, &map).section("image_processor")?;
        if section.exists() {
            return read(&path, &section, pinpoints);
        }
    }
    let Some(bytes) = files.preprocessor else {
        let what = "this folder has neither preprocessor_config.json nor an image_processor in \
                    processor_config.json";
        return Err(model::missing(dir, what));
    };
    let path = dir.join(PREPROCESSOR);
    let map = json::parse(&path, bytes)?;
    read(&path, &Section::root(&path, &map), pinpoints)
}

fn read(
    path: &Path,
    section: &Section,
    vision: &VisionConfig,
    architecture: Architecture,
    pinpoints: Option<Vec<(usize, usize)>>,
) -> Result<ImageConfig> {
    let tiled = pinpoints.is_some();
    let one_vision = architecture == Architecture::OneVision;
    let known = if one_vision {
        &["LlavaOnevisionImageProcessor"][..]
    } else if tiled {
        &["LlavaNextImageProcessor"][..]
    } else {
        match vision.tower {
            Tower::Clip => &["CLIPImageProcessor", "LlavaImageProcessor"][..],
            Tower::Siglip | Tower::InternVit => &["SiglipImageProcessor"][..],
        }
    };
    // SigLIP's processor uses the whole image, CLIP's crops its centre.
    let squash = !tiled && vision.tower == Tower::Siglip;
    class(section, known)?;
    section.require_flag("do_rescale", true, true)?;
    section.require_flag("do_normalize", true, true)?;
    if !tiled {
        // Sub-images have their final size already, and padding only concerns batches of images.
        section.require_flag("do_resize", true, true)?;
        section.require_flag("do_center_crop", !squash, !squash)?;
    }
    // CLIP's processor has no such setting.
    let pads = section.text("image_processor_type")?.is_some_and(|name| name.starts_with("Llava"));
    let pad = !tiled && pads && section.flag("do_pad", false)?;
    section.whole("resample", BICUBIC, BICUBIC..=BICUBIC)?;
    if !one_vision || section.get("size").is_some() || vision.image_size != 384 {
        side(section, "size", vision.image_size, !tiled && !squash)?;
    }
    if !squash && !one_vision {
        side(section, "crop_size", vision.image_size, false)?;
    }
    if let Some(own) = model::pinpoint_list(section)?
        && let Some(canvases) = &pinpoints
        && own != *canvases
    {
        let what =
            format!("image_grid_pinpoints differs from that of {CONFIG}; make both the same");
        return Err(Error::model(path, what));
    }
    let (mean, std) = if squash { ([0.5; 3], [0.5; 3]) } else { (CLIP_MEAN, CLIP_STD) };
    let numbers = numbers(section, vision, mean, std)?;
    Ok(ImageConfig { pinpoints, pad, squash, ..numbers })
}

/// InternVL's preprocessing, which chooses the number of sub-images by the image's aspect ratio.
///
/// `crop_to_patches` is ignored: published files say false, but transformers' processor always sets it to true.
fn cut(section: &Section, vision: &VisionConfig) -> Result<ImageConfig> {
    let torchvision =
        class(section, &["GotOcr2ImageProcessor"])?.is_some_and(|n| n.ends_with("Fast"));
    for key in ["do_resize", "do_rescale", "do_normalize"] {
        section.require_flag(key, true, true)?;
    }
    section.whole("resample", BICUBIC, BICUBIC..=BICUBIC)?;
    side(section, "size", vision.image_size, false)?;
    let least = section.whole("min_patches", 1, 1..=model::MAX_SUB_IMAGES)?;
    let most = section.whole("max_patches", 12, 1..=model::MAX_SUB_IMAGES)?;
    if least > most {
        let what = format!("is {least}, more than max_patches {most}");
        return Err(section.error("min_patches", what));
    }
    let numbers = numbers(section, vision, CLIP_MEAN, CLIP_STD)?;
    Ok(ImageConfig { squash: true, sub_images: Some((least, most)), torchvision, ..numbers })
}

/// The processor's class if it is named and is one of `known`, in any of transformers' spellings.
fn class<'a>(section: &Section<'a>, known: &[&str]) -> Result<Option<&'a str>> {
    const KEY: &str = "image_processor_type";
    let Some(name) = section.text(KEY)? else { return Ok(None) };
    let class = name.strip_suffix("Fast").or(name.strip_suffix("Pil")).unwrap_or(name);
    if known.contains(&class) {
        return Ok(Some(name));
    }
    let wanted = format!("{} for this model", known.join(" or "));
    Err(section.wrong(KEY, &Value::from(name), wanted))
}

/// The settings that all processors have, for partitions of this side.
fn numbers(
    section: &Section,
    vision: &VisionConfig,
    mean: [f64; 3],
    std: [f64; 3],
) -> Result<ImageConfig> {
    Ok(ImageConfig {
        side: vision.image_size,
        pinpoints: None,
        mean: channels(section, "image_mean", mean, -1e3)?,
        std: channels(section, "image_std", std, 1e-3)?,
        rescale: section.number("rescale_factor", 1.0 / 255.0, 1e-6..=1e3)?,
        pad: false,
        squash: false,
        sub_images: None,
        torchvision: false,
    })
}

/// Fails unless `size` or `crop_size`, in either spelling, is the side of a partition.
///
/// If `size` is meant for the shortest edge, `height` and `width` must not be given, because they would change the
/// aspect ratio.
fn side(section: &Section, key: &str, image_size: usize, shortest_edge: bool) -> Result<()> {
    // The image processors' own default is CLIP's, which no published LLaVA uses.
    let default = Value::from(224);
    let value = section.get(key).unwrap_or(&default);
    let edge = |name: &str| value.get(name).filter(|edge| !edge.is_null());
    let found = match value {
        Value::Number(_) => json::whole(value),
        _ => match (edge("shortest_edge"), edge("height"), edge("width")) {
            (Some(shortest), None, None) if key == "size" => json::whole(shortest),
            (None, Some(height), Some(width)) if height == width && !shortest_edge => {
                json::whole(height)
            }
            _ => None,
        },
    };
    if found == Some(image_size) && edge("longest_edge").is_none() {
        return Ok(());
    }
    let wanted = match shortest_edge {
        true => format!("{{\"shortest_edge\":{image_size}}}"),
        false => format!("{image_size} pixels each way"),
    };
    let what = format!("{wanted}, vision_config.image_size of {CONFIG}");
    Err(section.wrong(key, value, what))
}

/// One number per colour channel, from `lowest` to 1000.
fn channels(section: &Section, key: &str, default: [f64; 3], lowest: f64) -> Result<[f64; 3]> {
    let Some(value) = section.get(key) else { return Ok(default) };
    let read = || -> Option<[f64; 3]> {
        let list: Option<Vec<f64>> = value.as_array()?.iter().map(Value::as_f64).collect();
        list?.try_into().ok()
    };
    read()
        .filter(|all| all.iter().all(|x| (lowest..=1e3).contains(x)))
        .ok_or_else(|| section.wrong(key, value, format!("three numbers from {lowest} to 1000")))
}
