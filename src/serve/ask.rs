//! Converts the body of a request into a request to the engine.

use super::error::ApiError;
use super::fields::Fields;
use super::images::Images;
use super::messages;
use super::own::OwnFields;
use super::sampling::sampled;
use hired::select::{Budget, Selection};
use hired::{Image, Message, Prompt, Request};
use serde_json::Value;

/// Defaults and limits for requests.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The model's name.
    pub model: String,
    /// The default selection.
    pub selection: Selection,
    /// Default number of tokens per answer.
    pub default_tokens: usize,
    /// Largest number of tokens per answer.
    pub most_tokens: Option<usize>,
    /// Rules for images.
    pub images: Images,
}

/// A parsed request, with the requested form of its answer.
#[derive(Debug)]
pub struct Asked {
    pub request: Request,
    /// The model's name in the request.
    pub model: String,
    pub stream: bool,
    pub include_usage: bool,
    /// Return which patches were kept.
    pub kept: bool,
    /// Images on which to draw the kept patches.
    pub overlay: Vec<Image>,
    /// Number of unknown fields.
    pub unknown: usize,
}

/// The endpoint of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// Fields without effect on an answer, which clients send nevertheless.
const IDLE: [&str; 11] = [
    "user",
    "store",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "parallel_tool_calls",
    "reasoning_effort",
    "verbosity",
    "detail",
    "keep_alive",
];

/// A body as JSON.
pub fn parsed(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::field("", format!("the body is not valid JSON: {error}")))
}

impl Asked {
    /// What a body asks for.
    ///
    /// # Errors
    /// With the field that is wrong, or that asks for what this server does not do.
    pub fn of(body: Value, way: Way, terms: &Terms) -> Result<Self, ApiError> {
        let mut body = Fields::of("", body)?;
        let (model, budget) = named(body.text("model")?, terms)?;
        let mut selection = terms.selection.clone();
        if let Some(budget) = budget {
            selection.budget = budget;
        }
        let mut own = OwnFields::default();
        own.read(&mut body, &mut selection)?;
        if let Some(mut object) = body.object("hired")? {
            own.read(&mut object, &mut selection)?;
            // Unknown fields are refused here, because a typing error must not change an experiment.
            if let Some(name) = object.left().next() {
                return Err(object.wrong(
                    name,
                    "there is no such field: hired has budget, budget_total, method, rule, alpha, newlines, cache, kept and overlay",
                ));
            }
        }
        refuse(&mut body, way)?;
        let stream = body.flag("stream")?.unwrap_or(false);
        let mut include_usage = false;
        if let Some(mut options) = body.object("stream_options")? {
            include_usage = options.flag("include_usage")?.unwrap_or(false);
        }
        let messages = match way {
            Way::Chat => messages::read(&mut body, &terms.images)?,
            Way::Text => messages::text(&mut body)?,
        };
        let images = || messages.iter().flat_map(Message::images).cloned().collect();
        let overlay = if own.overlay { images() } else { Vec::new() };
        // Special tokens in messages are treated as text, so that they cannot end the turn.
        let request = Request::new(Prompt::Messages(messages))
            .with_literal(true)
            .with_selection(selection)
            .with_cache(own.cache)
            .with_budget_total(own.budget_total);
        let request = sampled(&mut body, request, terms)?;
        IDLE.iter().for_each(|name| drop(body.take(name)));
        let unknown = body.left().count();
        Ok(Self { request, model, stream, include_usage, kept: own.kept, overlay, unknown })
    }
}

/// The requested model name, and the budget that may be part of it, for clients that let their users choose a model
/// and nothing else.
fn named(asked: Option<String>, terms: &Terms) -> Result<(String, Option<Budget>), ApiError> {
    let Some(asked) = asked else { return Ok((terms.model.clone(), None)) };
    let (name, budget) = match asked.rsplit_once('@') {
        _ if asked == terms.model => (asked.as_str(), None),
        Some((name, budget)) => (name, Some(budget)),
        None => (asked.as_str(), None),
    };
    if name != terms.model {
        return Err(ApiError::no_model(&asked, &terms.model));
    }
    let budget = budget.map(|budget| {
        budget
            .parse()
            .map_err(|error: hired::Error| ApiError::field("model", format!("model: {error}")))
    });
    let budget = budget.transpose()?;
    Ok((asked, budget))
}

