//! `quantization_config`: the layout of integer weights, if a folder has any.

use std::path::Path;

use serde_json::{Map, Value};

use super::json::Section;
use crate::error::{Error, Result, excerpt};
use crate::quant::{Packing, Scheme};

/// The layout of a folder's integer weights, as described by compressed-tensors or AutoAWQ; `None` for floating-point
/// weights.
///
/// Which layers are quantized is determined by the tensors themselves, not by `targets`, `ignore` and
/// `modules_to_not_convert`.
pub(super) fn quantization(path: &Path, root: &Map<String, Value>) -> Result<Option<Packing>> {
    let whole = Section::root(path, root);
    // The second key is that of older releases of compressed-tensors.
    for key in ["quantization_config", "compression_config"] {
        let section = whole.section(key)?;
        if section.exists() {
            let groups = root.get(key).and_then(|config| config.get("config_groups"));
            return stored(&section, groups).map(Some);
        }
    }
    Ok(None)
}

const WAY_OUT: &str = "use the folder that it was made from, with --dtype q8 or q4, or one that compressed-tensors \
                       (int-quantized, pack-quantized) or AutoAWQ (gemm) wrote";

fn stored(config: &Section<'_>, groups: Option<&Value>) -> Result<Packing> {
    match config.text("quant_method")? {
        Some("compressed-tensors") => compressed_tensors(config, groups),
        Some("awq") => awq(config),
        Some(other) => {
            let what = format!("is \"{}\", which is not supported: {WAY_OUT}", excerpt(other, 40));
            Err(config.error("quant_method", what))
        }
        None => Err(config.error("quant_method", format!("is missing: {WAY_OUT}"))),
    }
}

/// AutoAWQ's description; absent keys have transformers' defaults.
fn awq(config: &Section<'_>) -> Result<Packing> {
    // AutoAWQ's own files use another spelling of some keys.
    let bits = config.spelling("bits", "w_bit");
    config.whole(bits, 4, 4..=4)?;
    let key = config.spelling("version", "format");
    let version = config.text(key)?.unwrap_or("gemm");
    if !version.eq_ignore_ascii_case("gemm") {
        let what = format!(
            "is \"{}\"; it must be \"gemm\": other versions order their tensors differently: {WAY_OUT}",
            excerpt(version, 40)
        );
        return Err(config.error(key, what));
    }
    config.require_flag("zero_point", true, true)?;
    let key = config.spelling("group_size", "q_group_size");
    let group = match config.get(key).and_then(Value::as_i64) {
        Some(-1) => {
            let what = format!("is -1, one scale per row, which is not supported: {WAY_OUT}");
            return Err(config.error(key, what));
        }
        _ => group_size(config, key)?,
    };
    Ok(Packing::Awq { group })
}

fn group_size(section: &Section<'_>, key: &str) -> Result<usize> {
    let size = section.whole(key, 128, 1..=1 << 20)?;
    if !Scheme::GROUPS.contains(&size) {
        return Err(section.error(key, format!("is {size}; it must be 32, 64 or 128")));
    }
    Ok(size)
}

fn compressed_tensors(config: &Section<'_>, groups: Option<&Value>) -> Result<Packing> {
    config.choice("quantization_status", "compressed", &[("compressed", ())])?;
    for key in ["kv_cache_scheme", "transform_config", "sparsity_config"] {
        if config.get(key).is_some_and(|value| value.as_object().is_none_or(|map| !map.is_empty()))
        {
            return Err(config.error(key, format!("is set, which is not supported: {WAY_OUT}")));
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
            let what = "has groups of different schemes, which is not supported: use a folder with one scheme";
            return Err(config.error("config_groups", what));
        }
        found = Some(scheme);
    }
    found.ok_or_else(|| config.error("config_groups", "is empty: the folder is incomplete"))
}

fn of_group(group: &Section<'_>, format: Option<&str>) -> Result<Packing> {
    let format = group.text("format")?.or(format);
    let weights = group.section("weights")?;
    weights.choice("type", "int", &[("int", ())])?;
    weights.require_flag("symmetric", true, true)?;
    if let Some(order) = weights.get("actorder") {
        return Err(weights.wrong("actorder", order, "null: reordered columns are not supported"));
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
                let what = "is null: int8 weights with floating-point activations are not supported in this format";
                return Err(group.error("input_activations", what));
            }
            inputs.whole("num_bits", 8, 8..=8)?;
            inputs.choice("type", "int", &[("int", ())])?;
            inputs.choice("strategy", "token", &[("token", ())])?;
            inputs.require_flag("symmetric", true, true)?;
            inputs.require_flag("dynamic", true, true)?;
            Ok(Packing::Int8)
        }
        Some("pack-quantized") => {
            let bits = weights.whole("num_bits", 4, 4..=8)?;
            if !matches!(bits, 4 | 8) {
                return Err(weights.error("num_bits", format!("is {bits}; it must be 4 or 8")));
            }
            if let Some(inputs) = group.get("input_activations") {
                return Err(group.wrong("input_activations", inputs, "null"));
            }
            let by_group =
                weights.choice("strategy", "group", &[("group", true), ("channel", false)])?;
            let group = by_group.then(|| group_size(&weights, "group_size")).transpose()?;
            Ok(Packing::Packed { bits, group })
        }
        other => {
            let other =
                other.map_or("missing".into(), |other| format!("\"{}\"", excerpt(other, 40)));
            let what = format!("is {other}; it must be \"int-quantized\" or \"pack-quantized\"");
            Err::<Packing, Error>(group.error("format", what))
        }
    }
}
