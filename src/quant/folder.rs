//! Writes a quantized copy of a model folder in the compressed-tensors format, which transformers and vLLM can load.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::Dtype;
use serde_json::{Value, json};

use super::{Quantization, Scheme, Scope};
use crate::checkpoint::write::{Folder, Planned, SHARD, Write, new_folder, split, write_shards};
use crate::checkpoint::{self, Checkpoint, Tensor};
use crate::config::ModelFolder;
use crate::format::Format;
use crate::{Error, Result, files};

/// Number of weights that are quantized before they are written.
const PANEL: usize = 8 << 20;

/// int4 codes per packed word.
const NIBBLES: usize = 8;

/// Largest other file of the folder that is copied; tokenizers have some megabytes.
const LARGEST_FILE: u64 = 256 << 20;

/// A summary of what [`quantize`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Linear layers whose weights were quantized.
    pub quantized: usize,
    /// Tensors that were copied unchanged.
    pub copied: usize,
    /// Bytes of all tensors in the source.
    pub bytes_before: u64,
    /// Bytes of all tensors in the copy.
    pub bytes_after: u64,
}

/// Writes a copy of the model folder `model` with quantized linear layers to the folder `out`, which must be empty or
/// not exist. The same input gives the same bytes.
///
/// `progress` is called with the bytes written so far and in total, and can stop the work. Files other than weights
/// and `config.json` are copied.
///
/// # Errors
/// As [`checkpoint::open`]; [`Error::Request`] if `out` is not empty or a group does not divide a layer's input,
/// [`Error::Model`] if a weight is not finite, [`Error::Capacity`] if the disk has too little space, [`Error::Io`] if
/// writing fails, [`Error::Cancelled`] if `progress` stops it. After an error the written files are removed.
pub fn quantize(
    model: &Path,
    out: &Path,
    scheme: Scheme,
    scope: Scope,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Summary> {
    let (folder, weights) = checkpoint::open(model)?;
    if let Some(stored) = folder.config.quantization {
        return Err(Error::Request(format!(
            "{}: its weights are {stored} already: use the folder that it was made from",
            folder.dir.display()
        )));
    }
    weights.verify(&folder.config)?;
    let chosen = Quantization { scheme, scope };
    let mut summary = Summary { quantized: 0, copied: 0, bytes_before: 0, bytes_after: 0 };
    let mut planned = Vec::new();
    for tensor in weights.tensors() {
        summary.bytes_before += tensor.bytes().len() as u64;
        if chosen.of(&tensor.name).is_some() {
            summary.quantized += 1;
            planned.extend(stored_as(tensor, scheme, &folder)?);
        } else {
            summary.copied += 1;
            planned.push(Planned {
                name: checkpoint::published(&tensor.name, folder.config.vision.tower),
                dtype: match tensor.format {
                    Format::F16 => Dtype::F16,
                    Format::Bf16 => Dtype::BF16,
                    Format::F32 => Dtype::F32,
                    _ => Dtype::I8,
                },
                shape: tensor.shape.clone(),
            });
        }
    }
    summary.bytes_after = planned.iter().map(Planned::bytes).sum();
    let config = config(&folder.dir, chosen)?;
    let others = others(&folder.dir)?;
    let small = others.iter().map(|(_, size)| size).sum::<u64>() + config.len() as u64;
    let shards = split(planned, SHARD);
    new_folder(out, &shards, small, &mut |new: &mut Folder| {
        new.file("config.json", config.as_bytes())?;
        for (path, _) in &others {
            let name = path.file_name().expect("an entry of a folder has a name");
            let content = files::read(path, LARGEST_FILE)?.unwrap_or_default();
            new.file(Path::new(name), &content)?;
        }
        let mut maker = Maker { weights: &weights, chosen, scales: Vec::new() };
        write_shards(new, &shards, progress, &mut |tensor, write| maker.make(tensor, write))
    })?;
    Ok(summary)
}

/// The tensors that replace a floating-point weight.
fn stored_as(tensor: &Tensor, scheme: Scheme, folder: &ModelFolder) -> Result<Vec<Planned>> {
    let &[rows, columns] = &tensor.shape[..] else {
        let what = format!("tensor {} is not a matrix and cannot be quantised", tensor.name);
        return Err(Error::model(&folder.dir, what));
    };
    scheme.divides(&tensor.name, columns)?;
    let name = checkpoint::published(&tensor.name, folder.config.vision.tower);
    let planned = |suffix: &str, dtype, shape: &[usize]| Planned {
        name: format!("{name}{suffix}"),
        dtype,
        shape: shape.to_vec(),
    };
    Ok(match scheme {
        Scheme::Q8 => vec![
            planned("", Dtype::I8, &[rows, columns]),
            planned("_scale", Dtype::F16, &[rows, 1]),
        ],
        Scheme::Q4 { group } => vec![
            planned("_packed", Dtype::I32, &[rows, columns / NIBBLES]),
            planned("_scale", Dtype::F16, &[rows, columns / group]),
            planned("_shape", Dtype::I64, &[2]),
        ],
    })
}

/// Produces the bytes of the planned tensors one after the other.
struct Maker<'a> {
    weights: &'a Checkpoint,
    chosen: Quantization,
    /// Scales of the weight whose codes were written last.
    scales: Vec<f16>,
}

