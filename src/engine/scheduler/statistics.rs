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
    /// Images of requests that looked for them among those of earlier ones.
    pub images: u64,
    /// Those of them that were there, and were not encoded again.
    pub images_known: u64,
    /// Rows of prompts of requests that looked for a beginning of an earlier one, images' rows included.
    pub rows: u64,
    /// Those of them that were there, and were not computed again.
    pub rows_known: u64,
    /// Bytes of images that are kept for later requests now.
    pub image_bytes: usize,
    /// Pages of the key/value cache that are free for requests now.
    pub pages_free: usize,
    /// Those of them that hold beginnings of prompts until somebody needs the pages.
    pub pages_kept: usize,
    /// Pages of the key/value cache now.
    pub pages: usize,
}
