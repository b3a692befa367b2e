//! Weights of a model folder: safetensors files that are memory-mapped and used in place, or read into memory.
//!
//! Each tensor has one canonical name, whichever of transformers' spellings a file uses:
//! `vision_tower.encoder.layers.{i}.…`, `multi_modal_projector.linear_1.weight`, `image_newline`,
//! `language_model.embed_tokens.weight`, `language_model.layers.{i}.…`, `lm_head.weight`.

mod header;
mod index;
mod integers;
mod layout;
mod names;
pub mod synth;
mod tensor;
pub(crate) mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use header::{Stored, parse_header};
pub use index::parse_index;
pub(crate) use layout::{POOLING_ATTENTION, POOLING_PROBE};
pub use layout::{Part, Weight, layout};
pub use names::canonical;
pub(crate) use names::published;
pub use tensor::{Access, Tensor};

use crate::config::{ModelConfig, ModelFolder, Tower};
use crate::error::excerpt;
use crate::format::Format;
use crate::quant::{Packing, Quantization};
use crate::{Error, Result, files};
use tensor::{Raw, Shard};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Opens the configuration and the weights of a model folder.
///
/// # Errors
/// As [`ModelFolder::open`] and [`Checkpoint::open`].
pub fn open(path: &Path) -> Result<(ModelFolder, Checkpoint)> {
    open_with(path, Access::default(), None)
}

/// As [`open`], with the weights mapped or read, and optionally quantized when they are loaded.
///
/// # Errors
/// As [`open`]; [`Error::Capacity`] if there is not enough memory to read them.
pub fn open_with(
    path: &Path,
    access: Access,
    quantization: Option<Quantization>,
) -> Result<(ModelFolder, Checkpoint)> {
    let mut folder = ModelFolder::open(path)?;
    let mut checkpoint = Checkpoint::open_with(&folder.dir, access)?;
    checkpoint.stored = folder.config.quantization;
    match (folder.config.quantization, quantization) {
        (Some(stored), Some(wish)) if !stored.made_by(wish.scheme) => {
            return Err(Error::Request(format!(
                "{}: its weights are stored as {stored}, they cannot be converted to {}: leave out the format, or use \
                 the folder that it was made from",
                folder.dir.display(),
                wish.scheme
            )));
        }
        (Some(_), _) => {}
        (None, wish) => checkpoint.quantization = wish,
    }
    // The setting in published files is unreliable, and merging an adapter changes the head but not the setting. Like
    // transformers, a stored head is used.
    if ["lm_head.weight", "lm_head.weight_packed"].iter().any(|name| checkpoint.contains(name)) {
        folder.config.text.tied = false;
    }
    let vision = &mut folder.config.vision;
    vision.pooling_head = vision.tower == Tower::Siglip && checkpoint.contains(POOLING_PROBE);
    // The LLaVA class of transformers since 4.52 has a head without a bias, whatever the decoder's own class has.
    folder.config.text.head_bias &= checkpoint.contains("lm_head.bias");
    folder.config.ignored.extend(checkpoint.unused_layers(&folder.config));
    Ok((folder, checkpoint))
}

/// The tensors of a model folder, by canonical name.
///
/// Opening only reads headers; weights are read from disk as they are used.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    shards: Vec<Arc<Shard>>,
    tensors: BTreeMap<String, Tensor>,
    /// Tensors that are not floating-point.
    others: BTreeMap<String, Raw>,
    /// The layout of integer weights.
    stored: Option<Packing>,
    /// The quantization that [`Checkpoint::get`] applies.
    quantization: Option<Quantization>,
}

