//! Folders of the Hugging Face cache: `models--NAME/{refs/main, snapshots/REVISION/…}`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use super::model::CONFIG;
use crate::{Error, Result};

/// An example of a command that downloads a supported model.
const EXAMPLE: &str = "hf download llava-hf/llava-v1.6-vicuna-7b-hf";

/// The folder with a model's files: `path` itself, or, if there is no such folder and it is a model name of the hub
/// (`OWNER/NAME`), that model's folder in the local cache. For a model's folder in the cache it is the snapshot that
/// `main` refers to, or else the only one.
///
/// # Errors
/// [`Error::Model`]: there is no such folder, it is a file, or it has no snapshot or several.
pub fn folder(path: &Path) -> Result<PathBuf> {
    find(path, &|name| env::var_os(name).filter(|value| !value.is_empty()))
}

fn find(path: &Path, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            refuse_gguf_folder(path)?;
            return snapshot(path);
        }
        Ok(_) => return Err(Error::model(path, what_file(path))),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
        Err(e) => return Err(Error::io(path, e)),
    }
    let (Some((owner, name)), Some(cache)) = (hub_name(path), cache(variable)) else {
        let what = format!(
            "no such folder; give a Hugging Face model folder, or the name of a model in the local Hugging Face cache \
             (to get one: {EXAMPLE})"
        );
        return Err(Error::model(path, what));
    };
    let folder = cache.join(format!("models--{owner}--{name}"));
    if folder.is_dir() {
        return snapshot(&folder);
    }
    let what = format!(
        "no such folder, and no such model in the Hugging Face cache ({}); to download it: hf download {owner}/{name}",
        cache.display()
    );
    Err(Error::model(path, what))
}

/// Owner and name of a model on the hub.
fn hub_name(path: &Path) -> Option<(&str, &str)> {
    let mut parts = path.components().map(|part| match part {
        Component::Normal(part) => part.to_str().filter(|part| {
            part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        }),
        _ => None,
    });
    match (parts.next(), parts.next(), parts.next()) {
        (Some(owner), Some(name), None) => Some((owner?, name?)),
        _ => None,
    }
}

/// The cache folder of the hub's own tools, according to the environment variables that they use.
fn cache(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let at = |name: &str, below: &[&str]| {
        let mut path = PathBuf::from(variable(name)?);
        path.extend(below);
        Some(path)
    };
    at("HF_HUB_CACHE", &[])
        .or_else(|| at("HUGGINGFACE_HUB_CACHE", &[]))
        .or_else(|| at("HF_HOME", &["hub"]))
        .or_else(|| at("XDG_CACHE_HOME", &["huggingface", "hub"]))
        .or_else(|| at("HOME", &[".cache", "huggingface", "hub"]))
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}

/// The advice for a file where a folder is expected.
fn what_file(path: &Path) -> String {
    if is_gguf(path) {
        return format!(
            "GGUF files are not supported; give the Hugging Face folder of the model, with config.json and *.safetensors (to \
             get one: {EXAMPLE})"
        );
    }
    "this is a file; give the folder that holds config.json and *.safetensors".into()
}

/// Refuses a folder that has GGUF files instead of a model's own.
fn refuse_gguf_folder(path: &Path) -> Result<()> {
    if path.join(CONFIG).exists() {
        return Ok(());
    }
    let entries = fs::read_dir(path).map_err(|e| Error::io(path, e))?;
    let gguf = entries.filter_map(|entry| Some(entry.ok()?.path())).find(|path| is_gguf(path));
    gguf.map_or(Ok(()), |file| Err(Error::model(&file, what_file(&file))))
}

/// The snapshot of a model's folder in the cache; any other folder is returned unchanged.
fn snapshot(path: &Path) -> Result<PathBuf> {
    let snapshots = path.join("snapshots");
    if path.join(CONFIG).exists() || !snapshots.is_dir() {
        return Ok(path.to_owned());
    }
    if let Ok(revision) = fs::read_to_string(path.join("refs/main")) {
        let revision = revision.trim();
        let is_name = !revision.is_empty() && revision.chars().all(|c| c.is_ascii_alphanumeric());
        if is_name && snapshots.join(revision).is_dir() {
            return Ok(snapshots.join(revision));
        }
    }
    let all: Vec<PathBuf> = fs::read_dir(&snapshots)
        .map_err(|e| Error::io(&snapshots, e))?
        .filter_map(|entry| Some(entry.ok()?.path()).filter(|path| path.is_dir()))
        .collect();
    match all.as_slice() {
        [one] => Ok(one.clone()),
        several => {
            let what = format!(
                "this folder of the Hugging Face cache has {} snapshots, and refs/main names none of them: give one \
                 of its folders snapshots/…, or download the model again",
                several.len()
            );
            Err(Error::model(path, what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_finds_its_folder_in_the_cache() {
        let home = tempfile::tempdir().unwrap();
        let snapshot = "hub/models--some--model-7b/snapshots/abc123";
        fs::create_dir_all(home.path().join(snapshot)).unwrap();
        let find = |name: &str, variables: &[(&str, PathBuf)]| {
            let value = |key: &str| variables.iter().find(|(name, _)| *name == key);
            find(Path::new(name), &|key| value(key).map(|(_, path)| path.clone().into()))
        };
        let root = home.path().to_owned();
        let found = root.join(snapshot);
        assert_eq!(find("some/model-7b", &[("HF_HOME", root.clone())]).unwrap(), found);
        let hub = root.join("hub");
        // The more specific variable takes precedence.
        let both = [("HF_HOME", "none".into()), ("HF_HUB_CACHE", hub.clone())];
        assert_eq!(find("some/model-7b", &both).unwrap(), found);
        fs::create_dir_all(root.join(".cache")).unwrap();
        fs::rename(root.join("hub"), root.join(".cache/hub")).unwrap();
        fs::create_dir(root.join(".cache/huggingface")).unwrap();
        fs::rename(root.join(".cache/hub"), root.join(".cache/huggingface/hub")).unwrap();
        let found = root.join(".cache/huggingface").join(snapshot);
        assert_eq!(find("some/model-7b", &[("HOME", root.clone())]).unwrap(), found);

        let refused = |name: &str| find(name, &[("HOME", root.clone())]).unwrap_err().to_string();
        let other = refused("some/other");
        assert!(
            other.contains("hf download some/other") && other.contains("huggingface/hub"),
            "{other}"
        );
        for name in ["model", "a/b/c", "../model", "/model/b", "a/b c"] {
            assert!(refused(name).contains("no such folder; give"), "{name}: {}", refused(name));
        }
    }

    #[test]
    fn gguf_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.Q4_K_M.GGUF");
        fs::write(&file, "GGUF").unwrap();
        for path in [dir.path(), &file] {
            let message = folder(path).unwrap_err().to_string();
            assert!(
                message.contains("model.Q4_K_M.GGUF: GGUF files are not supported"),
                "{message}"
            );
        }
        fs::write(dir.path().join(CONFIG), "{}").unwrap();
        assert_eq!(folder(dir.path()).unwrap(), dir.path());
    }
}
