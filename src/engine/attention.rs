//! What the decoder attends to while it answers.

use super::answer::Answer;
use super::prepare::{Prepared, Preparer};
use super::request::Request;
use crate::select::{Kept, Slot, order};
use crate::{Error, Result};

/// What a row of the prompt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptRow {
    /// A token before the image, or of a prompt without one.
    System,
    /// A patch of the image: of a partition, 0 being the full image.
    Patch {
        /// Its partition.
        partition: usize,
        /// Its place in it, row by row.
        patch: u32,
    },
    /// A row separator of the image.
    Newline,
    /// A token behind the image.
    Text,
}

/// An answer, and what every token of it was drawn by.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// The answer.
    pub answer: Answer,
    /// The rows of the prompt.
    pub rows: Vec<PromptRow>,
    /// For each token of the answer, and for each layer of the decoder, what the row that the token was drawn from attends
    /// to: of the prompt's rows, then of the answer's tokens before it, the softmax's weight, as the mean over heads.
    pub weights: Vec<Vec<Vec<f32>>>,
}

/// A request whose attention is to be told of.
pub struct Watched {
    prepared: Prepared,
    layers: usize,
}

impl Watched {
    /// # Errors
    /// As preparing the request, and where a row cannot be told by its place.
    pub fn new(preparer: &Preparer, request: &Request) -> Result<Self> {
        let prepared = preparer.prepare(request)?;
        check(&prepared, request)?;
        Ok(Self { prepared, layers: preparer.config.text.layers })
    }

    /// `recorded`: what [`crate::ops::MeasureOps::recorded_attention`] gives.
    pub fn told(&self, answer: Answer, recorded: &[Vec<f32>]) -> Attention {
        let weights = recorded.chunks(self.layers).map(<[Vec<f32>]>::to_vec).collect();
        Attention { rows: rows(&self.prepared, &answer), answer, weights }
    }
}

/// Fails where a row cannot be told by its place.
fn check(prepared: &Prepared, request: &Request) -> Result<()> {
    let method = request.selection.method;
    let what = match &prepared.images[..] {
        [] => return Ok(()),
        [image] if image.plan.late.is_some() => {
            format!(
                "the method {method} drops inside the language model, whose layers see other rows each: take another one"
            )
        }
        [image] if image.plan.sources > 0 => {
            format!(
                "the method {method} merges patches into rows that have no place in the image: take another one"
            )
        }
        [_] => return Ok(()),
        _ => "attention is told of one image at a time: give one".into(),
    };
    Err(Error::Request(what))
}

fn rows(prepared: &Prepared, answer: &Answer) -> Vec<PromptRow> {
    let mut rows = Vec::with_capacity(answer.prompt_tokens);
    for (index, text) in prepared.texts.iter().enumerate() {
        let kind = if index == 0 { PromptRow::System } else { PromptRow::Text };
        rows.extend(text.iter().map(|_| kind));
        let visual = answer.visual.as_ref().filter(|_| index == 0);
        if let Some((image, visual)) = prepared.images.first().zip(visual) {
            let kept = Kept::of(visual.kept_indices.clone());
            rows.extend(order(&image.plan, &kept).into_iter().map(|slot| match slot {
                Slot::Patch { partition, patch } => PromptRow::Patch { partition, patch },
                Slot::Newline | Slot::Merged(_) => PromptRow::Newline,
            }));
        }
    }
    rows
}
