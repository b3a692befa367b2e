//! `hired serve`: an HTTP server with OpenAI's API in front of the engine.
//!
//! A request passes the routes (`routes`), becomes a request to the engine (`ask`, `messages`, `images`, `fetch`), waits for its
//! answer (`answer`) and is told of in the log (`access`) and the metrics. `listen` is the loop around it all.

mod access;
mod answer;
mod ask;
mod error;
mod fetch;
mod fields;
mod images;
mod listen;
mod messages;
mod metrics;
mod own;
mod page;
mod picture;
mod reply;
mod routes;
mod sampling;
mod server;

pub use ask::Terms;
pub use fetch::FetchTerms;
pub use images::Images;
pub use listen::serve;

use hired::image::Resample;
use std::time::Duration;

/// How the server is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    /// API keys; none: everybody may ask.
    pub keys: Vec<String>,
    pub terms: Terms,
    /// Images by http: and https: addresses; none: such are refused.
    pub fetch: Option<FetchTerms>,
    /// Requests that may wait for their turn.
    pub max_waiting: usize,
    /// Rows of others' prompts and images between two tokens of an answer.
    pub max_stall: Option<usize>,
    /// Bytes of what is kept of requests for later ones.
    pub cache_memory: usize,
    /// Bytes of a body.
    pub max_body: usize,
    pub max_connections: usize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub send_timeout: Duration,
    /// How long a stream may be silent before a comment is sent.
    pub keep_alive: Duration,
    /// How long new requests are still answered after the first signal.
    pub drain_delay: Duration,
    /// How long requests may take after that.
    pub drain_timeout: Duration,
    /// Words and answers appear in the log.
    pub log_prompts: bool,
    pub resample: Option<Resample>,
    /// Number formats and kernels that were asked for.
    pub formats: String,
}

impl Settings {
    /// KiB of the largest body.
    fn kib(&self) -> usize {
        self.max_body.div_ceil(1024).max(1)
    }
}
