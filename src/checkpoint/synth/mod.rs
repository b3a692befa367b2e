//! Checkpoints with random weights and the architecture, files and tensor names of published ones:
//! for demonstrations, benchmarks and tests where the real weights are not at hand.

mod preset;
mod shards;
mod weights;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use preset::Preset;
pub use weights::Recipe;

use super::layout;
use crate::{Error, Result, files};

/// Shards of published checkpoints have at most this many bytes of tensors.
const SHARD: u64 = 5_000_000_000;

/// Writes a checkpoint of `preset` into the folder `dir`, which must be empty or not there yet.
///
/// Weights are f16 and depend on `preset` and `seed` alone. `tokenizer` is the content of
/// `tokenizer.json`; it must have [`Preset::image_token`] and fit [`Preset::vocab`]. `progress` is
/// told how many bytes of the weights are written, and how many there will be, and may stop it.
///
/// # Errors
/// [`Error::Request`] if `dir` holds files, [`Error::Capacity`] if the disk has too little space,
/// [`Error::Io`] if writing fails, [`Error::Cancelled`] if `progress` stops it; what has been written is
/// then removed.
pub fn write(
    preset: Preset,
    dir: &Path,
    seed: u64,
    tokenizer: &str,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<()> {
    let config = preset.config()?;
    let mut weights = layout(&config);
    // Files of published checkpoints are in this order too, which decides where shards end.
    for weight in &mut weights {
        weight.name = super::names::published(&weight.name);
    }
    let plan = shards::split(weights, SHARD);
    let texts = preset.files();

    let created = prepare(dir)?;
    let small: u64 = texts.iter().map(|(_, text)| text.len() as u64).sum();
    let need = plan.iter().map(|shard| shard.file_bytes()).sum::<u64>()
        + small
        + tokenizer.len() as u64
        + (1 << 20);
    let mut folder = Folder { dir, created, written: Vec::new() };
    let done = (|| {
        enough_space(dir, need)?;
        for (name, text) in &texts {
            folder.text(name, text)?;
        }
        folder.text("tokenizer.json", tokenizer)?;
        shards::write(&mut folder, &plan, seed, progress)
    })();
    if done.is_err() {
        folder.remove();
    }
    done
}

/// The weights that [`write()`] would put into a folder, without the folder.
#[derive(Debug, Clone, Copy)]
pub struct Synthetic {
    /// The architecture.
    pub preset: Preset,
    /// Same preset and seed, same weights.
    pub seed: u64,
}

impl Synthetic {
    /// How the weight of this canonical name is made.
    pub fn recipe(&self, name: &str, shape: &[usize]) -> Recipe {
        // By the name that the file would have it under.
        let recipe = Recipe::new(&super::names::published(name), shape, self.seed);
        Recipe { name: name.to_owned(), ..recipe }
    }
}

/// Makes the folder if it is not there; whether it was made.
fn prepare(dir: &Path) -> Result<bool> {
    if !dir.exists() {
        std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        return Ok(true);
    }
    files::expect_folder(dir)?;
    let mut entries = std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))?;
    match entries.next() {
        None => Ok(false),
        Some(_) => Err(Error::Request(format!(
            "{}: the folder is not empty; give a new one for the checkpoint",
            dir.display()
        ))),
    }
}

fn enough_space(dir: &Path, need: u64) -> Result<()> {
    let free = fs4::available_space(dir).map_err(|e| Error::io(dir, e))?;
    if free >= need {
        return Ok(());
    }
    let gb = |bytes: u64| bytes as f64 / 1e9;
    Err(Error::Capacity(format!(
        "{}: the checkpoint takes {:.2} GB, the disk has {:.2} GB free; give a folder on another disk",
        dir.display(),
        gb(need),
        gb(free)
    )))
}

/// The folder under construction and what is in it so far.
struct Folder<'a> {
    dir: &'a Path,
    created: bool,
    written: Vec<PathBuf>,
}

impl Folder<'_> {
    /// A path in the folder, which is going to be written.
    fn path(&mut self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        self.written.push(path.clone());
        path
    }

    fn text(&mut self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        std::fs::write(&path, text).map_err(|e| Error::io(&path, e))
    }

    fn json(&mut self, name: &str, value: &Value) -> Result<()> {
        self.text(name, &pretty(value))
    }

    /// Takes everything back. What cannot be removed stays: the first failure is the one to report.
    fn remove(&self) {
        for path in &self.written {
            let _ = std::fs::remove_file(path);
        }
        if self.created {
            let _ = std::fs::remove_dir(self.dir);
        }
    }
}

/// JSON as Hugging Face's tools print it.
fn pretty(value: &Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disk_is_an_error_with_both_numbers() {
        let dir = tempfile::tempdir().unwrap();
        enough_space(dir.path(), 1).unwrap();
        let message = enough_space(dir.path(), u64::MAX).unwrap_err().to_string();
        assert!(message.contains("takes 18446744073.71 GB, the disk has"), "{message}");
    }

    #[test]
    fn failure_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        let created = prepare(&path).unwrap();
        let mut folder = Folder { dir: &path, created, written: Vec::new() };
        folder.text("a.json", "{}").unwrap();
        // The second file cannot be made: its name leads through the first.
        folder.text("a.json/b.json", "{}").unwrap_err();
        folder.remove();
        assert!(!path.exists());
    }
}
