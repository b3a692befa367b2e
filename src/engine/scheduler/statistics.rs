//! What a scheduler has done.

/// Numbers of a [`Scheduler`](super::Scheduler), since it was started unless said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Requests that wait now.
    pub waiting: usize,
    /// Requests that are being answered now.
    pub running: usize,
    /// Requests that were refused when they were submitted: because the queue was full, or with an error.
    pub refused: u64,
    /// Requests that were accepted.
    pub accepted: u64,
    /// Answers that came to their end.
    pub finished: u64,
    /// Requests that were cancelled, before their first token or later.
    pub cancelled: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Rows of prompts that were prefilled, those of images included, of answers that have ended.
    pub prompt_tokens: u64,
    /// Tokens that were drawn.
    pub new_tokens: u64,
    /// Pages of the key/value cache that nobody holds now.
    pub pages_free: usize,
    /// Pages of the key/value cache now.
    pub pages: usize,
}
