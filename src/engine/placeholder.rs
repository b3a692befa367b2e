//! The placeholder of an image in a prompt.

use crate::config::{Architecture, ModelConfig};
use crate::text::{SpecialTokens, Tokenizer};
use crate::{Error, Result};
use std::borrow::Cow;
use std::path::Path;

/// The text that stands for an image in LLaVA's prompts, accepted in the prompts of all models.
const IMAGE: &str = "<image>";

/// A model's image placeholder: one token, which is replaced by the image's rows.
#[derive(Debug)]
pub struct Placeholder {
    /// The text of the token.
    text: String,
    /// The tokens that open and close an image (InternVL), if there are any.
    around: Option<[u32; 2]>,
}

impl Placeholder {
    /// # Errors
    /// [`Error::Model`] if the tokenizer and the configuration disagree on the token's id, or an enclosing token is
    /// missing.
    pub fn of(
        dir: &Path,
        config: &ModelConfig,
        tokenizer: &Tokenizer,
        special: &SpecialTokens,
    ) -> Result<Self> {
        let wrong = |what| Error::model(dir.join("tokenizer.json"), what);
        let named = |name, default: &str| special.get(name).unwrap_or(default).to_owned();
        let brackets = config.architecture == Architecture::InternVl;
        let text = match brackets {
            true => named("context_image_token", "<IMG_CONTEXT>"),
            false => IMAGE.into(),
        };
        if let Some(id) = tokenizer.token_id(&text).filter(|&id| id != config.image_token) {
            return Err(wrong(format!(
                "{text} has id {id} here and {} in config.json (image_token_id or image_token_index): take both files from \
                 one model",
                config.image_token
            )));
        }
        if !brackets {
            return Ok(Self { text, around: None });
        }
        let id = |name, default| {
            let text = named(name, default);
            let id = tokenizer.token_id(&text).filter(|&id| (id as usize) < config.text.vocab);
            id.ok_or_else(|| {
                wrong(format!(
                    "has no token {text} ({name}), which encloses an image: download it again"
                ))
            })
        };
        let around = Some([id("start_image_token", "<img>")?, id("end_image_token", "</img>")?]);
        Ok(Self { text, around })
    }

    /// Rewrites `<image>` in a rendered prompt to the model's own placeholder. Some templates produce `<image>`, and
    /// users may write it in a complete prompt.
    pub fn spell<'a>(&self, rendered: &'a str) -> Cow<'a, str> {
        match self.text == IMAGE || !rendered.contains(IMAGE) {
            true => Cow::Borrowed(rendered),
            false => Cow::Owned(rendered.replace(IMAGE, &self.text)),
        }
    }

    /// Adds the tokens that enclose an image to the texts around it.
    pub fn surround(&self, texts: &mut [Vec<u32>]) {
        let (Some([open, close]), Some(last)) = (self.around, texts.len().checked_sub(1)) else {
            return;
        };
        for (index, text) in texts.iter_mut().enumerate() {
            if index > 0 {
                text.insert(0, close);
            }
            if index < last {
                text.push(open);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_stand_between_their_tokens() {
        let plain = Placeholder { text: IMAGE.into(), around: None };
        let bracketed = Placeholder { text: "<ctx>".into(), around: Some([8, 9]) };
        let texts = vec![vec![1], vec![], vec![2, 3]];
        let surrounded = |placeholder: &Placeholder| {
            let mut texts = texts.clone();
            placeholder.surround(&mut texts);
            texts
        };
        assert_eq!(surrounded(&plain), texts);
        assert_eq!(surrounded(&bracketed), [vec![1, 8], vec![9, 8], vec![9, 2, 3]]);
        assert_eq!(plain.spell("a <image> b"), "a <image> b");
        assert_eq!(bracketed.spell("<ctx> <image>"), "<ctx> <ctx>");
    }
}
