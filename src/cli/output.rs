//! Standard output.

use super::Stop;
use serde::Serialize;
use std::io::{self, Write};

/// Prints a result as it is.
pub fn print(text: &str) -> Result<(), Stop> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| Stop::stdout(&e))
}

/// Prints a result as JSON on one line.
pub fn print_json(value: &impl Serialize) -> Result<(), Stop> {
    match serde_json::to_string(value) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => Err(Stop::Failed(format!("cannot write the result as JSON: {error}"))),
    }
}
