//! Which weights go into which file, and writing the files.

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::{Map, Value, json};

use super::super::header::{LENGTH, unwritable};
use super::super::{INDEX, SINGLE, Weight};
use super::Folder;
use super::weights::Recipe;
use crate::{Error, Result};

/// Elements made before they are written: a few megabytes, a multiple of four.
const BUFFER: usize = 4 << 20;

/// The weights of one file, in order.
pub(super) struct ShardPlan {
    weights: Vec<Weight>,
}

impl ShardPlan {
    fn data_bytes(&self) -> u64 {
        self.weights.iter().map(bytes).sum()
    }

    /// Size of the file, its header taken somewhat too large.
    pub fn file_bytes(&self) -> u64 {
        self.data_bytes() + 256 * self.weights.len() as u64
    }

    /// Length and text of the header, padded so that the data starts aligned.
    fn header(&self, path: &Path) -> Result<Vec<u8>> {
        let mut start = 0;
        let tensors = self.weights.iter().map(|weight| {
            let data_offsets = (start, start + bytes(weight) as usize);
            start = data_offsets.1;
            let info = TensorInfo { dtype: Dtype::F16, shape: weight.shape.clone(), data_offsets };
            (weight.name.clone(), info)
        });
        let format = [("format".to_owned(), "pt".to_owned())].into();
        let metadata =
            Metadata::new(Some(format), tensors.collect()).map_err(|e| unwritable(path, e))?;
        let mut text = serde_json::to_vec(&metadata).map_err(|e| unwritable(path, e.into()))?;
        text.resize(text.len().next_multiple_of(LENGTH), b' ');
        Ok([&(text.len() as u64).to_le_bytes()[..], &text].concat())
    }
}

fn bytes(weight: &Weight) -> u64 {
    (weight.elements() * size_of::<f16>()) as u64
}

/// Fills one shard after another, none beyond `limit` bytes unless a single weight is larger.
pub(super) fn split(weights: Vec<Weight>, limit: u64) -> Vec<ShardPlan> {
    let mut shards: Vec<ShardPlan> = Vec::new();
    for weight in weights {
        match shards.last_mut() {
            Some(last) if last.data_bytes() + bytes(&weight) <= limit => last.weights.push(weight),
            _ => shards.push(ShardPlan { weights: vec![weight] }),
        }
    }
    shards
}

/// Writes the shards, then the index: a folder without it is not finished.
pub(super) fn write(
    folder: &mut Folder,
    shards: &[ShardPlan],
    seed: u64,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<()> {
    let total = shards.iter().map(ShardPlan::data_bytes).sum();
    let mut done = 0;
    let mut map = Map::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => SINGLE.to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
        };
        write_shard(folder, &name, shard, seed, &mut |bytes| {
            done += bytes;
            match progress(done, total) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Error::Cancelled),
            }
        })?;
        for weight in &shard.weights {
            map.insert(weight.name.clone(), Value::from(name.as_str()));
        }
    }
    if shards.len() == 1 {
        return Ok(());
    }
    folder.json(INDEX, &json!({ "metadata": { "total_size": total }, "weight_map": map }))
}

/// Writes one file under a name that no reader takes for weights, then gives it its own.
fn write_shard(
    folder: &mut Folder,
    name: &str,
    shard: &ShardPlan,
    seed: u64,
    wrote: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let unfinished = folder.path(&format!("{name}.unfinished"));
    let io = |e| Error::io(&unfinished, e);
    let mut file = File::create(&unfinished).map_err(io)?;
    file.write_all(&shard.header(&unfinished)?).map_err(io)?;
    let mut buffer = vec![f16::ZERO; BUFFER];
    for weight in &shard.weights {
        let recipe = Recipe::new(&weight.name, &weight.shape, seed);
        let elements = weight.elements();
        for first in (0..elements).step_by(BUFFER) {
            let part = &mut buffer[..BUFFER.min(elements - first)];
            recipe.fill(first as u64, part);
            file.write_all(little_endian(part)).map_err(io)?;
            wrote(2 * part.len() as u64)?;
        }
    }
    drop(file);
    let finished = folder.path(name);
    std::fs::rename(&unfinished, &finished).map_err(|e| Error::io(&finished, e))
}

fn little_endian(values: &mut [f16]) -> &[u8] {
    let bits: &mut [u16] = values.reinterpret_cast_mut();
    if cfg!(target_endian = "big") {
        bits.iter_mut().for_each(|x| *x = x.to_le());
    }
    bytemuck::cast_slice(bits)
}
