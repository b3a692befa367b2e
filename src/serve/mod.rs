//! `hired serve`: an HTTP server with an OpenAI-compatible API.
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

/// Settings of the server.
#[derive(Debug, Clone)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    /// API keys; if empty, no key is needed.
    pub keys: Vec<String>,
    pub terms: Terms,
    /// Images by http: and https: addresses; none: such are refused.
    pub fetch: Option<FetchTerms>,
    /// Requests that may wait for their turn.
    pub max_waiting: usize,
    /// Largest number of rows of other prompts and images between two tokens of an answer.
    pub max_stall: Option<usize>,
    /// Cache size in bytes.
    pub cache_memory: usize,
    /// Largest body in bytes.
    pub max_body: usize,
    pub max_connections: usize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    /// Time without the client accepting data after which the connection is closed.
    pub send_timeout: Duration,
    /// Time after which a silent stream sends a comment.
    pub keep_alive: Duration,
    /// Time during which new requests are accepted after the first signal.
    pub drain_delay: Duration,
    /// Time that running requests then have to finish.
    pub drain_timeout: Duration,
    /// Write prompts and answers to the log.
    pub log_prompts: bool,
    pub resample: Option<Resample>,
    /// The requested number formats and kernels.
    pub formats: String,
}

impl Settings {
    /// Size of the largest body in KiB.
    fn kib(&self) -> usize {
        self.max_body.div_ceil(1024).max(1)
    }
}
