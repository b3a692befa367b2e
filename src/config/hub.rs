//! Folders as the cache of the Hugging Face hub lays them out: `models--NAME/{refs/main, snapshots/REVISION/…}`.

use std::fs;
use std::path::{Path, PathBuf};

use super::model::CONFIG;
use crate::{Error, Result};

/// The folder of a model's files: `path` itself, or, for a model's folder in the hub's cache, the snapshot that `main`
/// names, or else the only one.
///
/// # Errors
/// [`Error::Model`]: such a folder has several snapshots, or none.
pub(super) fn snapshot(path: &Path) -> Result<PathBuf> {
    let snapshots = path.join("snapshots");
    if path.join(CONFIG).exists() || !snapshots.is_dir() {
        return Ok(path.to_owned());
    }
    if let Ok(revision) = fs::read_to_string(path.join("refs/main")) {
        let revision = revision.trim();
        let is_name = !revision.is_empty() && revision.chars().all(|c| c.is_ascii_alphanumeric());
        if is_name && snapshots.join(revision).is_dir() {
            return Ok(snapshots.join(revision));
        }
    }
    let all: Vec<PathBuf> = fs::read_dir(&snapshots)
        .map_err(|e| Error::io(&snapshots, e))?
        .filter_map(|entry| Some(entry.ok()?.path()).filter(|path| path.is_dir()))
        .collect();
    match all.as_slice() {
        [one] => Ok(one.clone()),
        several => {
            let what = format!(
                "this folder of the Hugging Face cache has {} snapshots, and refs/main names none of them: give one \
                 of its folders snapshots/…, or download the model again",
                several.len()
            );
            Err(Error::model(path, what))
        }
    }
}
