//! The first frame of a GIF, placed on its canvas.

use gif::{ColorOutput, DecodeOptions};

use super::{RgbImage, check_pixels, unreadable};

/// Decodes what Pillow shows of a GIF's first frame: a canvas filled with the transparent index (0 without one), with
/// the first frame drawn on it, opaque.
pub(super) fn decode(bytes: &[u8], most: usize) -> Result<RgbImage, String> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    let mut decoder = options.read_info(bytes).map_err(unreadable)?;
    let screen = (usize::from(decoder.width()), usize::from(decoder.height()));
    let frame = decoder.next_frame_info().map_err(unreadable)?;
    let frame = frame.ok_or_else(|| unreadable("it has no frame"))?.clone();
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (columns, rows) = (usize::from(frame.width), usize::from(frame.height));
    // A frame that extends beyond the canvas enlarges the image.
    let (width, height) = (screen.0.max(left + columns), screen.1.max(top + rows));
    check_pixels(width, height, most)?;

    let mut palette = [[0; 3]; 256];
    let colours = decoder.palette().map_err(unreadable)?;
    for (slot, colour) in palette.iter_mut().zip(colours.chunks_exact(3)) {
        slot.copy_from_slice(colour);
    }
    let mut indices = vec![0; columns * rows];
    decoder.read_into_buffer(&mut indices).map_err(unreadable)?;

    let background = palette[usize::from(frame.transparent.unwrap_or(0))];
    let mut pixels = background.repeat(width * height);
    if columns > 0 {
        let lines = pixels.chunks_exact_mut(width * 3).skip(top);
        for (line, row) in lines.zip(indices.chunks_exact(columns)) {
            for (pixel, &index) in line[left * 3..].chunks_exact_mut(3).zip(row) {
                pixel.copy_from_slice(&palette[usize::from(index)]);
            }
        }
    }
    let transparent = frame.transparent.map(|index| palette[usize::from(index)]);
    Ok(RgbImage { width, height, pixels, transparent })
}
