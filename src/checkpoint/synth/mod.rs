//! Checkpoints with random weights and the architecture, files and tensor names of published ones:
//! for demonstrations, benchmarks and tests where the real weights are not at hand.

mod files;
mod internvl;
mod preset;
mod weights;

use std::ops::ControlFlow;
use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::Dtype;

pub use preset::Preset;
pub use weights::Recipe;

use super::layout;
use super::write::{Folder, Planned, SHARD, new_folder, split, write_shards};
use crate::Result;
use crate::quant::Quantization;

/// Elements made before they are written: a few megabytes, a multiple of four.
const BUFFER: usize = 4 << 20;

/// Writes a checkpoint of `preset` into the folder `dir`, which must be empty or not there yet.
///
/// Weights are f16 and depend on `preset` and `seed` alone. `tokenizer` is the content of
/// `tokenizer.json`; it must have [`Preset::image_token`] and fit [`Preset::vocab`]. `progress` is
/// told how many bytes of the weights are written, and how many there will be, and may stop it.
///
/// # Errors
/// [`crate::Error::Request`] if `dir` holds files, [`crate::Error::Capacity`] if the disk has too little space,
/// [`crate::Error::Io`] if writing fails, [`crate::Error::Cancelled`] if `progress` stops it; what has been written is
/// then removed.
pub fn write(
    preset: Preset,
    dir: &Path,
    seed: u64,
    tokenizer: &str,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<()> {
    let config = preset.config()?;
    // Files of published checkpoints are in this order too, which decides where shards end.
    let weights = layout(&config).into_iter().map(|weight| Planned {
        name: super::names::published(&weight.name, config.vision.tower),
        dtype: Dtype::F16,
        shape: weight.shape,
    });
    let shards = split(weights, SHARD);
    let mut texts = preset.files();
    texts.push(("tokenizer.json", tokenizer.to_owned()));
    let small = texts.iter().map(|(_, text)| text.len() as u64).sum();
    new_folder(dir, &shards, small, &mut |folder: &mut Folder| {
        for (name, text) in &texts {
            folder.file(name, text.as_bytes())?;
        }
        let mut buffer = vec![f16::ZERO; BUFFER];
        write_shards(folder, &shards, progress, &mut |weight, write| {
            let recipe = Recipe::new(&weight.name, &weight.shape, seed);
            let elements = weight.elements();
            for first in (0..elements).step_by(BUFFER) {
                let part = &mut buffer[..BUFFER.min(elements - first)];
                recipe.fill(first as u64, part);
                write(little_endian(part))?;
            }
            Ok(())
        })
    })
}

fn little_endian(values: &mut [f16]) -> &[u8] {
    let bits: &mut [u16] = values.reinterpret_cast_mut();
    if cfg!(target_endian = "big") {
        bits.iter_mut().for_each(|x| *x = x.to_le());
    }
    bytemuck::cast_slice(bits)
}

/// The weights that [`write()`] would put into a folder, without the folder.
#[derive(Debug, Clone, Copy)]
pub struct Synthetic {
    /// The architecture.
    pub preset: Preset,
    /// Same preset and seed, same weights.
    pub seed: u64,
    /// Which of them become integers.
    pub quantization: Option<Quantization>,
}

impl Synthetic {
    /// How the weight of this canonical name is made.
    pub fn recipe(&self, name: &str, shape: &[usize]) -> Recipe {
        // By the name that the file would have it under.
        let recipe =
            Recipe::new(&super::names::published(name, self.preset.tower()), shape, self.seed);
        let scheme = self.quantization.and_then(|quantization| quantization.of(name));
        Recipe { name: name.to_owned(), scheme, ..recipe }
    }
}
