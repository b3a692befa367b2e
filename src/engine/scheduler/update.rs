//! What a client hears.

use crate::Error;
use crate::engine::answer::Answer;
use crate::ops::clock::Stage;

/// News of one request of a [`Scheduler`](super::Scheduler). [`Update::Finished`] or [`Update::Failed`] comes once for
/// every request, and nothing after it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Update {
    /// The request waits no more.
    Started,
    /// A block of the vision tower or of the decoder is done.
    #[non_exhaustive]
    Progress {
        /// Vision or prefill.
        stage: Stage,
        /// Blocks done.
        done: usize,
        /// Blocks in all.
        all: usize,
    },
    /// A token was drawn.
    #[non_exhaustive]
    Token {
        /// The token.
        id: u32,
        /// Text that is complete with it; may be empty, never holds half a character.
        text: String,
    },
    /// The answer has ended.
    #[non_exhaustive]
    Finished {
        /// Text that was held back, waiting for the rest of a character: the texts of all tokens and this are the
        /// answer's.
        text: String,
        /// The whole answer. Its times count from [`Scheduler::submit`](super::Scheduler::submit).
        answer: Box<Answer>,
    },
    /// There is no answer.
    Failed(Error),
}

/// Why a request was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The queue is full: try again later.
    #[error("{waiting} requests are waiting, which is as many as may: try again later")]
    #[non_exhaustive]
    Full {
        /// Requests that wait.
        waiting: usize,
    },
    /// The scheduler takes no more requests.
    #[error("the engine is being stopped and takes no more requests")]
    Stopping,
    /// The request can never be answered.
    #[error(transparent)]
    Refused(Error),
}
