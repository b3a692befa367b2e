//! Turns the text of a request into token ids with placeholders for its images.

use super::messages::{Message, Part};
use super::prepare::Preparer;
use super::request::{Prompt, Request};
use crate::text::{Piece, Turn};
use crate::{Error, Result};
use std::borrow::Cow;

impl Preparer {
    /// The token ids of a prompt with the given number of images.
    pub(super) fn ids(&self, request: &Request, images: usize) -> Result<Vec<u32>> {
        let with_image = images > 0;
        match &request.prompt {
            Prompt::Messages(messages) => {
                if request.image.is_some() {
                    return Err(Error::Request(
                        "the request has messages and an image beside them: put the image into a message".into(),
                    ));
                }
                self.conversation(messages, request.literal)
            }
            Prompt::User(words) if request.literal => {
                let (marked, mark) = self.tokenizer.mark(&[words])?;
                let rendered = self.template.render(&marked[0], with_image)?;
                self.tokenizer.encode_marked(&self.placeholder.spell(&rendered), mark)
            }
            _ if request.literal => Err(Error::Request(
                "only a user's text can be literal, but this request has a complete prompt: leave out literal".into(),
            )),
            Prompt::User(words) => {
                let rendered = self.template.render(words, with_image)?;
                self.tokenizer.encode_prompt(&self.placeholder.spell(&rendered))
            }
            Prompt::Raw(text) => self.tokenizer.encode_prompt(&self.placeholder.spell(text)),
            Prompt::Ids(ids) => Ok(ids.clone()),
        }
    }

    /// The token ids of a conversation.
    fn conversation(&self, messages: &[Message], literal: bool) -> Result<Vec<u32>> {
        if messages.is_empty() {
            return Err(Error::Request("the conversation has no messages: give one".into()));
        }
        let parts = || messages.iter().flat_map(|message| &message.parts);
        let texts: Vec<&str> = parts()
            .filter_map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                Part::Image(_) => None,
            })
            .collect();
        let (marked, mark) = match literal {
            true => self.tokenizer.mark(&texts).map(|(marked, mark)| (marked, Some(mark)))?,
            false => (Vec::new(), None),
        };
        let mut marked = marked.into_iter();
        let mut turns: Vec<Vec<Cow<'_, str>>> = Vec::new();
        for message in messages {
            let mut texts = Vec::new();
            for part in &message.parts {
                let Part::Text(text) = part else { continue };
                texts.push(match marked.next() {
                    // Two adjacent texts could form a special token together.
                    Some(marked) if !texts.is_empty() => {
                        Cow::Owned(mark.into_iter().chain(marked.chars()).collect::<String>())
                    }
                    Some(marked) => Cow::Owned(marked),
                    None => Cow::Borrowed(text.as_str()),
                });
            }
            turns.push(texts);
        }
        let turns: Vec<Turn<'_>> = messages
            .iter()
            .zip(&turns)
            .map(|(message, texts)| {
                let mut texts = texts.iter();
                let piece = |part: &Part| match part {
                    Part::Image(_) => Some(Piece::Image),
                    Part::Text(_) => texts.next().map(|text| Piece::Text(text)),
                };
                Turn {
                    role: message.role.name(),
                    content: message.parts.iter().filter_map(piece).collect(),
                }
            })
            .collect();
        let rendered = self.template.render_turns(&turns).map_err(|error| match error {
            // If the template refuses the order of the roles, the conversation is at fault, not the model.
            Error::Model { path, what } => Error::Request(format!(
                "the model's chat template does not accept this conversation: {}: {what}",
                path.display()
            )),
            error => error,
        })?;
        let rendered = self.placeholder.spell(&rendered);
        match mark {
            Some(mark) => self.tokenizer.encode_marked(&rendered, mark),
            None => self.tokenizer.encode_prompt(&rendered),
        }
    }

    /// Splits the ids at the image tokens: those before each image, then those after the last one.
    pub(super) fn split(
        &self,
        ids: Vec<u32>,
        images: usize,
        is_whole: bool,
    ) -> Result<Vec<Vec<u32>>> {
        let vocab = self.config.text.vocab;
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
            return Err(Error::Request(format!(
                "the prompt has token id {id}, the model has {vocab} tokens: \
                 tokenizer.json and config.json do not belong together, or the ids are another model's"
            )));
        }
        let image_token = self.config.image_token;
        let mut texts: Vec<Vec<u32>> =
            ids.split(|&id| id == image_token).map(<[u32]>::to_vec).collect();
        let places = texts.len() - 1;
        if ids.is_empty() {
            return Err(Error::Request("the prompt is empty: give some text".into()));
        }
        if places == images {
            self.placeholder.surround(&mut texts);
            return Ok(texts);
        }
        let have = match images {
            0 => "no image".into(),
            1 => "one image".into(),
            many => format!("{many} images"),
        };
        Err(Error::Request(match (images, is_whole) {
            (0, false) if places > 0 => {
                "the question contains `<image>`, which marks where an image goes, and the request \
                 has no image: give one, or treat the question as plain text (--literal)"
                    .into()
            }
            (1, false) if places > 1 => format!(
                "the question contains `<image>`, which marks where the image goes, so the prompt has {places} of them: \
                 leave it out of the question (the image is placed before it), treat the question as plain text \
                 (--literal), or write the whole prompt yourself (--raw-prompt)",
            ),
            (_, false) if places > images => format!(
                "the text contains `<image>`, which marks where an image goes, so the prompt has {places} of them and the \
                 request {have}: leave it out of the text, or treat it as plain text (--literal)",
            ),
            (_, false) => format!(
                "the model's chat template has {places} image placeholders (<image>), the request has {have}: it \
                 leaves out images of some messages, such as the system's; put them into the user's"
            ),
            _ => format!(
                "the prompt has {places} image placeholders (<image>), the request has {have}: the numbers must be equal",
            ),
        }))
    }
}
