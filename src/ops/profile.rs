//! What an executor did, piece by piece: for tables of kernels and for timelines.

use super::clock::Stage;
use super::cost::Cost;
use std::borrow::Cow;
use std::time::Duration;

/// One piece of work: a kernel or a copy on a card, an operation on the CPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The kernel's name, or the operation's.
    pub name: Cow<'static, str>,
    /// Where in a request it belongs.
    pub stage: Stage,
    /// Block of the stage's model, if it is part of one.
    pub layer: Option<usize>,
    /// What it costs at least.
    pub cost: Cost,
    /// When it began, from the start of the profile: by the device's clock on a card.
    pub begin: Duration,
    /// How long it took, by the same clock.
    pub took: Duration,
}

impl Entry {
    /// Whether it moves bytes and is no kernel or operation.
    pub fn is_copy(&self) -> bool {
        COPIES.contains(&&*self.name)
    }
}

/// Names of what a card's copy engines do.
pub const UPLOAD: &str = "copy to the device";
/// The way back.
pub const DOWNLOAD: &str = "copy from the device";
/// Bytes set to zero.
pub const CLEAR: &str = "clear";

const COPIES: [&str; 3] = [UPLOAD, DOWNLOAD, CLEAR];
