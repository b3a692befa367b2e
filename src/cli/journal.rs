//! A file of results that grows line by line while a command works, and from which the same command can resume.
//!
//! It consists of JSON lines: the first one holds the settings, each further one a result. A line is on disk before
//! the next piece of work begins, so Ctrl-C or a crash loses only the work in progress.

use super::Stop;
use hired::select::Selection;
use serde_json::{Map, Value, json};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Largest size of such a file in bytes.
const LARGEST: u64 = 4 << 30;

/// The settings that the results depend on, by name.
pub type Settings = Map<String, Value>;

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens or creates the file and returns the results in it. `command` is the subcommand that writes it. A file
    /// with other settings, or one that was not written by this command, is an error.
    pub fn open(
        path: &Path,
        command: &str,
        settings: &Settings,
    ) -> Result<(Self, Vec<Value>), Stop> {
        let failed = |what: &dyn std::fmt::Display| failed(path, what);
        if path.is_dir() {
            return Err(failed(&"this is a folder: name a file for the results"));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(|e| failed(&e))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(failed(&"another process is writing to it: name another file"));
        }
        let known = file.metadata().map_err(|e| failed(&e))?;
        if !known.is_file() || known.len() > LARGEST {
            return Err(failed(&"this is not a file of results: name another file"));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| failed(&e))?;
        // A line that a crash left incomplete is dropped.
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let lines = read(&bytes[..whole]).map_err(|what| failed(&what))?;
        let mut journal = Self { path: path.into(), file };
        let Some((head, results)) = lines.split_first() else {
            // A file that was not written by this program may only be used if it is empty.
            if !bytes.is_empty() && !bytes.starts_with(b"{\"schema\"") {
                return Err(failed(&foreign(command)));
            }
            journal.cut(0)?;
            let head = json!({"schema": 1, "command": command, "settings": settings});
            journal.append(&[head])?;
            return Ok((journal, Vec::new()));
        };
        let (Some(Value::Object(before)), true) =
            (head.get("settings"), head["command"] == command)
        else {
            return Err(failed(&foreign(command)));
        };
        if let Some(difference) = difference(before, settings) {
            return Err(failed(&format!(
                "its results belong to a different run: {difference}; repeat the same command, or name another file"
            )));
        }
        journal.cut(whole as u64)?;
        Ok((journal, results.to_vec()))
    }

    /// Appends results and waits until they are on disk.
    pub fn append(&mut self, results: &[Value]) -> Result<(), Stop> {
        let mut text = String::new();
        for result in results {
            text += &result.to_string();
            text.push('\n');
        }
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|e| failed(&self.path, &e))
    }

    /// Truncates the file to `length` bytes and continues writing there.
    fn cut(&mut self, length: u64) -> Result<(), Stop> {
        let cut = self.file.set_len(length).and_then(|()| self.file.seek(SeekFrom::Start(length)));
        cut.map(|_| ()).map_err(|e| failed(&self.path, &e))
    }
}

fn failed(path: &Path, what: &dyn std::fmt::Display) -> Stop {
    Stop::Failed(format!("{}: {what}", path.display()))
}

fn foreign(command: &str) -> String {
    format!(
        "this file was not written by 'hired {command}', which leaves it alone: name another file"
    )
}

/// Parses the lines of a file.
fn read(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let lines = bytes.split(|&byte| byte == b'\n').enumerate();
    let told = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    told.map(|(index, line)| {
        serde_json::from_slice(line).map_err(|e| {
            format!("line {} is not JSON ({e}): delete the line, or name another file", index + 1)
        })
    })
    .collect()
}

