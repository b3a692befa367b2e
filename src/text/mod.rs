//! Text processing: chat template → tokenizer → (model) → incremental detokenization.

mod jinja;
mod measured;
mod parts;
mod source;
mod special;
mod stream;
pub mod synth;
mod template;
mod tokenizer;
mod weight;

pub use special::SpecialTokens;
pub use stream::Detokenizer;
pub use template::{ChatTemplate, Piece, Turn};
pub use tokenizer::Tokenizer;

use std::path::Path;

use crate::{Error, Result, files};

/// Reads a UTF-8 text file of at most `limit` bytes; `None` if it does not exist.
fn read_text(path: &Path, limit: u64) -> Result<Option<String>> {
    let Some(bytes) = files::read(path, limit)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::model(path, format!("is not UTF-8 text (byte {at}); download it again"))
    })
}

/// Reads a JSON file, which may be absent.
fn read_json(path: &Path, limit: u64) -> Result<Option<serde_json::Value>> {
    let Some(text) = read_text(path, limit)? else { return Ok(None) };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| Error::model(path, format!("is not valid JSON ({e}); download it again")))
}
