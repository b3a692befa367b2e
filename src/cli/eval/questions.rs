//! A file of questions: JSON lines, one question each.

use crate::cli::Stop;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Most bytes of a file of questions.
const LARGEST: u64 = 1 << 30;

/// A question and the answers that are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub prompt: String,
    pub right: Vec<String>,
}

/// An image and what is asked about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub image: PathBuf,
    pub questions: Vec<Question>,
}

#[derive(Deserialize)]
struct Line {
    image: PathBuf,
    prompt: String,
    answer: Answer,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    One(Text),
    Several(Vec<Text>),
}

/// A text, or a number, which stands for its digits.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Words(String),
    Number(serde_json::Number),
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        match text {
            Text::Words(words) => words,
            Text::Number(number) => number.to_string(),
        }
    }
}

/// Reads at most `limit` questions, those about one image together, images in the order in which they come first.
pub fn read(path: &Path, limit: Option<usize>) -> Result<Vec<Item>, Stop> {
    let failed = |what: String| Stop::Failed(format!("{}: {what}", path.display()));
    let size = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
    if size > LARGEST {
        return Err(failed(format!("has {size} bytes: give a file of questions, one a line")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    // Windows tools begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let folder = path.parent().unwrap_or(Path::new(""));
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut items: Vec<Item> = Vec::new();
    let mut places: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for (index, line) in lines.take(limit.unwrap_or(usize::MAX)) {
        let line: Line = serde_json::from_str(line).map_err(|e| {
            failed(format!(
                "line {} is no question ({}): give {{\"image\": path, \"prompt\": text, \"answer\": text or [texts]}}",
                index + 1,
                unread(&e)
            ))
        })?;
        let right = match line.answer {
            Answer::One(answer) => vec![answer.into()],
            Answer::Several(answers) => answers.into_iter().map(String::from).collect(),
        };
        if right.is_empty() || line.prompt.is_empty() {
            let what = if right.is_empty() { "answer" } else { "words in its prompt" };
            return Err(failed(format!("line {} has no {what}", index + 1)));
        }
        let image = folder.join(line.image);
        let place = *places.entry(image.clone()).or_insert(items.len());
        if place == items.len() {
            if !image.exists() {
                let missing = format!("line {}: {}: no such file", index + 1, image.display());
                return Err(failed(missing));
            }
            items.push(Item { image, questions: Vec::new() });
        }
        items[place].questions.push(Question { prompt: line.prompt, right });
    }
    if items.is_empty() {
        return Err(failed("has no question".into()));
    }
    Ok(items)
}

/// What is wrong with a line.
fn unread(error: &serde_json::Error) -> String {
    match error.to_string() {
        said if said.contains("untagged") => {
            "\"answer\" must be a text, a number or a list of them".into()
        }
        said => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, limit: Option<usize>) -> Result<Vec<Item>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("questions.jsonl");
        for image in ["a.png", "b.png"] {
            std::fs::write(dir.path().join(image), "").unwrap();
        }
        std::fs::write(&path, text).unwrap();
        match read(&path, limit) {
            Ok(items) => Ok(items),
            Err(Stop::Failed(why)) => Err(why),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn questions_about_one_image_come_together() {
        let text = "{\"image\":\"a.png\",\"prompt\":\"1\",\"answer\":\"x\",\"kind\":7}\n\n\
                    {\"image\":\"b.png\",\"prompt\":\"2\",\"answer\":[\"y\",\"z\"]}\n\
                    {\"image\":\"a.png\",\"prompt\":\"3\",\"answer\":\"w\"}\n";
        let items = read_text(text, None).unwrap();
        let told: Vec<_> = items
            .iter()
            .map(|item| (item.image.file_name().unwrap().to_str().unwrap(), item.questions.len()))
            .collect();
        assert_eq!(told, [("a.png", 2), ("b.png", 1)]);
        assert_eq!(items[1].questions[0].right, ["y", "z"]);
        assert_eq!(read_text(text, Some(2)).unwrap()[0].questions.len(), 1);
    }

    #[test]
    fn files_of_other_tools_are_read() {
        let text = "\u{feff}{\"image\":\"a.png\",\"prompt\":\"1\",\"answer\":78}\r\n\
                    {\"image\":\"a.png\",\"prompt\":\"2\",\"answer\":[1.5,\"one\"]}\r\n";
        let items = read_text(text, None).unwrap();
        let right: Vec<_> = items[0].questions.iter().map(|q| q.right.join("|")).collect();
        assert_eq!(right, ["78", "1.5|one"]);
    }

    #[test]
    fn what_is_no_question_is_told_by_its_line() {
        let good = "{\"image\":\"a.png\",\"prompt\":\"p\",\"answer\":\"x\"}\n";
        for (bad, word) in [
            ("{}", "line 2"),
            ("{\"image\":\"c.png\",\"prompt\":\"p\",\"answer\":\"x\"}", "no such file"),
            ("x", "line 2"),
            ("{\"image\":\"a.png\",\"prompt\":\"p\",\"answer\":true}", "a text, a number or"),
            ("{\"image\":\"a.png\",\"prompt\":\"p\",\"answer\":[]}", "no answer"),
            ("{\"image\":\"a.png\",\"prompt\":\"\",\"answer\":\"x\"}", "words"),
        ] {
            let why = read_text(&format!("{good}{bad}\n"), None).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
        assert!(read_text("\n", None).unwrap_err().contains("no question"));
    }
}
