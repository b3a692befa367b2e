//! Distributes weights over files and writes the files.

use std::fs::File;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::{Map, Value, json};

use super::super::header::{LENGTH, unwritable};
use super::super::{INDEX, SINGLE};
use super::{Folder, UNFINISHED};
use crate::{Error, Result};

/// Largest number of tensor bytes per shard, as in published checkpoints.
pub(crate) const SHARD: u64 = 5_000_000_000;

/// A tensor to be written.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    /// The name in the file.
    pub name: String,
    /// Type of the elements.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl Planned {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> u64 {
        (self.elements() * self.dtype.bitsize() / 8) as u64
    }
}

/// The tensors of one file, in order.
#[derive(Debug)]
pub(crate) struct ShardPlan {
    weights: Vec<Planned>,
}

/// Writes the next bytes of a tensor.
pub(crate) type Write<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

impl ShardPlan {
    fn data_bytes(&self) -> u64 {
        self.weights.iter().map(Planned::bytes).sum()
    }

    /// Upper bound on the size of the file.
    pub fn file_bytes(&self) -> u64 {
        self.data_bytes() + 256 * self.weights.len() as u64
    }

    /// Length and text of the header, padded so that the data is aligned.
    fn header(&self, path: &Path) -> Result<Vec<u8>> {
        let mut start = 0;
        let tensors = self.weights.iter().map(|weight| {
            let data_offsets = (start, start + weight.bytes() as usize);
            start = data_offsets.1;
            let info =
                TensorInfo { dtype: weight.dtype, shape: weight.shape.clone(), data_offsets };
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

/// Fills one shard after another, each up to `limit` bytes unless a single weight is larger.
pub(crate) fn split(weights: impl IntoIterator<Item = Planned>, limit: u64) -> Vec<ShardPlan> {
    let mut shards: Vec<ShardPlan> = Vec::new();
    for weight in weights {
        match shards.last_mut() {
            Some(last) if last.data_bytes() + weight.bytes() <= limit => last.weights.push(weight),
            _ => shards.push(ShardPlan { weights: vec![weight] }),
        }
    }
    shards
}

/// Writes the shards, then the index, without which a folder is incomplete. `make` writes the bytes of a tensor,
/// little-endian; `progress` is called with the bytes written so far and in total, and can stop the work.
pub(crate) fn write_shards(
    folder: &mut Folder,
    shards: &[ShardPlan],
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    make: &mut dyn FnMut(&Planned, &mut Write<'_>) -> Result<()>,
) -> Result<()> {
    let total = shards.iter().map(ShardPlan::data_bytes).sum();
    let mut done = 0;
    let mut map = Map::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => SINGLE.to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
        };
        // The temporary name is not recognised as weights by any reader.
        let unfinished = folder.path(format!("{name}{UNFINISHED}"));
        let io = |e| Error::io(&unfinished, e);
        let mut file = File::create(&unfinished).map_err(io)?;
        file.write_all(&shard.header(&unfinished)?).map_err(io)?;
        for weight in &shard.weights {
            let end = done + weight.bytes();
            make(weight, &mut |bytes| {
                file.write_all(bytes).map_err(io)?;
                done += bytes.len() as u64;
                match progress(done, total) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => Err(Error::Cancelled),
                }
            })?;
            debug_assert_eq!(done, end, "{} is not as long as its shape says", weight.name);
            map.insert(weight.name.clone(), Value::from(name.as_str()));
        }
        drop(file);
        let finished = folder.path(&name);
        std::fs::rename(&unfinished, &finished).map_err(|e| Error::io(&finished, e))?;
    }
    if shards.len() == 1 {
        return Ok(());
    }
    folder.json(INDEX, &json!({ "metadata": { "total_size": total }, "weight_map": map }))
}
