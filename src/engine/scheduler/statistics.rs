//! Statistics of a scheduler.

/// Statistics of a [`Scheduler`](super::Scheduler), counted since its start unless noted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Requests waiting now.
    pub waiting: usize,
    /// Requests being answered now.
    pub running: usize,
    /// Requests refused at submission, because the queue was full or with an error.
    pub refused: u64,
    /// Requests accepted.
    pub accepted: u64,
    /// Requests answered completely.
    pub finished: u64,
    /// Requests cancelled, before or after their first token.
    pub cancelled: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Prompt tokens, image tokens included, of answers that have ended.
    pub prompt_tokens: u64,
    /// Generated tokens.
    pub new_tokens: u64,
    /// Images of requests that used the cache.
    pub images: u64,
    /// Images that were found in the cache and not encoded again.
    pub images_known: u64,
    /// Prompt rows, image rows included, of requests that used the prefix cache.
    pub rows: u64,
    /// Prompt rows that were found in the prefix cache and not computed again.
    pub rows_known: u64,
    /// Bytes of image features in the cache now.
    pub image_bytes: usize,
    /// Pages of the key/value cache that are free for requests now.
    pub pages_free: usize,
    /// Free pages that hold cached prefixes until they are needed.
    pub pages_kept: usize,
    /// Pages of the key/value cache in total.
    pub pages: usize,
}
