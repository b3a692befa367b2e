//! The turns of a conversation as a body has them.

use super::error::ApiError;
use super::fields::Fields;
use super::images::Images;
use hired::{Image, Request};
use serde_json::Value;

/// Most turns of a conversation.
const TURNS: usize = 1000;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    User,
    Assistant,
}

/// A piece of a turn.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    Image(Image),
}

/// A turn of a conversation.
#[derive(Debug, PartialEq, Eq)]
pub struct Turn {
    pub role: Role,
    pub parts: Vec<Part>,
}

/// What was said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Spoken(pub Vec<Turn>);

/// Reads `messages`.
pub fn read(body: &mut Fields, images: &Images) -> Result<Spoken, ApiError> {
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
    let turns = turns.collect::<Result<Vec<Turn>, ApiError>>()?;
    let pictures =
        |turn: &Turn| turn.parts.iter().filter(|part| matches!(part, Part::Image(_))).count();
    let count: usize = turns.iter().map(pictures).sum();
    if count > images.most {
        let what = format!("{count} images, and at most {} are allowed", images.most);
        return Err(body.wrong("messages", what));
    }
    match turns.last() {
        Some(turn) if turn.role == Role::User => Ok(Spoken(turns)),
        _ => Err(body.wrong("messages", "the last message must be the user's")),
    }
}

/// Reads the `prompt` of a text completion: the user's words.
pub fn text(body: &mut Fields) -> Result<Spoken, ApiError> {
    let words = match body.take("prompt") {
        Some(Value::String(words)) => words,
        // Clients that send lists send one text at a time.
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
        return Err(body.wrong("prompt", "the prompt is empty: give some words"));
    }
    Ok(Spoken(vec![Turn { role: Role::User, parts: vec![Part::Text(words)] }]))
}

fn turn(mut message: Fields, images: &Images) -> Result<Turn, ApiError> {
    let role = match message.text("role")?.as_deref() {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some(other) => {
            let what = format!("'{other}' takes no part here: give system, user or assistant");
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
        return Err(message.wrong("content", "it is empty: give some words or an image"));
    }
    Ok(Turn { role, parts })
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
            Err(part.wrong("type", format!("'{other}' is not read here: give text or image_url")))
        }
        None => Err(part.wrong("type", "it is missing: give text or image_url")),
    }
}

impl Spoken {
    /// The images, in order.
    pub fn images(&self) -> Vec<Image> {
        let parts = self.0.iter().flat_map(|turn| &turn.parts);
        let image = |part: &Part| match part {
            Part::Image(image) => Some(image.clone()),
            Part::Text(_) => None,
        };
        parts.filter_map(image).collect()
    }

    /// What is said, as a request. Special tokens that somebody types are text: they must not end the user's turn.
    pub fn request(self) -> Result<Request, ApiError> {
        let one = "only one message, the user's, with at most one image is answered so far";
        let Ok([turn]) = <[Turn; 1]>::try_from(self.0) else {
            return Err(ApiError::field("messages", format!("messages: {one}")));
        };
        let (mut words, mut images) = (String::new(), Vec::new());
        for part in turn.parts {
            match part {
                Part::Text(text) => words += &text,
                Part::Image(image) => images.push(image),
            }
        }
        if images.len() > 1 {
            return Err(ApiError::field("messages", format!("messages: {one}")));
        }
        Ok(Request::new(words).with_literal(true).with_image(images.pop()))
    }
}
