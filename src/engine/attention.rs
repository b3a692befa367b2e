//! Records what the decoder attends to while it answers.

use super::answer::Answer;
use super::prepare::{Prepared, Preparer};
use super::request::Request;
use crate::select::{Kept, Slot, order};
use crate::{Error, Result};

/// The kind of one row of the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptRow {
    /// A token before the image, or of a prompt without an image.
    System,
    /// A patch of a partition; partition 0 is the full image.
    Patch {
        /// Index of the partition.
        partition: usize,
        /// Index of the patch in its partition, row by row.
        patch: u32,
    },
    /// A row separator of the image.
    Newline,
    /// A token after the image.
    Text,
}

/// An answer with the attention weights behind each of its tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// The answer.
    pub answer: Answer,
    /// The kind of each row of the prompt.
    pub rows: Vec<PromptRow>,
    /// For each generated token and each decoder layer, the attention weights (after softmax, averaged over heads) of
    /// the row from which the token was generated: first to the prompt's rows, then to the answer's earlier tokens.
    pub weights: Vec<Vec<Vec<f32>>>,
}

/// A prepared request whose attention is recorded.
pub struct Watched {
    prepared: Prepared,
    layers: usize,
}

impl Watched {
    /// # Errors
    /// The errors of preparing the request; [`Error::Request`] if the method's rows have no position in the image.
    pub fn new(preparer: &Preparer, request: &Request) -> Result<Self> {
        let prepared = preparer.prepare(request)?;
        check(&prepared, request)?;
        Ok(Self { prepared, layers: preparer.config.text.layers })
    }

    /// Combines the answer with `recorded`, the result of [`crate::ops::MeasureOps::recorded_attention`].
    pub fn told(&self, answer: Answer, recorded: &[Vec<f32>]) -> Attention {
        let weights = recorded.chunks(self.layers).map(<[Vec<f32>]>::to_vec).collect();
        Attention { rows: rows(&self.prepared, &answer), answer, weights }
    }
}

/// Refuses methods whose rows cannot be mapped to positions in the image.
fn check(prepared: &Prepared, request: &Request) -> Result<()> {
    let method = request.selection.method;
    let what = match &prepared.images[..] {
        [] => return Ok(()),
        [image] if image.plan.late.is_some() => {
            format!(
                "the method {method} drops inside the language model, so its layers see different rows: use another method"
            )
        }
        [image] if image.plan.sources > 0 => {
            format!(
                "the method {method} merges patches into rows without a position in the image: use another method"
            )
        }
        [_] => return Ok(()),
        _ => "attention can be recorded for one image at a time: give one image".into(),
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
