//! The error type of the library.
//!
//! Every message is a single line that names the file or value at fault and says what to do.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Result with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The errors of this library, grouped by who can fix them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file of the model folder is damaged, incomplete or describes a model this engine does not run.
    #[error("{}: {what}", path.display())]
    Model {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it and what to do.
        what: String,
    },
    /// An image cannot be read or has a shape the model cannot take.
    #[error("{name}: {what}")]
    Image {
        /// File name, or a description of where the pixels came from.
        name: String,
        /// What is wrong with it and what to do.
        what: String,
    },
    /// The request asks for something that this model or engine does not support.
    #[error("{0}")]
    Request(String),
    /// The request does not fit into the memory of the device.
    #[error("{0}")]
    Capacity(String),
    /// Prompt and answer together are longer than the model's context.
    #[error(
        "the prompt has {prompt} tokens and up to {new} new ones are asked for, the model has {limit} positions: use a \
         smaller budget or fewer new tokens"
    )]
    Context {
        /// Prompt tokens, image tokens included.
        prompt: usize,
        /// The requested number of new tokens.
        new: usize,
        /// The model's number of positions.
        limit: usize,
    },
    /// The request would fit, but other requests or programs hold the memory at the moment: it can be retried.
    #[error("{0}")]
    Busy(String),
    /// The requested device is missing or has failed.
    #[error("{0}")]
    Device(String),
    /// The computation produced numbers that are not finite.
    #[error("{0}")]
    Numeric(String),
    /// The caller's callback stopped the work before there was a result.
    #[error("stopped before there was a result")]
    Cancelled,
}

impl Error {
    /// A copy of this error, for another request that fails for the same reason.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Model { path, what } => Self::Model { path: path.clone(), what: what.clone() },
            Self::Image { name, what } => Self::Image { name: name.clone(), what: what.clone() },
            Self::Request(what) => Self::Request(what.clone()),
            Self::Capacity(what) => Self::Capacity(what.clone()),
            &Self::Context { prompt, new, limit } => Self::Context { prompt, new, limit },
            Self::Busy(what) => Self::Busy(what.clone()),
            Self::Device(what) => Self::Device(what.clone()),
            Self::Numeric(what) => Self::Numeric(what.clone()),
            Self::Cancelled => Self::Cancelled,
            Self::Io { path, source } => {
                let source = std::io::Error::new(source.kind(), source.to_string());
                Self::Io { path: path.clone(), source }
            }
        }
    }

    pub(crate) fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source }
    }

    pub(crate) fn model(path: impl AsRef<Path>, what: impl Into<String>) -> Self {
        Self::Model { path: path.as_ref().to_owned(), what: what.into() }
    }

    pub(crate) fn image(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Image { name: name.into(), what: what.into() }
    }
}

/// The longest part of an option's value that a message quotes, in characters.
pub(crate) const QUOTED: usize = 40;

/// The text of a file, of an option or a dependency's message, made safe to put into an error message: control characters (C0, C1
/// and DEL) become spaces, and everything after `longest` characters is cut.
pub(crate) fn excerpt(text: impl Display, longest: usize) -> String {
    let text = text.to_string();
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(longest).map(printable).collect();
    if text.chars().nth(longest).is_some() {
        short.push('…');
    }
    short
}
