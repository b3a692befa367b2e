//! Reads the text of a prompt.

use super::Stop;
use super::values::PromptArg;
use std::fs::File;
use std::io::{self, ErrorKind, Read};

/// Far more than any model's context.
const LARGEST: u64 = 16 << 20;

/// The text; from a file or standard input without the final newline.
pub fn read(asked: &PromptArg) -> Result<String, Stop> {
    let (name, read) = match asked {
        PromptArg::Words(words) => return Ok(words.clone()),
        PromptArg::File(path) => (path.display().to_string(), File::open(path).and_then(limited)),
        PromptArg::Stdin => ("standard input".into(), limited(io::stdin().lock())),
    };
    let failed = |what: String| Err(Stop::Failed(format!("{name}: {what}")));
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return failed("no such file: name a file that holds the prompt, or begin it with @@ to ask about @".into());
        }
        Err(error) => return failed(error.to_string()),
    };
    if bytes.len() as u64 > LARGEST {
        return failed(format!(
            "larger than {} MiB, which is too long for a prompt",
            LARGEST >> 20
        ));
    }
    let Ok(mut words) = String::from_utf8(bytes) else {
        return failed("not UTF-8 text: save the prompt as UTF-8".into());
    };
    if words.ends_with('\n') {
        words.pop();
        if words.ends_with('\r') {
            words.pop();
        }
    }
    if words.is_empty() { failed("the prompt is empty: give some text".into()) } else { Ok(words) }
}

/// Reads one byte beyond the limit to detect longer inputs.
fn limited(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(LARGEST + 1).read_to_end(&mut bytes).map(|_| bytes)
}
