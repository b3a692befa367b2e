//! Prompts, token ids and text: chat template → tokenizer → (model) → incremental detokenisation.

mod jinja;
mod source;
mod special;
mod stream;
pub mod synth;
mod template;
mod tokenizer;

pub use special::SpecialTokens;
pub use stream::Detokenizer;
pub use template::ChatTemplate;
pub use tokenizer::Tokenizer;

use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// Reads a UTF-8 text file of at most `limit` bytes; `None` if there is no such file.
fn read_text(path: &Path, limit: u64) -> Result<Option<String>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, e)),
    };
    let mut bytes = Vec::new();
    // One byte more than allowed is asked for, so that a file that is too long is noticed and not cut.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > limit {
        let what = format!("is larger than {} MiB; is this the right file?", limit >> 20);
        return Err(Error::model(path, what));
    }
    String::from_utf8(bytes).map(Some).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::model(path, format!("is not UTF-8 text (byte {at}); download it again"))
    })
}

/// Reads a JSON file that may be absent.
fn read_json(path: &Path, limit: u64) -> Result<Option<serde_json::Value>> {
    let Some(text) = read_text(path, limit)? else { return Ok(None) };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| Error::model(path, format!("is not valid JSON ({e}); download it again")))
}
