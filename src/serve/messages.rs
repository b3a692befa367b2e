//! Reads the messages of a conversation in a body.

use super::error::ApiError;
use super::fields::Fields;
use super::images::Images;
use hired::{Message, Part, Role};
use serde_json::Value;

/// Largest number of messages.
const TURNS: usize = 1000;

/// Reads `messages`.
pub fn read(body: &mut Fields, images: &Images) -> Result<Vec<Message>, ApiError> {
    let Some(messages) = body.array("messages")? else {
        return Err(
            body.wrong("messages", "the conversation is missing: give an array of messages")
        );
    };
    if messages.is_empty() {
        return Err(body.wrong("messages", "the conversation is empty: give at least one message"));
    }
    if messages.len() > TURNS {
        let what = format!("{} messages, and {TURNS} are allowed", messages.len());
        return Err(body.wrong("messages", what));
    }
    let turns = messages
        .into_iter()
        .enumerate()
        .map(|(index, message)| turn(Fields::of(format!("messages[{index}]"), message)?, images));
    let turns = turns.collect::<Result<Vec<Message>, ApiError>>()?;
    let count = turns.iter().flat_map(Message::images).count();
    if count > images.most {
        let what = format!("{count} images, and at most {} are allowed", images.most);
        return Err(body.wrong("messages", what));
    }
    match turns.last() {
        Some(turn) if turn.role == Role::User => Ok(turns),
        _ => Err(body.wrong("messages", "the last message must be the user's")),
    }
}

/// Reads the `prompt` of a text completion as the user's message.
pub fn text(body: &mut Fields) -> Result<Vec<Message>, ApiError> {
    let words = match body.take("prompt") {
        Some(Value::String(words)) => words,
        // Clients that send a list send one text at a time.
        Some(Value::Array(mut items)) if items.len() == 1 && items[0].is_string() => {
            match items.remove(0) {
                Value::String(words) => words,
                _ => String::new(),
            }
        }
        None => return Err(body.wrong("prompt", "the prompt is missing: give a string")),
        Some(_) => return Err(body.wrong("prompt", "give one string")),
    };
    if words.is_empty() {
        return Err(body.wrong("prompt", "the prompt is empty: give some text"));
    }
    Ok(vec![Message::user(words)])
}

fn turn(mut message: Fields, images: &Images) -> Result<Message, ApiError> {
    let role = match message.text("role")?.as_deref() {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some(other) => {
            let what = format!("'{other}' is not supported: use system, user or assistant");
            return Err(message.wrong("role", what));
        }
        None => return Err(message.wrong("role", "it is missing: give system, user or assistant")),
    };
    let parts = match message.take("content") {
        Some(Value::String(text)) => vec![Part::Text(text)],
        Some(Value::Array(parts)) => {
            let name = message.name("content");
            let parts = parts.into_iter().enumerate();
            parts
                .map(|(i, value)| part(format!("{name}[{i}]"), value, role, images))
                .collect::<Result<_, _>>()?
        }
        Some(_) => return Err(message.wrong("content", "give a string or an array of parts")),
        None => {
            return Err(
                message.wrong("content", "it is missing: give a string or an array of parts")
            );
        }
    };
    let is_empty = |part: &Part| matches!(part, Part::Text(text) if text.is_empty());
    if parts.iter().all(is_empty) && role == Role::User {
        return Err(message.wrong("content", "it is empty: give some text or an image"));
    }
    Ok(parts.into_iter().fold(Message::new(role), Message::with))
}

fn part(name: String, value: Value, role: Role, images: &Images) -> Result<Part, ApiError> {
    if let Value::String(text) = value {
        return Ok(Part::Text(text));
    }
    let mut part = Fields::of(name, value)?;
    match part.text("type")?.as_deref() {
        Some("text" | "input_text" | "output_text") => match part.text("text")? {
            Some(text) => Ok(Part::Text(text)),
            None => Err(part.wrong("text", "it is missing: give a string")),
        },
        Some("image_url" | "input_image") if role != Role::User => {
            Err(part.wrong("type", "only a user's message may have images"))
        }
        Some("image_url" | "input_image") => match part.take("image_url") {
            Some(url) => images.read(url, &part.name("image_url")).map(Part::Image),
            None => {
                Err(part.wrong("image_url", "it is missing: give an object with the string url"))
            }
        },
        Some(other) => {
            Err(part.wrong("type", format!("'{other}' is not supported: use text or image_url")))
        }
        None => Err(part.wrong("type", "it is missing: give text or image_url")),
    }
}
