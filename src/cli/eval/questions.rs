//! Reads a file of questions: JSON lines, one question each.

use crate::cli::Stop;
use crate::cli::table::Size;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Largest size in bytes of a file of questions, and of one line.
const LARGEST: u64 = 1 << 30;
const LONGEST: u64 = 1 << 20;

/// A question and its right answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Line number in the file, from 1.
    pub line: usize,
    /// The question's `id` or `question_id` in the file, if it has one.
    pub id: Value,
    pub prompt: String,
    pub right: Vec<String>,
}

/// An image and the questions about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub image: PathBuf,
    /// The image's path as the file has it.
    pub name: String,
    pub questions: Vec<Question>,
}

/// One line. Files of lmms-eval and VLMEvalKit use `question` and `answers`.
#[derive(Deserialize)]
struct Line {
    image: String,
    prompt: Option<String>,
    question: Option<String>,
    answer: Option<Answer>,
    answers: Option<Answer>,
    id: Option<Value>,
    question_id: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    One(Text),
    Several(Vec<Text>),
}

/// A text, or a number, which is read as its digits.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Words(String),
    Number(serde_json::Number),
}

impl Answer {
    fn all(self) -> Vec<String> {
        match self {
            Self::One(answer) => vec![answer.into()],
            Self::Several(answers) => answers.into_iter().map(String::from).collect(),
        }
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        match text {
            Text::Words(words) => words,
            Text::Number(number) => number.to_string(),
        }
    }
}

/// Reads at most `limit` questions, grouped by image; images are in the order of their first question.
pub fn read(path: &Path, limit: Option<usize>) -> Result<Vec<Item>, Stop> {
    let failed = |what: String| Stop::Failed(format!("{}: {what}", path.display()));
    let file = File::open(path).map_err(|e| failed(e.to_string()))?;
    let mut file = BufReader::new(file.take(LARGEST));
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut asked = 0;
    let mut items: Vec<Item> = Vec::new();
    let mut places: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for number in 1.. {
        let mut text = String::new();
        // Reading line by line with a limit also ends for devices and other inputs without line ends.
        let read = (&mut file).take(LONGEST).read_line(&mut text);
        let read = read.map_err(|e| failed(format!("line {number}: {e}")))?;
        if read as u64 == LONGEST {
            let what = format!(
                "line {number} is longer than {}: give a file with one question per line",
                Size(LONGEST)
            );
            return Err(failed(what));
        }
        if read == 0 || limit.is_some_and(|limit| asked == limit) {
            break;
        }
        // Windows tools write a byte order mark at the start of a file.
        let text = if number == 1 { text.trim_start_matches('\u{feff}') } else { &text };
        if text.trim().is_empty() {
            continue;
        }
        asked += 1;
        let line: Line = serde_json::from_str(text).map_err(|e| {
            failed(format!(
                "line {}: {}; a line is {{\"image\": path, \"prompt\": text, \"answer\": text or [texts]}}",
                number,
                unread(&e)
            ))
        })?;
        let right = line.answer.or(line.answers).map_or(Vec::new(), Answer::all);
        let prompt = line.prompt.or(line.question).unwrap_or_default();
        if right.is_empty() || prompt.is_empty() {
            let key = if right.is_empty() { "answer" } else { "prompt" };
            return Err(failed(format!("line {}: \"{key}\" is missing or empty", number)));
        }
        let image = folder.join(&line.image);
        let place = *places.entry(image.clone()).or_insert(items.len());
        if place == items.len() {
            if !image.exists() {
                let missing = format!("line {}: {}: no such file", number, image.display());
                return Err(failed(missing));
            }
            items.push(Item { image, name: line.image, questions: Vec::new() });
        }
        let id = line.id.or(line.question_id).unwrap_or_default();
        items[place].questions.push(Question { line: number, id, prompt, right });
    }
    if file.into_inner().limit() == 0 {
        return Err(failed(format!(
            "larger than {}, the limit for a file of questions",
            Size(LARGEST)
        )));
    }
    if items.is_empty() {
        return Err(failed("this file has no questions".into()));
    }
    Ok(items)
}

/// A readable message for a line that cannot be parsed.
fn unread(error: &serde_json::Error) -> String {
    match error.to_string() {
        said if said.contains("untagged") => {
            "\"answer\" must be a string, a number or a list of them".into()
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
        let text = "{\"image\":\"a.png\",\"question\":\"1\",\"answers\":[\"x\"],\"question_id\":7}\n\
                    {\"image\":\"a.png\",\"prompt\":\"2\",\"answer\":\"y\",\"id\":\"b\",\"question_id\":8,\
                    \"question\":\"other\",\"answers\":\"z\"}\n";
        let told: Vec<_> = read_text(text, None).unwrap().remove(0).questions;
        let told: Vec<_> = told
            .into_iter()
            .map(|q| (q.line, q.id.to_string(), q.prompt, q.right.join("|")))
            .collect();
        let expected = [(1, "7", "1", "x"), (2, "\"b\"", "2", "y")];
        assert_eq!(told, expected.map(|(n, i, p, r)| (n, i.into(), p.into(), r.into())));
    }

    #[test]
    fn what_is_no_question_is_told_by_its_line() {
        let good = "{\"image\":\"a.png\",\"prompt\":\"p\",\"answer\":\"x\"}\n";
        for (bad, word) in [
            ("{}", "line 2"),
            ("{\"image\":\"c.png\",\"prompt\":\"p\",\"answer\":\"x\"}", "no such file"),
            ("x", "line 2"),
            ("{\"image\":\"a.png\",\"prompt\":\"p\",\"answer\":true}", "a string, a number or"),
            ("{\"image\":\"a.png\",\"prompt\":\"p\",\"answer\":[]}", "\"answer\" is missing"),
            ("{\"image\":\"a.png\",\"prompt\":\"\",\"answer\":\"x\"}", "\"prompt\" is missing"),
        ] {
            let why = read_text(&format!("{good}{bad}\n"), None).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
        assert!(read_text("\n", None).unwrap_err().contains("no questions"));
        let endless = "x".repeat(LONGEST as usize + 1);
        assert!(read_text(&endless, None).unwrap_err().contains("line 1 is longer"));
    }
}
