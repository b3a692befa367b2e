//! Files that the user names: images in, pictures and tensors out.

use super::Stop;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Most bytes of an encoded image: beyond the largest picture that is accepted, uncompressed at 24 bits.
const LARGEST_IMAGE: u64 = 768 << 20;

fn failed(path: &Path, what: impl std::fmt::Display) -> Stop {
    Stop::Failed(format!("{}: {what}", path.display()))
}

/// Name and bytes of an image file, which is decoded with the request.
pub fn read_image(path: &Path) -> Result<(String, Vec<u8>), Stop> {
    let refused = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => failed(path, "no such file: name an image file"),
        ErrorKind::IsADirectory => failed(path, "this is a folder: name an image file"),
        _ => failed(path, error),
    };
    let file = File::open(path).map_err(refused)?;
    let known = file.metadata().map_err(refused)?.len();
    let mut bytes = Vec::new();
    if known <= LARGEST_IMAGE {
        // A pipe does not tell its length; one byte more than allowed gives it away.
        file.take(LARGEST_IMAGE + 1).read_to_end(&mut bytes).map_err(refused)?;
    }
    if known.max(bytes.len() as u64) > LARGEST_IMAGE {
        let limit = LARGEST_IMAGE >> 20;
        return Err(failed(path, format!("larger than {limit} MiB: give a smaller image file")));
    }
    Ok((path.display().to_string(), bytes))
}

/// A file that appears whole or not at all: written beside its place, then moved there.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    /// Where it is written until it is whole; `None` for what is no regular file, such as a pipe.
    beside: Option<PathBuf>,
}

impl Output {
    /// Makes sure, before any work, that the file can be written.
    pub fn at(path: &Path) -> Result<Self, Stop> {
        let path = match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(failed(path, "this is a folder: name a file to write"));
            }
            Ok(found) if !found.is_file() => return Ok(Self { path: path.into(), beside: None }),
            // Through a link the file it points to is replaced, not the link.
            Ok(_) => fs::canonicalize(path).map_err(|error| failed(path, error))?,
            Err(_) => path.into(),
        };
        let Some(name) = path.file_name() else {
            return Err(failed(&path, "this names no file: name a file to write"));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let beside = path.with_file_name(hidden);
        // Not kept until it is needed: whatever ends the process meanwhile leaves nothing behind.
        let tried = File::create_new(&beside).and_then(|_| fs::remove_file(&beside));
        tried.map_err(|error| match error.kind() {
            ErrorKind::NotFound => failed(&path, "no such folder: make it, or name another place"),
            _ => failed(&path, error),
        })?;
        Ok(Self { path, beside: Some(beside) })
    }

    /// Writes the content and puts the file in its place.
    pub fn write(self, bytes: &[u8]) -> Result<(), Stop> {
        let Self { path, beside } = self;
        let written = match &beside {
            None => OpenOptions::new().write(true).open(&path).and_then(|mut f| f.write_all(bytes)),
            Some(beside) => fs::write(beside, bytes).and_then(|()| fs::rename(beside, &path)),
        };
        if let (Err(_), Some(beside)) = (&written, &beside) {
            // The failure to write is the one to tell.
            let _ = fs::remove_file(beside);
        }
        written.map_err(|error| failed(&path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let output = Output::at(&path).unwrap();
        assert!(names(dir.path()).is_empty());
        fs::write(&path, "old").unwrap();
        output.write(b"new").unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), names(dir.path())),
            (b"new".to_vec(), vec!["out".into()])
        );
    }

    #[test]
    fn a_place_that_is_gone_is_told_and_left_clean() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let output = Output::at(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(output.write(b"new"), Err(Stop::Failed(_))));
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn impossible_places_are_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_owned(), dir.path().join("none/out"), "".into(), "..".into()] {
            assert!(matches!(Output::at(&path), Err(Stop::Failed(_))), "{path:?}");
        }
        assert!(names(dir.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_written_in_place() {
        Output::at(Path::new("/dev/null")).unwrap().write(b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
