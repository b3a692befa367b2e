//! Reads the small files of a model folder.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::{Error, Result};

/// Opens a regular file; `None` if it does not exist.
///
/// Devices and pipes are refused before they are opened, because opening a pipe would block.
pub(crate) fn open(path: &Path) -> Result<Option<File>> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        // A path below something that is not a folder does not exist either.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(Error::io(path, e)),
    };
    if !metadata.is_file() {
        return Err(Error::model(path, "this is not a regular file; put the model's file here"));
    }
    File::open(path).map(Some).map_err(|e| Error::io(path, e))
}

/// Reads a file of at most `limit` bytes; `None` if it does not exist.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    // Reading one byte beyond the limit distinguishes a file of exactly that size from a longer one.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > limit {
        let what = format!(
            "the file is larger than {} MiB, so it is not what its name says; download it again",
            limit >> 20
        );
        return Err(Error::model(path, what));
    }
    Ok(Some(bytes))
}

/// Fails unless `dir` is a folder.
pub(crate) fn expect_folder(dir: &Path) -> Result<()> {
    match std::fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Error::model(
            dir,
            "this is a file; give the folder that holds config.json and *.safetensors",
        )),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(Error::model(
            dir,
            "no such folder; give a Hugging Face model folder with config.json and *.safetensors",
        )),
        Err(e) => Err(Error::io(dir, e)),
    }
}
