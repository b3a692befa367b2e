//! Reads the images of a command line: files, folders, standard input and `data:` URLs.

use super::Stop;
use super::files::{read_bounded, read_image};
use data_url::DataUrl;
use std::path::{Path, PathBuf};

/// The name that stands for standard input.
pub const STDIN: &str = "-";

/// File extensions that are read from a folder.
const ENDINGS: [&str; 7] = ["png", "jpg", "jpeg", "jfif", "webp", "bmp", "gif"];

/// Name and bytes of every requested image; a folder stands for the images in it.
pub fn read_images(
    asked: &[PathBuf],
    max_pixels: Option<usize>,
) -> Result<Vec<(String, Vec<u8>)>, Stop> {
    let mut images = Vec::new();
    for path in asked {
        if path.as_os_str() != STDIN && path.is_dir() {
            for file in folder(path)? {
                images.push(read_image(&file, max_pixels)?);
            }
        } else {
            images.push(read(path, max_pixels)?);
        }
    }
    Ok(images)
}

/// Name and bytes of one image.
pub fn read(asked: &Path, max_pixels: Option<usize>) -> Result<(String, Vec<u8>), Stop> {
    let text = asked.to_str().unwrap_or_default();
    let scheme = text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        _ if text == STDIN => stdin(max_pixels),
        Some("data") => data(text),
        Some("http" | "https") if text.contains("://") => Err(Stop::Failed(format!(
            "{text}: hired does not download images: download it yourself, for example with curl, and give the file, or pipe \
             it in with --image -"
        ))),
        _ => read_image(asked, max_pixels),
    }
}

/// The image files of a folder, sorted by name.
fn folder(path: &Path) -> Result<Vec<PathBuf>, Stop> {
    let failed = |what: String| Stop::Failed(format!("{}: {what}", path.display()));
    let entries = std::fs::read_dir(path).map_err(|error| failed(error.to_string()))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(|error| failed(error.to_string()))?.path();
        let ending =
            file.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
        if ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(failed(format!(
            "this folder has no image files ({})",
            ENDINGS.map(|ending| format!(".{ending}")).join(", ")
        )));
    }
    files.sort();
    Ok(files)
}

fn stdin(max_pixels: Option<usize>) -> Result<(String, Vec<u8>), Stop> {
    let failed = |what: String| Stop::Failed(format!("standard input: {what}"));
    let bytes = read_bounded(std::io::stdin().lock(), max_pixels);
    match bytes.map_err(|error| failed(error.to_string()))? {
        None => Err(failed("larger than the limit: give a smaller image".into())),
        Some(bytes) if bytes.is_empty() => {
            Err(failed("it is empty: with --image - pipe in an image file".into()))
        }
        Some(bytes) => Ok(("standard input".into(), bytes)),
    }
}

fn data(text: &str) -> Result<(String, Vec<u8>), Stop> {
    let start: String = text.chars().take(40).collect();
    let name = if start.len() < text.len() { format!("{start}…") } else { start };
    let failed = |what: &str| Stop::Failed(format!("{name}: {what}"));
    let url = DataUrl::process(text).map_err(|_| {
        failed("this is not a valid data: URL; the form is data:image/png;base64,…")
    })?;
    let (bytes, _) = url
        .decode_to_vec()
        .map_err(|_| failed("the base64 of this data: URL is damaged: encode the image again"))?;
    Ok((name, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(asked: &str) -> String {
        match read_images(&[asked.into()], None) {
            Err(Stop::Failed(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_folder_stands_for_its_images_by_name() {
        let dir = tempfile::tempdir().unwrap();
        assert!(refused(dir.path().to_str().unwrap()).contains("has no image files"));
        for name in ["b.PNG", "a.jpeg", "notes.txt", "c.gif"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        std::fs::create_dir(dir.path().join("d.png")).unwrap();
        let read: Vec<Vec<u8>> = read_images(&[dir.path().into()], None)
            .unwrap()
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect();
        assert_eq!(read, [b"a.jpeg".to_vec(), b"b.PNG".to_vec(), b"c.gif".to_vec()]);
    }

    #[test]
    fn data_urls_carry_their_bytes() {
        let (name, bytes) = read(Path::new("data:image/png;base64,aGlyZWQ="), None).unwrap();
        assert_eq!(
            (name.as_str(), bytes.as_slice()),
            ("data:image/png;base64,aGlyZWQ=", &b"hired"[..])
        );
        assert!(refused("data:image/png").contains("data:image/png;base64,"));
        assert!(refused("data:image/png;base64,a!").contains("base64"));
        assert!(refused("https://example.org/a.png").contains("does not download"));
    }
}
