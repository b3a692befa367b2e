//! The chat template: the user's words and the place of the image, as the model was taught to see them.

use std::path::{Path, PathBuf};

use minijinja::{Environment, Value};

use super::{SpecialTokens, jinja, read_json, read_text, source};
use crate::config::Family;
use crate::error::{Error, Result, excerpt};

const LIMIT: u64 = 8 << 20;
/// More than any model's context holds; it keeps a long prompt from looking like a template that does not end.
const PROMPT_LIMIT: usize = 1 << 20;
/// Name of the one template inside its environment.
const NAME: &str = "chat template";

/// A model folder's chat template, ready to render one question.
#[derive(Debug)]
pub struct ChatTemplate(Kind);

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

    /// The prompt for one user turn of an image, if any, and a text, up to where the answer starts: what
    /// transformers' `apply_chat_template` gives with `add_generation_prompt=True`.
    ///
    /// `prompt` is put in as it is: special tokens in it become special tokens, as in transformers.
    ///
    /// # Errors
    /// A prompt over 1 MiB; or the template refuses the conversation, fails, or does not come to an end within a
    /// bound on steps and text. (Lists that are made to double are not bounded: a template is code, run none you do
    /// not trust that far.)
    pub fn render(&self, prompt: &str, with_image: bool) -> Result<String> {
        if prompt.len() > PROMPT_LIMIT {
            let what = format!(
                "the prompt has {} bytes, the limit is {PROMPT_LIMIT}; shorten it",
                prompt.len()
            );
            return Err(Error::Request(what));
        }
        match &self.0 {
            Kind::Default(family) => {
                let image = if with_image { "<image>\n" } else { "" };
                Ok(match family {
                    Family::Llama => format!("USER: {image}{prompt} ASSISTANT:"),
                    Family::Mistral => format!("[INST] {image}{prompt} [/INST]"),
                    Family::Qwen2 | Family::Qwen3 => format!(
                        "<|im_start|>user\n{image}{prompt}<|im_end|>\n<|im_start|>assistant\n"
                    ),
                    Family::Phi3 => {
                        format!("<|user|>\n{image}{prompt}<|end|>\n<|assistant|>\n")
                    }
                })
            }
            Kind::Jinja { file, env, tokens } => {
                let template = env.get_template(NAME).map_err(|e| failure(file, &e))?;
                jinja::on_large_stack(|| template.render(variables(prompt, with_image, tokens)))
                    .map_err(|what| Error::model(file, what))?
                    .map_err(|e| failure(file, &e))
            }
        }
    }
}

/// What transformers hands to a template. The content is a list of parts, never a plain text.
fn variables(prompt: &str, with_image: bool, tokens: &[(String, String)]) -> Value {
    let part = |kind: &str, text: Option<&str>| {
        let entries = [("type", Some(kind)), ("text", text)];
        Value::from_pairs(entries.into_iter().filter_map(|(key, v)| Some((key, Value::from(v?)))))
    };
    let mut content = vec![part("text", Some(prompt))];
    if with_image {
        content.insert(0, part("image", None));
    }
    let message =
        Value::from_pairs([("role", Value::from("user")), ("content", Value::from(content))]);
    let fixed = [
        ("messages", Value::from(vec![message])),
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