/// Lists every setting that differs, with both values.
fn difference(before: &Settings, now: &Settings) -> Option<String> {
    let mut keys: Vec<&String> = before.keys().chain(now.keys()).collect();
    let mut seen = std::collections::BTreeSet::new();
    keys.retain(|&key| seen.insert(key));
    let value = |settings: &Settings, key: &str| match settings.get(key) {
        None | Some(Value::Null) => "not set".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let told: Vec<String> = keys
        .into_iter()
        .filter(|key| before.get(*key) != now.get(*key))
        .map(|key| format!("{key} was {}, now it is {}", value(before, key), value(now, key)))
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// The settings of a selection apart from method and budget, which are part of each result.
pub fn of_selection(selection: &Selection) -> Settings {
    let Selection { rule, alpha, init_layer, final_layer, heads, score, newlines, .. } = selection;
    let mut all = Settings::new();
    all.insert("rule".into(), rule.to_string().into());
    all.insert("alpha".into(), alpha.value().into());
    all.insert("init_layer".into(), (*init_layer).into());
    all.insert("final_layer".into(), json!(final_layer));
    all.insert("heads".into(), heads.to_string().into());
    if let Some(score) = score {
        all.insert("score".into(), score.to_string().into());
    }
    all.insert("newlines".into(), json!(newlines.map(|newlines| newlines.to_string())));
    all.insert("lazy_tiles".into(), selection.lazy_tiles.into());
    all.extend(of_tuning(selection));
    all
}

/// The settings that are parameters of individual methods.
pub fn of_tuning(selection: &Selection) -> Settings {
    let tuning = &selection.tuning;
    let mut all = Settings::new();
    all.insert("drop_seed".into(), selection.seed.into());
    all.insert("spatial".into(), tuning.spatial.to_string().into());
    all.insert("prumerge_count".into(), tuning.prumerge.to_string().into());
    all.insert("neighbours".into(), tuning.neighbours.into());
    all.insert("outliers".into(), tuning.outliers.to_string().into());
    all.insert("contextual".into(), tuning.contextual.to_string().into());
    all.insert("saliency".into(), tuning.saliency.to_string().into());
    all.insert("key_layer".into(), json!(tuning.key_layer));
    all.insert("fastv_layer".into(), tuning.fastv_layer.into());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(budget: &str) -> Settings {
        json!({"model": "m", "budget": budget}).as_object().unwrap().clone()
    }

    fn why(path: &Path, settings: &Settings) -> String {
        match Journal::open(path, "bench", settings) {
            Err(Stop::Failed(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_written_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        let (mut journal, before) = Journal::open(&path, "bench", &settings("20%")).unwrap();
        assert!(before.is_empty());
        journal.append(&[json!({"row": 1}), json!({"row": 2})]).unwrap();
        let busy = why(&path, &settings("20%"));
        assert!(busy.contains("another process"), "{busy}");
        drop(journal);
        // A crash in the middle of a line loses only that line.
        let mut text = std::fs::read_to_string(&path).unwrap();
        text += "{\"row\": 3";
        std::fs::write(&path, &text).unwrap();
        let (mut journal, before) = Journal::open(&path, "bench", &settings("20%")).unwrap();
        assert_eq!(before, [json!({"row": 1}), json!({"row": 2})]);
        journal.append(&[json!({"row": 3})]).unwrap();
        drop(journal);
        let (_, before) = Journal::open(&path, "bench", &settings("20%")).unwrap();
        assert_eq!(before.len(), 3);
    }

    #[test]
    fn results_of_other_settings_and_other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        drop(Journal::open(&path, "bench", &settings("20%")).unwrap());
        let told = why(&path, &settings("10%"));
        assert!(
            told.contains("budget was 20%, now it is 10%") && !told.contains("model"),
            "{told}"
        );
        for foreign in
            ["{\"a\":1}\n", "no line end", "{\"a\":1", "{\"schema\":1,\"command\":\"eval\"}\n"]
        {
            std::fs::write(&path, foreign).unwrap();
            assert!(
                why(&path, &settings("20%")).contains("not written by 'hired bench'"),
                "{foreign}"
            );
            assert_eq!(std::fs::read_to_string(&path).unwrap(), foreign);
        }
        std::fs::write(&path, "text\n").unwrap();
        assert!(why(&path, &settings("20%")).contains("line 1 is not JSON"));
        assert!(why(dir.path(), &settings("20%")).contains("folder"));
    }
}
