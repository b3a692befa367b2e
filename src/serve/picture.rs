//! The picture of kept patches in an answer.

use super::server::Server;
use crate::cli::overlay::overlay;
use crate::cli::select::counted;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hired::image::{MAX_PIXELS, Resample, decode_within, tiles};
use hired::select::Geometry;
use hired::{Image, Result, Visual};
use std::io::Cursor;

/// Draws a PNG as a `data:` URL.
pub fn draw(server: &Server, image: &Image, visual: &Visual) -> Result<Option<String>> {
    let (Some(loaded), Image::Encoded { name, bytes }) = (server.loaded(), image) else {
        return Ok(None);
    };
    let most = server.settings.terms.images.max_pixels.unwrap_or(MAX_PIXELS);
    let pixels = decode_within(bytes, name, most)?;
    let config = &loaded.config;
    let resample = Resample::of(&config.image, server.settings.resample);
    let tiles = tiles(&pixels, &config.image, resample)?;
    let geometry = Geometry::of(&tiles.layout, config)?;
    let title = format!("{} of {} image tokens kept", counted(visual), visual.valid);
    let mut png = Cursor::new(Vec::new());
    let drawn = overlay(&tiles.pixels, &geometry, visual, &title);
    if drawn.write_to(&mut png, image::ImageFormat::Png).is_err() {
        return Ok(None);
    }
    Ok(Some(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png.into_inner()))))
}
