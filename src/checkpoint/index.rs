//! `model.safetensors.index.json`: maps tensors to shards.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result, excerpt};

/// Limit on the number of mapped files; a hundred gigabytes make twenty.
const MAX_SHARDS: usize = 1000;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The shard's file name for each stored tensor name, from the bytes of an index. The names are plain file names, so
/// none leaves the model's folder. `path` is only used in messages.
///
/// # Errors
/// [`Error::Model`] if the bytes are not an index, or it refers to something other than a file of the folder.
pub fn parse_index(bytes: &[u8], path: &Path) -> Result<BTreeMap<String, String>> {
    let index: Index = serde_json::from_slice(bytes).map_err(|e| {
        let what = format!("not a valid index ({}); download it again", excerpt(e, 200));
        Error::model(path, what)
    })?;
    let map = index.weight_map;
    if let Some(file) = map.values().find(|file| !is_plain(file)) {
        let what = format!(
            "lists a shard \"{}\"; shards must be *.safetensors files of the same folder",
            excerpt(file, 200)
        );
        return Err(Error::model(path, what));
    }
    if map.is_empty() {
        return Err(Error::model(path, "its weight_map is empty; download it again"));
    }
    let mut files: Vec<_> = map.values().collect();
    files.sort_unstable();
    files.dedup();
    if files.len() > MAX_SHARDS {
        let what = format!("lists {} shards; at most {MAX_SHARDS} are opened", files.len());
        return Err(Error::model(path, what));
    }
    Ok(map)
}

/// Returns true if this is a plain file name on any system.
fn is_plain(file: &str) -> bool {
    let separates = |c: char| matches!(c, '/' | '\\' | ':') || c.is_control();
    file.ends_with(".safetensors") && !file.starts_with('.') && !file.contains(separates)
}