impl Maker<'_> {
    fn make(&mut self, planned: &Planned, write: &mut Write<'_>) -> Result<()> {
        let name = checkpoint::canonical(&planned.name);
        let of =
            |suffix| name.strip_suffix(suffix).filter(|weight| self.chosen.of(weight).is_some());
        if let Some(weight) = of("_shape") {
            let shape = &self.weights.get(weight)?.shape;
            let bytes: Vec<u8> = shape.iter().flat_map(|&n| (n as i64).to_le_bytes()).collect();
            return write(&bytes);
        }
        if of("_scale").is_some() {
            let bytes: Vec<u8> = self.scales.iter().flat_map(|s| s.to_le_bytes()).collect();
            return write(&bytes);
        }
        let tensor = self.weights.get(of("_packed").unwrap_or(&name))?;
        if matches!(planned.dtype, Dtype::I8 | Dtype::I32) {
            return self.codes(&tensor, write);
        }
        tensor.bytes().chunks(PANEL).try_for_each(write)
    }

    /// Writes a weight's codes and keeps its scales for the next tensor.
    fn codes(&mut self, tensor: &Tensor, write: &mut Write<'_>) -> Result<()> {
        let columns = tensor.shape[1];
        let (format, row_bytes) = (self.chosen.scheme.format(), tensor.format.bytes(1, columns));
        let rows_at_once = (PANEL / columns).max(1);
        self.scales.clear();
        for (panel, bytes) in tensor.bytes().chunks(rows_at_once * row_bytes).enumerate() {
            let rows = bytes.len() / row_bytes;
            let mut scales = vec![f16::ZERO; format.scales(rows, columns)];
            let mut codes = vec![0u8; format.code_bytes(rows, columns)];
            super::rows(
                tensor,
                self.chosen.scheme,
                panel * rows_at_once,
                bytes,
                &mut scales,
                &mut codes,
            )?;
            self.scales.extend(scales);
            write(&codes)?;
        }
        Ok(())
    }
}

/// The new `config.json`: the original with a description of the quantized weights.
fn config(dir: &Path, chosen: Quantization) -> Result<String> {
    let path = dir.join("config.json");
    let bytes = files::read(&path, LARGEST_FILE)?.unwrap_or_default();
    let mut root: Value = serde_json::from_slice(&bytes)
        .map_err(|e| Error::model(&path, format!("is not valid JSON ({e})")))?;
    root["quantization_config"] = description(chosen);
    Ok(format!("{root:#}\n"))
}

fn description(Quantization { scheme, scope }: Quantization) -> Value {
    let arguments = |bits, strategy, group: Option<usize>, dynamic| {
        json!({
            "num_bits": bits, "type": "int", "symmetric": true, "strategy": strategy, "group_size": group,
            "dynamic": dynamic, "actorder": null, "block_structure": null, "observer": "minmax", "observer_kwargs": {}
        })
    };
    let (format, weights, activations) = match scheme {
        Scheme::Q8 => (
            "int-quantized",
            arguments(8, "channel", None, false),
            arguments(8, "token", None, true),
        ),
        Scheme::Q4 { group } => {
            ("pack-quantized", arguments(4, "group", Some(group), false), Value::Null)
        }
    };
    // Module names differ between releases of transformers; these patterns match in all of them.
    let ignore: &[&str] = match (scope, scheme) {
        (Scope::Llm, _) => &["re:.*lm_head", "re:.*vision_tower.*", "re:.*multi_modal_projector.*"],
        (Scope::All, Scheme::Q4 { .. }) => &["re:.*vision_tower.*"],
        (Scope::All, Scheme::Q8) => &[],
    };
    json!({
        "quant_method": "compressed-tensors", "format": format, "quantization_status": "compressed",
        "global_compression_ratio": null, "kv_cache_scheme": null, "ignore": ignore,
        "config_groups": {
            "group_0": {
                "targets": ["Linear"], "weights": weights, "input_activations": activations,
                "output_activations": null
            }
        }
    })
}

/// The folder's other files with their sizes, without weights of any format, folders and hidden files.
fn others(dir: &Path) -> Result<Vec<(PathBuf, u64)>> {
    const WEIGHTS: [&str; 9] =
        ["safetensors", "bin", "pt", "pth", "ckpt", "h5", "msgpack", "onnx", "gguf"];
    let io = |e| Error::io(dir, e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_weights = WEIGHTS.iter().any(|ending| {
            let name = name.strip_suffix(".index.json").unwrap_or(&name);
            Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case(ending))
        });
        if name == "config.json" || name.starts_with('.') || is_weights {
            continue;
        }
        let metadata = std::fs::metadata(&path).map_err(|e| Error::io(&path, e))?;
        if metadata.is_file() {
            found.push((path, metadata.len()));
        }
    }
    found.sort();
    Ok(found)
}
