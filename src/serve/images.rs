//! Images as a body has them: `data:` URLs, also in place of what was downloaded, and files below a folder that the server's owner allows.

use super::error::ApiError;
use crate::cli::files::read_bounded;
use data_url::DataUrl;
use hired::Image;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;

/// The rules for images: their sources and sizes.
#[derive(Debug, Clone, Default)]
pub struct Images {
    /// The folder for `file:` URLs, without symbolic links in its path.
    pub folder: Option<PathBuf>,
    /// Largest number of pixels of an image.
    pub max_pixels: Option<usize>,
    /// Largest number of images in a request.
    pub most: usize,
}

impl Images {
    /// The image in a part's `image_url`; `param` is its position in the body.
    pub fn read(&self, value: Value, param: &str) -> Result<Image, ApiError> {
        let url = match value {
            Value::String(url) => url,
            Value::Object(mut fields) => match fields.remove("url") {
                Some(Value::String(url)) => url,
                _ => {
                    return Err(ApiError::field(
                        param,
                        format!("{param}: give an object with the string url"),
                    ));
                }
            },
            _ => {
                return Err(ApiError::field(
                    param,
                    format!("{param}: give an object with the string url"),
                ));
            }
        };
        let scheme = url.split_once(':').map(|(scheme, _)| scheme.trim().to_ascii_lowercase());
        let bytes = match scheme.as_deref() {
            Some("data") => data(&url),
            Some("file") => self.file(&url),
            Some("http" | "https") => Err(
                "this server does not download images (--fetch-images): send the image as a data: URL (data:image/png;base64,…)".into(),
            ),
            _ => Err("give the image as a data: URL (data:image/png;base64,…)".into()),
        };
        let bytes = bytes.map_err(|what| ApiError::image(param, format!("{param}: {what}")))?;
        if bytes.is_empty() {
            return Err(ApiError::image(param, format!("{param}: the image is empty")));
        }
        Ok(Image::encoded(param, bytes))
    }

    /// Reads a file below the folder. All other paths give the same error, so that clients cannot find out which
    /// files exist.
    fn file(&self, url: &str) -> Result<Vec<u8>, String> {
        let Some(folder) = &self.folder else {
            return Err(
                "this server does not allow file: URLs (--media-dir): send the image as a data: URL".into()
            );
        };
        let none = || "there is no such file below the folder that this server may read".to_owned();
        let path = url.get("file:".len()..).unwrap_or_default();
        let path =
            path.strip_prefix("//localhost/").map(|rest| format!("/{rest}")).unwrap_or(path.into());
        let path = path.strip_prefix("//").unwrap_or(&path);
        let path = percent_decode_str(path).decode_utf8().map_err(|_| none())?;
        let path = folder.join(path.as_ref());
        let path = path.canonicalize().map_err(|_| none())?;
        if !path.starts_with(folder) || !path.is_file() {
            return Err(none());
        }
        let bytes = File::open(&path).and_then(|file| read_bounded(file, self.max_pixels));
        bytes.map_err(|_| none())?.ok_or_else(|| "the file is too large".into())
    }
}

fn data(url: &str) -> Result<Vec<u8>, String> {
    let url = DataUrl::process(url)
        .map_err(|_| "this is not a valid data: URL; the form is data:image/png;base64,…")?;
    let (bytes, _) = url.decode_to_vec().map_err(|_| "the base64 of this data: URL is damaged")?;
    Ok(bytes)
}
