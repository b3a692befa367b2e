//! Files named by the user: images to read, pictures and tensors to write.

use super::Stop;
use hired::image::{MAX_PIXELS, largest_encoded};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes that are read to recognise an image format.
const HEAD: u64 = 64;

fn failed(path: &Path, what: impl std::fmt::Display) -> Stop {
    Stop::Failed(format!("{}: {what}", path.display()))
}

/// Name and bytes of an image file with at most `max_pixels` pixels; it is decoded with the request.
pub fn read_image(path: &Path, max_pixels: Option<usize>) -> Result<(String, Vec<u8>), Stop> {
    let refused = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => failed(path, "no such file: name an image file"),
        ErrorKind::IsADirectory => failed(path, "this is a folder: name an image file"),
        _ => failed(path, error),
    };
    let file = File::open(path).map_err(refused)?;
    let limit = limit(max_pixels);
    let is_larger = file.metadata().map_err(refused)?.len() > limit;
    match if is_larger { None } else { read_bounded(file, max_pixels).map_err(refused)? } {
        Some(bytes) => Ok((path.display().to_string(), bytes)),
        None => Err(failed(path, format!("larger than {limit} bytes: give a smaller image file"))),
    }
}

/// Reads the bytes of an image with at most `max_pixels` pixels; `None` if there are too many bytes for that. If the
/// beginning is not that of an image, only the beginning is read.
pub fn read_bounded(from: impl Read, max_pixels: Option<usize>) -> io::Result<Option<Vec<u8>>> {
    let limit = limit(max_pixels);
    let mut bytes = Vec::new();
    // Reading one byte beyond the limit detects inputs that do not report their length.
    let mut from = from.take(limit + 1);
    from.by_ref().take(HEAD).read_to_end(&mut bytes)?;
    if image::guess_format(&bytes).is_ok() {
        from.read_to_end(&mut bytes)?;
    }
    Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= limit))
}

fn limit(max_pixels: Option<usize>) -> u64 {
    largest_encoded(max_pixels.unwrap_or(MAX_PIXELS)) as u64
}

/// The files that a command reads and must not overwrite.
#[derive(Debug, Default)]
pub struct Inputs(Vec<(PathBuf, Identity)>);

/// Depth to which folders are searched.
const FOLDERS: usize = 2;

/// Device and inode, which are equal for all names of a file, hard links included.
#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = PathBuf;

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<Identity> {
    fs::canonicalize(path).ok()
}

impl Inputs {
    /// The model's files and other inputs; folders stand for all files in them.
    pub fn new<'a>(model: Option<&Path>, others: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut inputs = Self::default();
        // A path that is no model folder is refused later, when the model is opened.
        let model = model.and_then(|model| hired::config::folder(model).ok());
        others.into_iter().for_each(|path| inputs.add(path, FOLDERS));
        model.iter().for_each(|path| inputs.add(path, FOLDERS));
        inputs
    }

    fn add(&mut self, path: &Path, folders: usize) {
        let Some(identity) = identity(path) else { return };
        self.0.push((path.to_owned(), identity));
        let entries = fs::read_dir(path).into_iter().flatten();
        for entry in entries.filter_map(Result::ok).filter(|_| folders > 0) {
            self.add(&entry.path(), folders - 1);
        }
    }

    /// The input file that `path` would overwrite, if any.
    fn find(&self, path: &Path) -> Option<&Path> {
        let wanted = identity(path)?;
        self.0.iter().find(|(_, identity)| *identity == wanted).map(|(path, _)| path.as_path())
    }
}

/// An output file that appears either complete or not at all: it is written under a temporary name and then renamed.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    /// The temporary name; `None` for special files such as pipes.
    beside: Option<PathBuf>,
}

impl Output {
    /// Checks, before any work, that the file can be written and is none of `inputs`.
    pub fn at(path: &Path, inputs: &Inputs) -> Result<Self, Stop> {
        if path == Path::new("-") {
            let what = "give the name of a file to write (/dev/stdout for standard output)";
            return Err(failed(path, what));
        }
        if let Some(input) = inputs.find(path) {
            let what = format!("would overwrite the input {}: name another file", input.display());
            return Err(failed(path, what));
        }
        let path = match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(failed(path, "this is a folder: name a file to write"));
            }
            Ok(found) if !found.is_file() => return Ok(Self { path: path.into(), beside: None }),
            // A link is not replaced itself; the file that it points to is.
            Ok(_) => fs::canonicalize(path).map_err(|error| failed(path, error))?,
            Err(_) if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) => {
                let what = "this link points to no file: remove it, or name another place";
                return Err(failed(path, what));
            }
            Err(_) => path.into(),
        };
        let Some(name) = path.file_name() else {
            return Err(failed(&path, "this is not the name of a file: name a file to write"));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let beside = path.with_file_name(hidden);
        // Created and removed again, so that a process that is killed meanwhile leaves nothing behind.
        let tried = File::create_new(&beside).and_then(|_| fs::remove_file(&beside));
        tried.map_err(|error| match error.kind() {
            ErrorKind::NotFound => failed(&path, "no such folder: make it, or name another place"),
            _ => failed(&path, error),
        })?;
        Ok(Self { path, beside: Some(beside) })
    }

    /// Writes the content and moves the file into place.
    pub fn write(self, bytes: &[u8]) -> Result<(), Stop> {
        let Self { path, beside } = self;
        let written = match &beside {
            None => OpenOptions::new().write(true).open(&path).and_then(|mut f| f.write_all(bytes)),
            Some(beside) => fs::write(beside, bytes).and_then(|()| fs::rename(beside, &path)),
        };
        if let (Err(_), Some(beside)) = (&written, &beside) {
            // The error to report is that of the write.
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
        let output = Output::at(&path, &Inputs::default()).unwrap();
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
        let output = Output::at(&path, &Inputs::default()).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(output.write(b"new"), Err(Stop::Failed(_))));
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn impossible_places_are_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        for path in
            [dir.path().to_owned(), dir.path().join("none/out"), "".into(), "..".into(), "-".into()]
        {
            assert!(
                matches!(Output::at(&path, &Inputs::default()), Err(Stop::Failed(_))),
                "{path:?}"
            );
        }
        assert!(names(dir.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn inputs_are_not_replaced_under_whatever_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("model")).unwrap();
        for name in ["model/weights", "picture", "other"] {
            fs::write(at(name), "kept").unwrap();
        }
        std::os::unix::fs::symlink(at("picture"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("nothing"), at("dangling")).unwrap();
        fs::hard_link(at("model/weights"), at("hard")).unwrap();
        let (model, picture) = (at("model"), at("picture"));
        let inputs = Inputs::new(Some(&model), [picture.as_path()]);
        for name in ["model/weights", "picture", "model/../picture", "link", "hard", "dangling"] {
            let refused = Output::at(&at(name), &inputs);
            assert!(matches!(refused, Err(Stop::Failed(_))), "{name}: {refused:?}");
        }
        Output::at(&at("other"), &inputs).unwrap().write(b"new").unwrap();
        Output::at(&at("model/new"), &inputs).unwrap().write(b"new").unwrap();
        assert_eq!(fs::read(at("picture")).unwrap(), b"kept");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_written_in_place() {
        Output::at(Path::new("/dev/null"), &Inputs::default()).unwrap().write(b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