impl Checkpoint {
    /// Maps `model.safetensors`, or otherwise the files listed in `model.safetensors.index.json`, in the folder
    /// `dir`. Unused tensors are allowed.
    ///
    /// While the checkpoint or one of its tensors is alive, the files must not be modified: truncating a mapped file
    /// ends the process (SIGBUS). Removing files, or renaming others to their names, is harmless.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Model`] if a file is missing, truncated or damaged, or the index and the files
    /// disagree.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, Access::default())
    }

    /// As [`Checkpoint::open`], with the files mapped or read.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; [`Error::Capacity`] if there is not enough memory to read them.
    pub fn open_with(dir: &Path, access: Access) -> Result<Self> {
        /// Limit on the index's size in bytes; real ones have a hundred kilobytes.
        const LARGEST_INDEX: u64 = 16 << 20;
        files::expect_folder(dir)?;
        let mut checkpoint = Self {
            dir: dir.to_owned(),
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            others: BTreeMap::new(),
            stored: None,
            quantization: None,
        };
        // As in transformers, an index next to a complete file is ignored.
        if let Some(shard) = Shard::open(dir.join(SINGLE), access)? {
            checkpoint.add(shard, |_| true)?;
            return Ok(checkpoint);
        }
        let path = dir.join(INDEX);
        let Some(bytes) = files::read(&path, LARGEST_INDEX)? else { return Err(no_weights(dir)) };
        let index = parse_index(&bytes, &path)?;
        checkpoint.add_shards(&path, &index, access)?;
        Ok(checkpoint)
    }

    fn add_shards(
        &mut self,
        path: &Path,
        index: &BTreeMap<String, String>,
        access: Access,
    ) -> Result<()> {
        let mut shards: BTreeMap<&str, usize> = BTreeMap::new();
        for file in index.values() {
            *shards.entry(file).or_default() += 1;
        }
        for (file, listed) in shards {
            let file_path = self.dir.join(file);
            let Some(shard) = Shard::open(file_path.clone(), access)? else {
                let what = format!("this file is missing, but {INDEX} lists it; download it");
                return Err(Error::model(file_path, what));
            };
            let mut found = 0;
            self.add(shard, |name| match index.get(name) {
                Some(holder) if holder == file => {
                    found += 1;
                    true
                }
                // The index means the copy in another shard; tensors that it does not list are accepted.
                Some(_) => false,
                None => true,
            })?;
            if found < listed {
                let what = format!(
                    "lists {listed} tensors in {file}, which holds {found} of them; \
                     download both again"
                );
                return Err(Error::model(path, what));
            }
        }
        Ok(())
    }

    fn add(&mut self, shard: Shard, mut wanted: impl FnMut(&str) -> bool) -> Result<()> {
        let stored = parse_header(shard.bytes(), shard.path())?;
        let shard = Arc::new(shard);
        self.shards.push(shard.clone());
        for Stored { name: stored_name, format, shape, range } in stored {
            if !wanted(&stored_name) {
                continue;
            }
            let name = canonical(&stored_name);
            if self.contains(&name) {
                let [stored, name] = [stored_name, name].map(|name| excerpt(name, 200));
                let what = format!("holds \"{stored}\", a second tensor for {name}; remove one");
                return Err(Error::model(shard.path(), what));
            }
            match format {
                Ok(format) => {
                    let tensor = Tensor::new(name.clone(), format, shape, range, shard.clone());
                    self.tensors.insert(name, tensor);
                }
                Err(dtype) => {
                    let raw = Raw { name: name.clone(), dtype, shape, range, shard: shard.clone() };
                    self.others.insert(name, raw);
                }
            }
        }
        Ok(())
    }

    /// The tensor with this canonical name. This is cheap, because the bytes are not copied.
    ///
    /// # Errors
    /// [`Error::Model`] if there is none or it is neither f16, bf16 nor f32; [`Error::Request`] if it cannot be
    /// quantized as requested.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        if let Some(tensor) = self.tensors.get(name) {
            return match self.quantization.and_then(|quantization| quantization.of(name)) {
                Some(scheme) => tensor.clone().quantized(scheme),
                None => Ok(tensor.clone()),
            };
        }
        if let Some(stored) = self.stored
            && let Some(tensor) = integers::find(name, stored, &self.tensors, &self.others)?
        {
            return Ok(tensor);
        }
        let what = match self.others.get(name) {
            Some(Raw { dtype, .. }) => format!(
                "tensor {name} is stored as {dtype}, and config.json has no quantization_config that says how: \
                 use a checkpoint in F16, BF16 or F32, or both files from the same checkpoint"
            ),
            None if self.is_quantized(name) => format!(
                "tensor {name} is stored as integers under other names, and config.json does not say how in \
                 quantization_config: take all files from the same folder; supported are the formats of \
                 compressed-tensors and AutoAWQ"
            ),
            None => match self.wrapper_of(name) {
                Some(prefix) => format!(
                    "the tensors' names begin with the prefix \"{prefix}\", which the wrapper of a trainer adds \
                     (base_model.model. is PEFT's, module. PyTorch's DataParallel's): save the model without it \
                     (PEFT: merge_and_unload, then save_pretrained)"
                ),
                None => format!(
                    "tensor {name} is in none of the *.safetensors files; \
                     the checkpoint is incomplete, download it again"
                ),
            },
        };
        Err(Error::model(&self.dir, what))
    }

    /// Returns true if there are integer codes for this weight.
    fn is_quantized(&self, name: &str) -> bool {
        let layer = name.strip_suffix(".weight").unwrap_or(name);
        ["weight_packed", "qweight"]
            .iter()
            .any(|ending| self.others.contains_key(&format!("{layer}.{ending}")))
    }

    /// The prefix before the name of this tensor, if it exists under a longer name.
    fn wrapper_of(&self, name: &str) -> Option<String> {
        let stored = self.tensors.keys().chain(self.others.keys());
        stored.into_iter().find_map(|stored| {
            let dots = stored.match_indices('.').map(|(at, _)| at + 1);
            let at = dots.into_iter().find(|&at| canonical(&stored[at..]) == name)?;
            Some(excerpt(&stored[..at], 100))
        })
    }

    /// Returns true if the files contain a tensor with this canonical name, of any type.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name) || self.others.contains_key(name)
    }

    /// Fails if a mapped file was modified since it was opened, because answers could then be wrong.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file.
    pub fn check_unchanged(&self) -> Result<()> {
        self.shards.iter().try_for_each(|shard| shard.check_unchanged())
    }

    /// Notes about layers in the files that the configuration leaves out.
    fn unused_layers(&self, config: &ModelConfig) -> Vec<String> {
        let parts = [
            ("vision_tower.encoder.layers.", "vision_config", config.vision.layers),
            ("language_model.layers.", "text_config", config.text.layers),
        ];
        let stored = |prefix: &str| {
            let names = self.tensors.keys().chain(self.others.keys());
            let numbers =
                names.filter_map(|name| name.strip_prefix(prefix)?.split('.').next()?.parse().ok());
            numbers.max().map_or(0, |last: usize| last.saturating_add(1))
        };
        let unused = parts.into_iter().filter_map(|(prefix, section, layers)| {
            let stored = stored(prefix);
            (stored > layers).then(|| {
                format!(
                    "the weights have {stored} layers under {prefix}, but {section} of config.json uses {layers} of them \
                     (num_hidden_layers): unless that is meant, take both files from one model"
                )
            })
        });
        unused.collect()
    }

    /// All tensors of a supported type, used or not, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.values()
    }

    /// Integer weights: their format, number of weights, and bytes without scales and zero points.
    pub fn integer_weights(&self) -> impl Iterator<Item = (Format, u64, u64)> + '_ {
        let codes = self.others.values().filter_map(|raw| {
            let stored = self.stored?;
            Some((stored, integers::numbers(stored, raw)?, raw.range.len() as u64))
        });
        // The group size does not matter here.
        codes.filter_map(|(stored, numbers, bytes)| {
            Some((stored.format("", 128).ok()?, numbers, bytes))
        })
    }

    /// Returns true if a floating-point tensor holds the scales of integer weights.
    pub fn is_scale(&self, tensor: &Tensor) -> bool {
        self.stored.is_some_and(|stored| integers::is_scale(stored, &tensor.name))
    }

    /// Fails unless all required weights of `config` exist with the right shapes.
    pub fn verify(&self, config: &ModelConfig) -> Result<()> {
        for weight in layout(config).into_iter().filter(|weight| !weight.optional) {
            self.get(&weight.name)?.expect_shape(&weight.shape)?;
        }
        Ok(())
    }
}

fn no_weights(dir: &Path) -> Error {
    let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
    if let Some(shard) = shard(dir) {
        let what = format!(
            "{INDEX} is missing: it maps tensors to shards such as {shard}; \
             download it from the same place"
        );
        return Error::model(dir, what);
    }
    let what = match pickled.into_iter().find(|name| dir.join(name).exists()) {
        Some(name) => format!(
            "the weights are in {name}, which is not supported; convert them to safetensors by loading \
             and saving the model with transformers"
        ),
        None => {
            format!("there is neither {SINGLE} nor {INDEX} in this folder; download the weights")
        }
    };
    Error::model(dir, what)
}

/// A file of the folder whose name is that of a shard.
fn shard(dir: &Path) -> Option<String> {
    let names =
        std::fs::read_dir(dir).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_shard = |name: &String| name.starts_with("model-") && name.ends_with(".safetensors");
    names.filter(is_shard).min()
}
