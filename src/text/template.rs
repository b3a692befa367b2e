//! Chat templates: the prompt format that a model was trained on.

use std::path::{Path, PathBuf};

use minijinja::{Environment, Value};

use super::{SpecialTokens, jinja, read_json, read_text, source};
use crate::config::Family;
use crate::error::{Error, Result, excerpt};

const LIMIT: u64 = 8 << 20;
/// Longest prompt in bytes. It is more than any model's context and keeps a long prompt from exhausting the
/// template's fuel.
const PROMPT_LIMIT: usize = 1 << 20;
/// Largest number of messages and their parts. Templates cannot handle larger lists, see [`super::weight`].
const PARTS_LIMIT: usize = 1_200;
/// Name of the template inside its environment.
const NAME: &str = "chat template";

/// The chat template of a model folder, ready to render conversations.
#[derive(Debug)]
pub struct ChatTemplate(Kind);

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'a str,
    /// Text and images, in this order.
    pub content: Vec<Piece<'a>>,
}

/// A part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text.
    Text(&'a str),
    /// The position of an image.
    Image,
}

#[derive(Debug)]
enum Kind {
    Jinja { file: PathBuf, env: Box<Environment<'static>>, tokens: Vec<(String, String)> },
    Default(Family),
}

impl ChatTemplate {
    /// Finds the template of a model folder in transformers' order: the key `chat_template` of
    /// `processor_config.json`, `chat_template.json`, `chat_template.jinja`, then that key of `tokenizer_config.json`
    /// (a text, or several by name, of which `default` is used). A folder without a template gets the format that its
    /// decoder's family was trained on.
    ///
    /// # Errors
    /// A file that cannot be read or has the wrong content, or a template that is not valid Jinja.
    pub fn open(dir: &Path, family: Family) -> Result<Self> {
        let places = [
            "processor_config.json",
            "chat_template.json",
            "chat_template.jinja",
            "tokenizer_config.json",
        ];
        for place in places {
            let path = dir.join(place);
            let source = if place.ends_with(".jinja") {
                read_text(&path, LIMIT)?
            } else {
                read_json(&path, LIMIT)?.map(|json| of_json(&path, &json)).transpose()?.flatten()
            };
            match source {
                Some(source) => {
                    return Self::parse(&source, &path, &SpecialTokens::read(dir)?.named);
                }
                None if place == "chat_template.json" && path.exists() => {
                    return Err(Error::model(
                        &path,
                        "has no key `chat_template`; download it again",
                    ));
                }
                None => {}
            }
        }
        Ok(Self(Kind::Default(family)))
    }

    /// Compiles a template's source. `file` is named in errors; `tokens` are variables such as `bos_token`.
    ///
    /// # Errors
    /// If the source is not valid Jinja, or uses an unknown tag, filter or test.
    pub fn parse(source: &str, file: &Path, tokens: &[(String, String)]) -> Result<Self> {
        if source.len() > jinja::SOURCE_LIMIT {
            let what =
                format!("is longer than {} bytes; is it a chat template?", jinja::SOURCE_LIMIT);
            return Err(Error::model(file, what));
        }
        // Jinja treats every line ending as \n.
        let source = &source.replace("\r\n", "\n").replace('\r', "\n");
        let mut env = jinja::environment();
        let source =
            source::prepare(source).map_err(|what| Error::model(file, what + "; shorten it"))?;
        jinja::on_large_stack(|| env.add_template_owned(NAME, source))
            .map_err(|what| Error::model(file, what))?
            .map_err(|e| failure(file, &e))?;
        Ok(Self(Kind::Jinja { file: file.to_owned(), env: Box::new(env), tokens: tokens.to_vec() }))
    }

    /// The prompt for one user message with an optional image and a text, as [`render_turns`](Self::render_turns).
    ///
    /// # Errors
    /// As [`render_turns`](Self::render_turns).
    pub fn render(&self, prompt: &str, with_image: bool) -> Result<String> {
        let mut content = vec![Piece::Text(prompt)];
        if with_image {
            content.insert(0, Piece::Image);
        }
        self.render_turns(&[Turn { role: "user", content }])
    }

