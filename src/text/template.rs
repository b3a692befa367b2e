//! The chat template: the user's words and the place of the image, as the model was taught to see them.

use std::path::{Path, PathBuf};

use minijinja::{Environment, Value};

use super::{SpecialTokens, jinja, read_json, read_text, source};
use crate::config::Family;
use crate::error::{Error, Result, excerpt};

const LIMIT: u64 = 8 << 20;
/// More than any model's context holds; it keeps a long prompt from looking like a template that does not end.
const PROMPT_LIMIT: usize = 1 << 20;
/// Most messages and parts of them. Templates may look at no larger lists, see [`super::weight`].
const PARTS_LIMIT: usize = 1_200;
/// Name of the one template inside its environment.
const NAME: &str = "chat template";

/// A model folder's chat template, ready to render conversations.
#[derive(Debug)]
pub struct ChatTemplate(Kind);

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'a str,
    /// What it says and shows, in this order.
    pub content: Vec<Piece<'a>>,
}

/// A part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Words.
    Text(&'a str),
    /// The place of an image.
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
    /// (a text, or several by name, of which `default` is used). A folder without any gets the format its decoder's
    /// family was trained on.
    ///
    /// # Errors
    /// A file that cannot be read or is not what it should be, or a template that is not valid Jinja.
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

    /// Compiles a template's source. `file` is named in errors; `tokens` are the variables such as `bos_token`.
    ///
    /// # Errors
    /// The source is not valid Jinja, or uses a tag, filter or test that does not exist.
    pub fn parse(source: &str, file: &Path, tokens: &[(String, String)]) -> Result<Self> {
        if source.len() > jinja::SOURCE_LIMIT {
            let what =
                format!("is longer than {} bytes; is it a chat template?", jinja::SOURCE_LIMIT);
            return Err(Error::model(file, what));
        }
        // Jinja reads every line end as \n.
        let source = &source.replace("\r\n", "\n").replace('\r', "\n");
        let mut env = jinja::environment();
        let source =
            source::prepare(source).map_err(|what| Error::model(file, what + "; shorten it"))?;
        jinja::on_large_stack(|| env.add_template_owned(NAME, source))
            .map_err(|what| Error::model(file, what))?
            .map_err(|e| failure(file, &e))?;
        Ok(Self(Kind::Jinja { file: file.to_owned(), env: Box::new(env), tokens: tokens.to_vec() }))
    }

    /// The prompt for one user turn of an image, if any, and a text, as [`render_turns`](Self::render_turns) has it.
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

    /// The prompt for a conversation up to where the next answer starts: what transformers' `apply_chat_template` gives
    /// with `add_generation_prompt=True`.
    ///
    /// Texts are put in as they are: special tokens in them become special tokens, as in transformers.
    ///
    /// # Errors
    /// Texts of over 1 MiB, or a thousand messages; or the template refuses the conversation, fails, or does not come to
    /// an end within a bound on steps and text. (Lists that are made to double are not bounded: a template is code, run none you do
    /// not trust that far.)
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
    /// Its words.
    fn texts(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.content.iter().filter_map(|piece| match *piece {
            Piece::Text(text) => Some(text),
            Piece::Image => None,
        })
    }
}

/// A prompt as the decoder's family was trained on, and as the templates of the LLaVA folders on the hub have it.
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

/// What transformers hands to a template. The content is a list of parts, never a plain text.
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

/// The template in a JSON file's key `chat_template`.
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
    // A template can put anything into its message: keep it to one line of readable length.
    let said: String = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let said = excerpt(said, 300);
    Error::model(
        file,
        format!("{said}; correct the template, or write the whole prompt yourself (--raw-prompt)"),
    )
}