/// Refuses unsupported fields that would change the answer. Values without effect are accepted, because clients send
/// them.
fn refuse(body: &mut Fields, way: Way) -> Result<(), ApiError> {
    if body.whole("n", 1)?.is_some_and(|n| n != 1) {
        return Err(body.wrong(
            "n",
            "only one answer per request is supported: leave it out, or send another request",
        ));
    }
    if body.whole("best_of", 1)?.is_some_and(|n| n != 1) {
        return Err(body.wrong("best_of", "only one answer is generated: leave it out"));
    }
    let is_harmless = |field: &str, value: &Value| match (field, value) {
        ("response_format", value) => value["type"] == "text",
        ("tool_choice" | "function_call", value) => value == "none" || value == "auto",
        ("modalities", value) => value == &serde_json::json!(["text"]),
        (_, Value::Bool(on)) => !on,
        (_, Value::Number(number)) => number.as_f64() == Some(0.0),
        (_, Value::String(text)) => text.is_empty(),
        (_, Value::Array(items)) => items.is_empty(),
        (_, Value::Object(fields)) => fields.is_empty(),
        (_, Value::Null) => true,
    };
    let of_chat = ["tools", "functions", "audio", "prediction", "web_search_options"];
    let of_text = ["echo", "suffix"];
    let of_way: &[&str] = if way == Way::Chat { &of_chat } else { &of_text };
    let of_both = [
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "presence_penalty",
        "frequency_penalty",
        "response_format",
        "tool_choice",
        "function_call",
        "modalities",
    ];
    for field in of_both.iter().chain(of_way) {
        if body.take(field).is_some_and(|value| !is_harmless(field, &value)) {
            return Err(body.wrong(field, "this is not supported: leave it out"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use serde_json::json;

    fn terms() -> Terms {
        Terms {
            model: "model".into(),
            selection: Selection::default(),
            default_tokens: 512,
            most_tokens: None,
            images: Images { folder: None, max_pixels: None, most: 4 },
        }
    }

    fn read(body: &Value, way: Way) -> Result<Asked, ApiError> {
        Asked::of(parsed(body.to_string().as_bytes())?, way, &terms())
    }

    fn sound() -> Value {
        json!({
            "model": "model@30%", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 5, "n": 1,
            "temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 1, "stop": ["a"], "tools": [], "logprobs": false,
            "hired": {"budget": "20%", "method": "hired", "rule": "paper", "alpha": 0.5, "newlines": "all", "kept": true},
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": [
                    {"type": "text", "text": "t"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGlyZWQ="}},
                ]},
            ],
            "prompt": "p",
        })
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "(full|user|text|data:,x|-1|[0-9]{1,20}%?|\\PC{0,8})".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::from),
                btree_map("(type|text|role|content|url|image_url|budget|\\PC{0,3})", inner, 0..4)
                    .prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    /// Every position in a value at which something else may be put.
    fn places(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), found));
            }
            Value::Array(items) => {
                let items = items.iter().enumerate();
                items.for_each(|(i, value)| places(value, &format!("{at}/{i}"), found));
            }
            _ => {}
        }
    }

    #[test]
    fn a_sound_body_is_read_whole() {
        let asked = read(&sound(), Way::Chat).unwrap();
        assert!(asked.stream && asked.include_usage && asked.kept && asked.overlay.is_empty());
        // The field in the body takes precedence over the budget in the model's name; `prompt` belongs to the other
        // endpoint.
        assert_eq!((asked.request.selection.budget.to_string(), asked.unknown), ("20%".into(), 1));
        assert_eq!((asked.request.max_new_tokens, asked.request.sampling.seed), (5, 1));
        assert_eq!(asked.request.images().len(), 1);
        assert!(asked.request.literal);
    }

    proptest! {
        /// Any change of a body gives either a request or a client error that names an existing or missing field.
        #[test]
        fn bodies_of_any_kind_are_read_or_refused(place: prop::sample::Index, other in anything()) {
            let mut body = sound();
            let mut found = Vec::new();
            places(&body, "", &mut found);
            let at: &String = place.get(&found);
            *body.pointer_mut(at).unwrap() = other;
            for way in [Way::Chat, Way::Text] {
                if let Err(error) = read(&body, way) {
                    prop_assert!(error.status.is_client_error(), "{body}: {error:?}");
                    let message = error.object()["error"]["message"].to_string();
                    prop_assert!(message.len() < 2000, "{message}");
                }
            }
        }

        /// Bytes that are no JSON at all.
        #[test]
        fn bytes_are_refused(bytes in vec(any::<u8>(), 0..64)) {
            let error = parsed(&bytes).and_then(|body| Asked::of(body, Way::Chat, &terms()));
            prop_assert!(error.is_err_and(|error| error.status.as_u16() == 400));
        }
    }
}