    /// The prompt for a conversation up to where the next answer starts, equal to the result of transformers'
    /// `apply_chat_template` with `add_generation_prompt=True`.
    ///
    /// Texts are inserted unchanged: special tokens in them become special tokens, as in transformers.
    ///
    /// # Errors
    /// If texts have over 1 MiB or there are about a thousand messages; if the template refuses the conversation,
    /// fails, or exceeds its limits on steps, text or the size of lists.
    pub fn render_turns(&self, turns: &[Turn<'_>]) -> Result<String> {
        let bytes: usize = turns.iter().flat_map(Turn::texts).map(str::len).sum();
        let parts = turns.len() + turns.iter().map(|turn| turn.content.len()).sum::<usize>();
        let long = |what: String, limit: usize| {
            Err(Error::Request(format!("the prompt has {what}, the limit is {limit}; shorten it")))
        };
        if bytes > PROMPT_LIMIT {
            return long(format!("{bytes} bytes"), PROMPT_LIMIT);
        }
        if parts > PARTS_LIMIT {
            return long(format!("{parts} messages and parts of messages"), PARTS_LIMIT);
        }
        match &self.0 {
            Kind::Default(family) => Ok(by_default(*family, turns)),
            Kind::Jinja { file, env, tokens } => {
                let template = env.get_template(NAME).map_err(|e| failure(file, &e))?;
                jinja::on_large_stack(|| template.render(variables(turns, tokens)))
                    .map_err(|what| Error::model(file, what))?
                    .map_err(|e| failure(file, &e))
            }
        }
    }
}

impl<'a> Turn<'a> {
    /// The texts of the message.
    fn texts(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.content.iter().filter_map(|piece| match *piece {
            Piece::Text(text) => Some(text),
            Piece::Image => None,
        })
    }
}

/// The prompt format that the decoder's family was trained on, as in the templates of LLaVA folders on the hub.
fn by_default(family: Family, turns: &[Turn<'_>]) -> String {
    let mut prompt = String::new();
    for turn in turns {
        let images = turn.content.iter().filter(|piece| **piece == Piece::Image).count();
        let images = "<image>\n".repeat(images);
        let text: Vec<&str> = turn.texts().collect();
        prompt += &match (family, turn.role) {
            (Family::Llama | Family::Phi, "system") => format!("{images}{} ", text.join(" ")),
            (Family::Llama | Family::Phi, role) => {
                format!("{}: {images}{} ", role.to_uppercase(), text.join(" "))
            }
            (Family::Mistral, "system") => format!("<<SYS>>\n{}\n<</SYS>>\n\n", text.concat()),
            (Family::Mistral, "assistant") => format!(" {}</s> ", text.concat()),
            (Family::Mistral, _) => format!("[INST] {images}{} [/INST]", text.concat()),
            (Family::Qwen2 | Family::Qwen3, role) => {
                format!("<|im_start|>{role}\n{images}{}<|im_end|>\n", text.concat())
            }
            (Family::Phi3, role) => format!("<|{role}|>\n{images}{}<|end|>\n", text.concat()),
        };
    }
    prompt
        + match family {
            Family::Llama | Family::Phi => "ASSISTANT:",
            Family::Mistral => "",
            Family::Qwen2 | Family::Qwen3 => "<|im_start|>assistant\n",
            Family::Phi3 => "<|assistant|>\n",
        }
}

/// The variables that transformers passes to a template. The content is always a list of parts, never a plain text.
fn variables(turns: &[Turn<'_>], tokens: &[(String, String)]) -> Value {
    let part = |kind: &str, text: Option<&str>| {
        let entries = [("type", Some(kind)), ("text", text)];
        Value::from_pairs(entries.into_iter().filter_map(|(key, v)| Some((key, Value::from(v?)))))
    };
    let message = |turn: &Turn<'_>| {
        let content = turn.content.iter().map(|piece| match piece {
            Piece::Text(text) => part("text", Some(text)),
            Piece::Image => part("image", None),
        });
        let content = Value::from(content.collect::<Vec<_>>());
        Value::from_pairs([("role", Value::from(turn.role)), ("content", content)])
    };
    let fixed = [
        ("messages", Value::from(turns.iter().map(message).collect::<Vec<_>>())),
        ("tools", Value::from(())),
        ("documents", Value::from(())),
        ("add_generation_prompt", Value::from(true)),
    ];
    let tokens = tokens.iter().map(|(name, text)| (name.as_str(), Value::from(text.as_str())));
    Value::from_pairs(tokens.chain(fixed))
}

/// The template under the key `chat_template` of a JSON file.
fn of_json(path: &Path, json: &serde_json::Value) -> Result<Option<String>> {
    use serde_json::Value as Json;
    let wrong = |what: &str| Err(Error::model(path, format!("`chat_template` {what}; correct it")));
    let chosen = match json.get("chat_template") {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::Object(by_name)) => by_name.get("default"),
        Some(Json::Array(named)) => {
            let default = named.iter().find(|t| t.get("name").is_some_and(|n| n == "default"));
            default.and_then(|t| t.get("template"))
        }
        Some(text) => Some(text),
    };
    match chosen {
        Some(Json::String(text)) => Ok(Some(text.clone())),
        Some(_) => wrong("must be text, or texts by name"),
        None => wrong("has several templates, none of them named `default`"),
    }
}

fn failure(file: &Path, error: &minijinja::Error) -> Error {
    // A template can put any text into its error message, so it is limited to one readable line.
    let said: String = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let said = excerpt(said, 300);
    Error::model(
        file,
        format!("{said}; correct the template, or write the whole prompt yourself (--raw-prompt)"),
    )
}
