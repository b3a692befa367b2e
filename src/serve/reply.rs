//! Answers as JSON: complete ones, chunks of streamed ones, and their usage.

use super::ask::Way;
use crate::cli::report::How;
use hired::select::{Budget, Selection};
use hired::{Answer, FinishReason, Timings, Visual};
use serde::Serialize;
use serde_json::{Value, json};

/// The common part of all chunks of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    pub id: String,
    pub created: u64,
    pub model: String,
    pub fingerprint: String,
    pub way: Way,
}

/// The object `hired` of an answer.
#[derive(Debug, Serialize)]
pub struct Own<'a> {
    visual: Option<Value>,
    /// The images, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    visuals: Vec<Value>,
    #[serde(flatten)]
    how: How,
    budget: Option<String>,
    /// The seed; `None` if nothing is random.
    seed: Option<u64>,
    /// Seconds in the queue.
    queued: f64,
    timings: &'a Timings,
    cache: Cache,
    #[serde(skip_serializing_if = "Option::is_none")]
    overlay: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overlays: Vec<String>,
}

/// Cached results of earlier requests that were used.
#[derive(Debug, Serialize)]
struct Cache {
    /// Images that were not encoded again.
    images: usize,
    /// Prompt tokens that were not computed again.
    tokens: usize,
}

/// The list if it has several items; a single item is already in another field.
fn several<T>(list: Vec<T>) -> Vec<T> {
    if list.len() > 1 { list } else { Vec::new() }
}

impl<'a> Own<'a> {
    pub fn new(
        answer: &'a Answer,
        selection: &Selection,
        budget: Budget,
        seed: Option<u64>,
        queued: f64,
        kept: bool,
        overlays: Vec<String>,
    ) -> Self {
        let visual = answer.visual.as_ref();
        Self {
            visual: visual.map(|visual| told(visual, kept)),
            visuals: several(answer.visuals.iter().map(|visual| told(visual, kept)).collect()),
            how: How::new(selection, visual),
            budget: visual.map(|_| budget.to_string()),
            seed,
            queued,
            timings: &answer.timings,
            cache: Cache { images: answer.cached_images, tokens: answer.cached_tokens },
            overlay: overlays.first().cloned(),
            overlays: several(overlays),
        }
    }
}

/// Describes the selection of an image. The kept patches are only included if requested, because the lists are long.
fn told(visual: &Visual, kept: bool) -> Value {
    let mut value = json!(visual);
    if !kept && let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| !name.ends_with("_indices"));
    }
    value
}

/// The API's finish reason.
pub fn finish_reason(answer: &Answer) -> &'static str {
    match answer.finish_reason {
        FinishReason::Length => "length",
        _ => "stop",
    }
}

/// Numbers of prompt and completion tokens.
pub fn usage(answer: &Answer) -> Value {
    let (prompt, new) = (answer.prompt_tokens, answer.token_ids.len());
    let image: usize = answer.visuals.iter().map(Visual::tokens).sum();
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": new,
        "total_tokens": prompt + new,
        "prompt_tokens_details": {
            "cached_tokens": answer.cached_tokens,
            "image_tokens": image,
            "text_tokens": prompt.saturating_sub(image),
        },
    })
}

impl Head {
    fn object(&self, chunk: bool, choices: Value) -> Value {
        let object = match (self.way, chunk) {
            (Way::Chat, false) => "chat.completion",
            (Way::Chat, true) => "chat.completion.chunk",
            (Way::Text, _) => "text_completion",
        };
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        })
    }

    /// A complete answer.
    pub fn whole(&self, answer: &Answer, own: &Own<'_>) -> Value {
        let reason = finish_reason(answer);
        let choice = match self.way {
            Way::Chat => json!({
                "index": 0,
                "message": {"role": "assistant", "content": answer.text, "refusal": null},
                "logprobs": null,
                "finish_reason": reason,
            }),
            Way::Text => json!({
                "index": 0, "text": answer.text, "logprobs": null, "finish_reason": reason,
            }),
        };
        let mut value = self.object(false, json!([choice]));
        value["usage"] = usage(answer);
        value["hired"] = json!(own);
        value
    }

    /// The first chunk of a chat stream.
    pub fn first(&self, usage: bool) -> Value {
        self.chunk(json!({"role": "assistant", "content": ""}), "", None, usage)
    }

    /// A chunk of text.
    pub fn piece(&self, text: &str, usage: bool) -> Value {
        self.chunk(json!({"content": text}), text, None, usage)
    }

    /// The chunk that ends the answer.
    pub fn last(&self, answer: &Answer, own: &Own<'_>, usage: bool) -> Value {
        let mut value = self.chunk(json!({}), "", Some(finish_reason(answer)), usage);
        value["hired"] = json!(own);
        value
    }

    /// The usage chunk, which is only sent if requested, because some clients cannot handle it.
    pub fn cost(&self, answer: &Answer) -> Value {
        let mut value = self.object(true, json!([]));
        value["usage"] = usage(answer);
        value
    }

    fn chunk(&self, delta: Value, text: &str, reason: Option<&str>, usage: bool) -> Value {
        let choice = match self.way {
            Way::Chat => json!({
                "index": 0, "delta": delta, "logprobs": null, "finish_reason": reason,
            }),
            Way::Text => json!({
                "index": 0, "text": text, "logprobs": null, "finish_reason": reason,
            }),
        };
        let mut value = self.object(true, json!([choice]));
        if usage {
            value["usage"] = Value::Null;
        }
        value
    }
}
