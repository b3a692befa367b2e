//! Reads conversations in JSON, in the format of chat APIs and transformers.

use super::Stop;
use super::images::{self, STDIN};
use hired::{Image, Message, Part, Role};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Far more than any conversation that fits a model's context, images included.
const LARGEST: u64 = 1 << 30;

/// Reads a conversation: a list of messages, or an object with one under `messages`. Images with a path are read
/// relative to the file's folder; those without one (`{"type": "image"}`) are taken from `given`, in order. Also
/// returns the names of all images.
pub fn read(
    path: &Path,
    given: Vec<(String, Vec<u8>)>,
    max_pixels: Option<usize>,
) -> Result<(Vec<Message>, Vec<String>), Stop> {
    let name = match path.as_os_str() == STDIN {
        true => "standard input".into(),
        false => path.display().to_string(),
    };
    let failed = |what: String| Stop::Failed(format!("{name}: {what}"));
    let text = text(path).map_err(|error| failed(error.to_string()))?;
    let json: Value = serde_json::from_str(&text).map_err(|error| {
        failed(format!("not valid JSON ({error}): give a list of messages, {SHAPE}"))
    })?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let count = given.len();
    let mut reader =
        Reader { folder, given: given.into_iter(), taken: 0, names: Vec::new(), max_pixels };
    let list = json.get("messages").unwrap_or(&json);
    let Some(list) = list.as_array().filter(|list| !list.is_empty()) else {
        return Err(failed(format!("this is not a list of messages: give one, {SHAPE}")));
    };
    let mut messages = Vec::with_capacity(list.len());
    for (index, json) in list.iter().enumerate() {
        let message = reader.message(json).map_err(|error| match error {
            Wrong::Here(what) => failed(format!("message {}: {what}", index + 1)),
            Wrong::Elsewhere(stop) => stop,
        })?;
        messages.push(message);
    }
    if reader.taken < count {
        return Err(failed(format!(
            "--image gives {count} images, but the messages have placeholders ({{\"type\": \"image\"}}) for {}: add one \
             for each image",
            reader.taken
        )));
    }
    Ok((messages, reader.names))
}

const SHAPE: &str = r#"such as [{"role": "user", "content": [{"type": "image", "path": "a.png"}, {"type": "text", "text": "What is it?"}]}]"#;

fn text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    match path.as_os_str() == STDIN {
        true => std::io::stdin().lock().take(LARGEST).read_to_string(&mut text)?,
        false => std::fs::File::open(path)?.take(LARGEST).read_to_string(&mut text)?,
    };
    Ok(text)
}

/// What is wrong with a message.
enum Wrong {
    /// The message itself.
    Here(String),
    /// An image that it names.
    Elsewhere(Stop),
}

struct Reader {
    folder: PathBuf,
    given: std::vec::IntoIter<(String, Vec<u8>)>,
    /// The number of given images used so far.
    taken: usize,
    names: Vec<String>,
    max_pixels: Option<usize>,
}

impl Reader {
    fn message(&mut self, json: &Value) -> Result<Message, Wrong> {
        let here = |what: &str| Err(Wrong::Here(what.into()));
        let Some(role) = json.get("role").and_then(Value::as_str) else {
            return here("it has no `role`: set system, user or assistant");
        };
        let Some(role) = Role::of(role) else {
            return here("its `role` is not system, user or assistant");
        };
        let message = Message::new(role);
        match json.get("content") {
            Some(Value::String(text)) => Ok(message.with(text.as_str())),
            Some(Value::Array(parts)) => {
                parts.iter().try_fold(message, |message, part| Ok(message.with(self.part(part)?)))
            }
            _ => here("its `content` is neither a string nor a list of parts"),
        }
    }

