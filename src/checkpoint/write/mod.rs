//! Writes a checkpoint to a new folder, which is either complete or removed.

mod shards;

use std::path::{Path, PathBuf};

use serde_json::Value;

pub(crate) use shards::{Planned, SHARD, ShardPlan, Write, split, write_shards};

use crate::{Error, Result, files};

/// Suffix of a weight file's name until it is complete.
const UNFINISHED: &str = ".unfinished";

/// Creates the folder `dir`, which must be empty or not exist, checks that the disk has space for the shards and
/// `small` bytes of other files, and lets `fill` write them. If that fails, the written files are removed.
///
/// # Errors
/// [`Error::Request`] if `dir` is not empty, [`Error::Capacity`] if the disk has too little space, [`Error::Io`] if
/// writing fails, and the errors of `fill`.
pub(crate) fn new_folder(
    dir: &Path,
    shards: &[ShardPlan],
    small: u64,
    fill: &mut dyn FnMut(&mut Folder) -> Result<()>,
) -> Result<()> {
    let created = prepare(dir)?;
    let need = shards.iter().map(ShardPlan::file_bytes).sum::<u64>() + small + (1 << 20);
    let mut folder = Folder { dir, created, written: Vec::new() };
    let done = enough_space(dir, need).and_then(|()| fill(&mut folder));
    if done.is_err() {
        folder.remove();
    }
    done
}

/// Creates the folder unless it exists; returns true if it was created.
fn prepare(dir: &Path) -> Result<bool> {
    if !dir.exists() {
        std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        return Ok(true);
    }
    files::expect_folder(dir)?;
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))?;
    let names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    let unfinished = names.iter().find(|name| name.to_string_lossy().ends_with(UNFINISHED));
    match (names.first(), unfinished) {
        (None, _) => Ok(false),
        (_, Some(name)) => Err(Error::Request(format!(
            "{}: the folder contains an incomplete checkpoint ({}); remove the folder, or give a new one",
            dir.display(),
            name.to_string_lossy()
        ))),
        (Some(_), None) => Err(Error::Request(format!(
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

/// The folder under construction, with the files written so far.
pub(crate) struct Folder<'a> {
    dir: &'a Path,
    created: bool,
    written: Vec<PathBuf>,
}

impl Folder<'_> {
    /// Registers a path in the folder that is about to be written.
    fn path(&mut self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.dir.join(name);
        self.written.push(path.clone());
        path
    }

    /// Writes a small file.
    pub fn file(&mut self, name: impl AsRef<Path>, content: &[u8]) -> Result<()> {
        let path = self.path(name);
        std::fs::write(&path, content).map_err(|e| Error::io(&path, e))
    }

    /// Writes a small JSON file.
    pub fn json(&mut self, name: &str, value: &Value) -> Result<()> {
        self.file(name, pretty(value).as_bytes())
    }

    /// Removes everything that was written. What cannot be removed stays, because the first error is the one to
    /// report.
    fn remove(&self) {
        for path in &self.written {
            let _ = std::fs::remove_file(path);
        }
        if self.created {
            let _ = std::fs::remove_dir(self.dir);
        }
    }
}

/// Formats JSON like Hugging Face's tools.
pub(crate) fn pretty(value: &Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_off_is_told_apart_from_other_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("notes.txt"), "").unwrap();
        assert!(prepare(dir.path()).unwrap_err().to_string().contains("not empty"));
        std::fs::write(dir.path().join("model.safetensors.unfinished"), "").unwrap();
        let message = prepare(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains("incomplete checkpoint (model.safetensors.unfinished)"),
            "{message}"
        );
    }

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
        folder.file("a.json", b"{}").unwrap();
        // The second file cannot be created, because its path leads through the first file.
        folder.file("a.json/b.json", b"{}").unwrap_err();
        folder.remove();
        assert!(!path.exists());
    }
}
