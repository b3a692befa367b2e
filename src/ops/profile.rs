//! Profiles: what an executor ran, one entry for each kernel, copy or operation.

use super::clock::Stage;
use super::cost::Cost;
use std::borrow::Cow;
use std::time::Duration;

/// A recorded kernel or copy on a GPU, or an operation on the CPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Name of the kernel or operation.
    pub name: Cow<'static, str>,
    /// The stage that it belongs to.
    pub stage: Stage,
    /// The layer that it belongs to, if any.
    pub layer: Option<usize>,
    /// Lower bound of its work.
    pub cost: Cost,
    /// When it began, from the start of the profile; on a GPU by the device's clock.
    pub begin: Duration,
    /// How long it took, by the same clock.
    pub took: Duration,
}

impl Entry {
    /// Whether it is a copy or clearing of memory, not a kernel or operation.
    pub fn is_copy(&self) -> bool {
        COPIES.contains(&&*self.name)
    }
}

/// Entry name of a copy from the host to the device.
pub const UPLOAD: &str = "copy to the device";
/// Entry name of a copy from the device to the host.
pub const DOWNLOAD: &str = "copy from the device";
/// Entry name of setting memory to zero.
pub const CLEAR: &str = "clear";

const COPIES: [&str; 3] = [UPLOAD, DOWNLOAD, CLEAR];