    fn part(&mut self, json: &Value) -> Result<Part, Wrong> {
        let here = |what: &str| Err(Wrong::Here(what.into()));
        match json.get("type").and_then(Value::as_str) {
            Some("text") => match json.get("text").and_then(Value::as_str) {
                Some(text) => Ok(text.into()),
                None => here("a part of type `text` has no `text`"),
            },
            Some("image") => {
                let place = ["path", "url", "image"].iter().find_map(|key| json.get(key));
                match place {
                    None => match self.given.next() {
                        Some((name, bytes)) => {
                            self.taken += 1;
                            Ok(self.image(name, bytes))
                        }
                        None => here(
                            "it has an image without a `path`: add the `path`, or give one --image for each such image",
                        ),
                    },
                    Some(Value::String(place)) => self.named(place),
                    Some(_) => here("the `path` or `url` of an image is not a string"),
                }
            }
            Some("image_url") => {
                let url = json.get("image_url");
                let url = url.and_then(|url| url.get("url")).or(url).and_then(Value::as_str);
                match url {
                    Some(url) => self.named(url),
                    None => here("a part of type `image_url` has no `url`"),
                }
            }
            _ => here("it has a part whose `type` is not text, image or image_url"),
        }
    }

    /// An image given by its path, relative to the conversation's folder, or as data.
    fn named(&mut self, place: &str) -> Result<Part, Wrong> {
        let path = place.strip_prefix("file://").unwrap_or(place);
        let path = match path.contains("://") || path.starts_with("data:") {
            true => PathBuf::from(path),
            false => self.folder.join(path),
        };
        let (name, bytes) = images::read(&path, self.max_pixels).map_err(Wrong::Elsewhere)?;
        Ok(self.image(name, bytes))
    }

    fn image(&mut self, name: String, bytes: Vec<u8>) -> Part {
        self.names.push(name.clone());
        Image::encoded(name, bytes).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(json: &str, given: usize) -> Result<(Vec<Message>, Vec<String>), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chat.json");
        std::fs::write(&path, json).unwrap();
        std::fs::write(dir.path().join("a.bmp"), b"BM the bytes").unwrap();
        let given = (0..given).map(|i| (format!("given {i}"), vec![i as u8])).collect();
        read(&path, given, None).map_err(|stop| match stop {
            Stop::Failed(message) => message.replace(&dir.path().display().to_string(), "DIR"),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn both_shapes_are_read() {
        let (messages, names) = conversation(
            r#"{"messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": "Compare:"},
                    {"type": "image"},
                    {"type": "image", "path": "a.bmp"},
                    {"type": "image_url", "image_url": {"url": "data:image/bmp;base64,Qk0="}},
                    {"type": "image_url", "image_url": "file://a.bmp"}
                ]},
                {"role": "assistant", "content": "Equal."}
            ]}"#,
            1,
        )
        .unwrap();
        let parts: Vec<usize> = messages.iter().map(|message| message.parts.len()).collect();
        assert_eq!(parts, [1, 5, 1]);
        assert_eq!(messages[2], Message::assistant("Equal."));
        assert_eq!(messages[1].parts[1], Image::encoded("given 0", [0]).into());
        let Part::Image(Image::Encoded { bytes, .. }) = &messages[1].parts[4] else {
            panic!("{messages:?}")
        };
        assert_eq!(bytes, b"BM the bytes");
        assert_eq!((names.len(), names[0].as_str()), (4, "given 0"));
    }

    #[test]
    fn what_is_no_conversation_is_told_by_its_place() {
        for (json, given, says) in [
            ("[", 0, "not valid JSON"),
            ("[]", 0, "not a list of messages"),
            (
                r#"[{"role": "user", "content": "x"}, {"content": "x"}]"#,
                0,
                "message 2: it has no `role`",
            ),
            (r#"[{"role": "tool", "content": "x"}]"#, 0, "not system"),
            (r#"[{"role": "user"}]"#, 0, "neither a string"),
            (r#"[{"role": "user", "content": [{"type": "video"}]}]"#, 0, "not text, image"),
            (r#"[{"role": "user", "content": [{"type": "image"}]}]"#, 0, "one --image for each"),
            (r#"[{"role": "user", "content": "x"}]"#, 2, "2 images, but the messages have"),
            (
                r#"[{"role": "user", "content": [{"type": "image", "path": "b.bmp"}]}]"#,
                0,
                "DIR/b.bmp: no such file",
            ),
            (
                r#"[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}]}]"#,
                0,
                "does not download",
            ),
        ] {
            let message = conversation(json, given).unwrap_err();
            assert!(message.contains(says) && !message.contains('\n'), "{json}: {message}");
        }
    }
}
