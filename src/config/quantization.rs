//! `quantization_config`: how the weights of a folder are integers, if they are.

use std::path::Path;

use serde_json::{Map, Value};

use super::json::Section;
use crate::error::{Error, Result, excerpt};
use crate::quant::Scheme;

/// The scheme of a folder's integer weights, as compressed-tensors describes it; `None` if they are floating-point numbers.
///
/// Which layers are integers is said by the tensors themselves, not by `targets` and `ignore`.
pub(super) fn quantization(path: &Path, root: &Map<String, Value>) -> Result<Option<Scheme>> {
    let whole = Section::root(path, root);
    // The second is what older releases of compressed-tensors call it.
    for key in ["quantization_config", "compression_config"] {
        let section = whole.section(key)?;
        if section.exists() {
            let groups = root.get(key).and_then(|config| config.get("config_groups"));
            return scheme(&section, groups).map(Some);
        }
    }
    Ok(None)
}

fn scheme(config: &Section<'_>, groups: Option<&Value>) -> Result<Scheme> {
    const WAY_OUT: &str = "take the folder that it was made from, with --dtype q8 or q4, or a compressed-tensors folder in \
                           int-quantized or pack-quantized format";
    match config.text("quant_method")? {
        Some("compressed-tensors") => {}
        Some(other) => {
            let what = format!("is \"{}\", which is not read: {WAY_OUT}", excerpt(other, 40));
            return Err(config.error("quant_method", what));
        }
        None => return Err(config.error("quant_method", format!("is missing: {WAY_OUT}"))),
    }
    config.choice("quantization_status", "compressed", &[("compressed", ())])?;
    for key in ["kv_cache_scheme", "transform_config", "sparsity_config"] {
        if config.get(key).is_some_and(|value| value.as_object().is_none_or(|map| !map.is_empty()))
        {
            return Err(config.error(key, format!("is set, which is not followed: {WAY_OUT}")));
        }
    }
    let Some(Value::Object(groups)) = groups else {
        return Err(config.error("config_groups", "is missing: the folder is incomplete"));
    };
    let section = config.section("config_groups")?;
    let mut found = None;
    for name in groups.keys() {
        let group = section.section(name)?;
        let scheme = of_group(&group, config.text("format")?)?;
        if found.is_some_and(|before| before != scheme) {
            let what =
                "has groups of different schemes, which is not read: take a folder with one scheme";
            return Err(config.error("config_groups", what));
        }
        found = Some(scheme);
    }
    found.ok_or_else(|| config.error("config_groups", "is empty: the folder is incomplete"))
}

fn of_group(group: &Section<'_>, format: Option<&str>) -> Result<Scheme> {
    let format = group.text("format")?.or(format);
    let weights = group.section("weights")?;
    weights.choice("type", "int", &[("int", ())])?;
    weights.require_flag("symmetric", true, true)?;
    if let Some(order) = weights.get("actorder") {
        return Err(weights.wrong("actorder", order, "null: reordered columns are not read"));
    }
    if let Some(output) = group.get("output_activations") {
        return Err(group.wrong("output_activations", output, "null"));
    }
    match format {
        Some("int-quantized") => {
            weights.whole("num_bits", 8, 8..=8)?;
            weights.choice("strategy", "channel", &[("channel", ())])?;
            let inputs = group.section("input_activations")?;
            if !inputs.exists() {
                let what = "is null: int8 weights with floating-point activations are not read";
                return Err(group.error("input_activations", what));
            }
            inputs.whole("num_bits", 8, 8..=8)?;
            inputs.choice("type", "int", &[("int", ())])?;
            inputs.choice("strategy", "token", &[("token", ())])?;
            inputs.require_flag("symmetric", true, true)?;
            inputs.require_flag("dynamic", true, true)?;
            Ok(Scheme::Q8)
        }
        Some("pack-quantized") => {
            weights.whole("num_bits", 4, 4..=4)?;
            weights.choice("strategy", "group", &[("group", ())])?;
            if let Some(inputs) = group.get("input_activations") {
                return Err(group.wrong("input_activations", inputs, "null"));
            }
            let size = weights.whole("group_size", 128, 1..=1 << 20)?;
            if !Scheme::GROUPS.contains(&size) {
                return Err(
                    weights.error("group_size", format!("is {size}; it must be 32, 64 or 128"))
                );
            }
            Ok(Scheme::Q4 { group: size })
        }
        other => {
            let other =
                other.map_or("missing".into(), |other| format!("\"{}\"", excerpt(other, 40)));
            let what = format!("is {other}; it must be \"int-quantized\" or \"pack-quantized\"");
            Err::<Scheme, Error>(group.error("format", what))
        }
    }
}
