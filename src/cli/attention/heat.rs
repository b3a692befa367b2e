//! Heat maps of the attention of the vision tower's class token, layer by layer, over the full image as the tower
//! sees it (Figure 3 of the HiRED paper).

use crate::cli::Stop;
use crate::cli::overlay::{CAPTION, Canvas, PANEL_SIDE};
use hired::config::ImageConfig;
use hired::engine::{Engine, Request, Stages};
use hired::select::{Budget, Method, Selection};
use std::io::Cursor;
use std::ops::ControlFlow;

const MARGIN: usize = 16;
/// Height of a caption in pixels.
const LINE: usize = 22;
/// Panels per row.
const ACROSS: usize = 4;

/// Draws a panel for each layer, as PNG.
pub fn draw(engine: &mut Engine, request: &Request, layers: &[i32]) -> Result<Vec<u8>, Stop> {
    let count = engine.config().vision.layers as i32;
    let mut numbers: Vec<i32> = Vec::new();
    for &layer in layers {
        // The engine checks whether the model has this layer.
        let number = if layer < 0 { layer.saturating_add(count) } else { layer };
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    let mut panels = Vec::with_capacity(numbers.len());
    for layer in numbers {
        // This selection ranks patches by the layer's attention and needs no other scores.
        let selection = Selection::default()
            .with_method(Method::FasterVlm)
            .with_budget(Budget::Count(1))
            .with_final_layer(layer);
        let request =
            request.clone().with_selection(selection).with_max_new_tokens(1).with_keep_stages(true);
        let answer = engine.generate(&request, |_| ControlFlow::Continue(()))?;
        panels.push((format!("layer {layer}"), answer.stages.expect("asked for")));
    }
    let (side, patches) =
        (engine.config().image.side, engine.config().image.side / engine.config().token_size());
    let scale = (PANEL_SIDE / side).max(1);
    let across = panels.len().min(ACROSS);
    let step = [scale * side + MARGIN, scale * side + LINE + MARGIN];
    let mut canvas =
        Canvas::new(across * step[0] + MARGIN, panels.len().div_ceil(ACROSS) * step[1] + MARGIN);
    for (index, (caption, stages)) in panels.iter().enumerate() {
        let (x, y) = (MARGIN + index % ACROSS * step[0], MARGIN + index / ACROSS * step[1]);
        canvas.text(&CAPTION, (x, y), caption);
        let picture = picture(stages, &engine.config().image);
        let heat = heat(stages, patches);
        for (row, column) in
            (0..(scale * side).pow(2)).map(|i| (i / (scale * side), i % (scale * side)))
        {
            let at = row / scale * side + column / scale;
            let place = [row, column].map(|n| (n as f32 + 0.5) / (scale * side) as f32);
            let colour = blended(picture[at], sampled(&heat, patches, place));
            canvas.set(x + column, y + LINE + row, colour);
        }
    }
    let mut png = Cursor::new(Vec::new());
    canvas
        .0
        .write_to(&mut png, image::ImageFormat::Png)
        .map_err(|error| Stop::Failed(format!("--heatmap: {error}")))?;
    Ok(png.into_inner())
}

/// The full image's pixels before normalisation.
fn picture(stages: &Stages, config: &ImageConfig) -> Vec<[u8; 3]> {
    let values = stages.pixel_values.as_ref().expect("an image has pixels");
    let count = stages.side * stages.side;
    let channel = |c: usize, at: usize| {
        let value = f64::from(values[c * count + at]) * config.std[c] + config.mean[c];
        (value / config.rescale).round().clamp(0.0, 255.0) as u8
    };
    (0..count).map(|at| [0, 1, 2].map(|c| channel(c, at))).collect()
}

/// Attention to the full image's patches, scaled so that the highest is 1.
fn heat(stages: &Stages, patches: usize) -> Vec<f32> {
    let scores = stages.cls_attention_final.as_ref().expect("the method looks at them");
    let scores = &scores[..patches * patches];
    let highest = scores.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    scores.iter().map(|score| score / highest).collect()
}

/// Interpolates between the centres of patches; `place` is a share of the height and width.
fn sampled(heat: &[f32], patches: usize, place: [f32; 2]) -> f32 {
    let [[top, bottom, down], [left, right, along]] = place.map(|share| {
        let at = (share * patches as f32 - 0.5).clamp(0.0, (patches - 1) as f32);
        let first = at.floor();
        [first, (first + 1.0).min((patches - 1) as f32), at - first]
    });
    let of = |row: f32, column: f32| heat[row as usize * patches + column as usize];
    let line = |row| of(row, left) * (1.0 - along) + of(row, right) * along;
    line(top) * (1.0 - down) + line(bottom) * down
}

/// Blends a grey pixel with a colour from blue over yellow to red.
fn blended(pixel: [u8; 3], heat: f32) -> [u8; 3] {
    // Few patches have most of the attention; the square root makes the others visible.
    let heat = heat.sqrt();
    let colour = match heat {
        h if h < 0.5 => [510.0 * h, 510.0 * h * 0.9, 255.0 * (1.0 - 2.0 * h)],
        h => [255.0, 460.0 * (1.0 - h), 0.0],
    };
    let grey = pixel.iter().map(|&c| f32::from(c)).sum::<f32>() / 3.0;
    colour.map(|c| (0.45 * grey + 0.55 * c) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_is_the_patches_own_in_their_middles() {
        let heat = [0.0, 0.25, 0.5, 1.0];
        for (index, expected) in heat.into_iter().enumerate() {
            let place = [index / 2, index % 2].map(|n| (n as f32 + 0.5) / 2.0);
            assert_eq!(sampled(&heat, 2, place), expected);
        }
        assert_eq!(sampled(&heat, 2, [0.5, 0.5]), 0.4375);
        assert_eq!(sampled(&heat, 2, [0.0, 0.0]), 0.0);
        assert!(blended([128; 3], 1.0)[0] > blended([128; 3], 0.0)[0]);
    }
}
