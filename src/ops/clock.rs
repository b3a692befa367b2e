//! Time of a request by stage.

use std::time::{Duration, Instant};

/// Parts of a request that are timed and counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// None of the stages below.
    Idle,
    /// Copying pixels to a GPU.
    Upload,
    /// The vision tower.
    Vision,
    /// Selection: from scores to kept patches.
    Select,
    /// The projector.
    Project,
    /// Prefill: the decoder over the prompt, up to the first logits.
    Prefill,
    /// Decoding, token by token.
    Decode,
}

impl Stage {
    /// Its name in timings and profilers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Upload => "upload",
            Self::Vision => "vision",
            Self::Select => "select",
            Self::Project => "project",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

const STAGES: usize = Stage::Decode as usize + 1;

/// A stopwatch with one reading per stage.
#[derive(Debug)]
pub struct Clock {
    spent: [Duration; STAGES],
    stage: Stage,
    since: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self { spent: [Duration::ZERO; STAGES], stage: Stage::Idle, since: Instant::now() }
    }
}

impl Clock {
    /// Ends the current stage and begins `stage`.
    pub fn enter(&mut self, stage: Stage) {
        let now = Instant::now();
        self.spent[self.stage as usize] += now - self.since;
        (self.stage, self.since) = (stage, now);
    }

    /// Adds time that was measured elsewhere.
    pub fn add(&mut self, stage: Stage, spent: Duration) {
        self.spent[stage as usize] += spent;
    }

    /// Sets all readings to zero.
    pub fn restart(&mut self) {
        self.spent = [Duration::ZERO; STAGES];
    }

    /// The current stage.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Takes the reading of a stage that has ended and sets it to zero.
    pub fn take(&mut self, stage: Stage) -> Duration {
        std::mem::take(&mut self.spent[stage as usize])
    }
}
