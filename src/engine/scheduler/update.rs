//! Updates that a client receives about its request.

use crate::Error;
use crate::engine::answer::Answer;
use crate::ops::clock::Stage;

/// An update about one request of a [`Scheduler`](super::Scheduler). Every request ends with exactly one
/// [`Update::Finished`] or [`Update::Failed`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Update {
    /// The request has left the queue and is being computed.
    Started,
    /// A layer of the vision tower or of the decoder is done.
    #[non_exhaustive]
    Progress {
        /// The stage: vision or prefill.
        stage: Stage,
        /// Layers done so far.
        done: usize,
        /// Layers in total.
        all: usize,
    },
    /// A token was generated.
    #[non_exhaustive]
    Token {
        /// The token's id.
        id: u32,
        /// The text that this token completes. It may be empty and never ends inside a character.
        text: String,
    },
    /// The answer has ended.
    #[non_exhaustive]
    Finished {
        /// The remaining text, which was held back because a character was incomplete. The texts of all tokens
        /// followed by this one are the answer's text.
        text: String,
        /// The complete answer. Its times count from [`Scheduler::submit`](super::Scheduler::submit).
        answer: Box<Answer>,
    },
    /// The request failed.
    Failed(Error),
}

/// The reasons why a request is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The queue is full: try again later.
    #[error("the queue is full, {waiting} requests are waiting: try again later")]
    #[non_exhaustive]
    Full {
        /// The number of waiting requests.
        waiting: usize,
    },
    /// The scheduler takes no more requests.
    #[error("the engine is being stopped and takes no more requests")]
    Stopping,
    /// The request can never be answered.
    #[error(transparent)]
    Refused(Error),
}
