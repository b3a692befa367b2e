//! Draws a selection: one panel per partition, with dropped patches dimmed and merged ones tinted.

use std::convert::Infallible;

use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::mono_font::ascii::{FONT_9X15, FONT_9X18_BOLD};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};
use hired::engine::Visual;
use hired::select::Geometry;
use image::{Rgb, RgbImage};

const BACKGROUND: Rgb888 = Rgb888::new(24, 24, 28);
const TEXT: Rgb888 = Rgb888::new(235, 235, 235);
const OUTLINE: Rgb888 = Rgb888::new(255, 200, 0);
const HATCH: [Rgb888; 2] = [Rgb888::new(58, 62, 82), Rgb888::new(38, 40, 54)];

const MARGIN: usize = 16;
const GAP: usize = 12;
const TITLE: MonoFont = FONT_9X18_BOLD;
pub const CAPTION: MonoFont = FONT_9X15;
const TITLE_HEIGHT: usize = 26;
const LEGEND_HEIGHT: usize = 30;
const CAPTION_HEIGHT: usize = 19;
/// Small partitions are enlarged by an integer factor to about this side in pixels, so that their captions fit.
pub const PANEL_SIDE: usize = 336;

/// The state of a pixel in a panel.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Kept,
    Merged,
    Dropped,
    Padding,
}

/// Draws which patches of each partition were kept.
///
/// The full image's panel comes first, then the sub-images in the layout of their grid. Kept patches keep their
/// colours and are outlined; patches merged into other tokens are blue, and the legend counts the merged tokens;
/// dropped patches are dark and grey; padding is hatched. Each caption gives kept / valid patches, and how many of
/// its tokens a partition lost to padding, if any.
///
/// `tiles`: u8 \[P, 3, S, S\], the pixels of the partitions that `geometry` and `visual` describe.
pub fn overlay(tiles: &[u8], geometry: &Geometry, visual: &Visual, title: &str) -> RgbImage {
    let pixels = geometry.pixels();
    let (gh, gw) = geometry.grid().unwrap_or((1, 0));
    let scale = ((PANEL_SIDE + pixels / 2) / pixels).max(1);
    // Next to several rows of sub-images the full image is drawn twice as large, so that objects have about the same
    // size.
    let full_scale = scale * gh.min(2);

    let captions: Vec<String> =
        (0..geometry.partitions()).map(|i| caption(geometry, visual, i)).collect();
    let caption_width = |text: &String| text_width(&CAPTION, text);
    let full_width = caption_width(&captions[0]).max(pixels * full_scale);
    let cell_width = captions[1..].iter().map(caption_width).fold(pixels * scale, usize::max);
    let cell_height = CAPTION_HEIGHT + pixels * scale;
    let head = MARGIN + TITLE_HEIGHT + LEGEND_HEIGHT;
    let panels_width = full_width + gw * (GAP + cell_width);
    let panels_height = (gh * (cell_height + GAP) - GAP).max(CAPTION_HEIGHT + pixels * full_scale);
    let of_tokens: Vec<_> = (0..captions.len()).map(|i| states(geometry, visual, i)).collect();
    let shown = |i: usize, patch: usize| match geometry.shown(i, patch) {
        Some((partition, token)) => of_tokens[partition][token],
        None => State::Padding,
    };
    let states: Vec<Vec<State>> = (0..captions.len())
        .map(|i| (0..geometry.patches()).map(|patch| shown(i, patch)).collect())
        .collect();
    let shown = |state: State| states.iter().flatten().any(|&s| s == state);
    let mut legend = legend(visual);
    legend.retain(|&(state, _)| shown(state) || state == State::Merged && visual.merged > 0);
    let legend_width = legend.iter().map(|(_, name)| legend_item_width(name)).sum();
    let width = panels_width.max(text_width(&TITLE, title)).max(legend_width);

    let mut canvas = Canvas::new(width + 2 * MARGIN, head + panels_height + MARGIN);
    canvas.text(&TITLE, (MARGIN, MARGIN), title);
    canvas.legend((MARGIN, MARGIN + TITLE_HEIGHT), &legend);
    for (i, (tile, text)) in tiles.chunks_exact(3 * pixels * pixels).zip(&captions).enumerate() {
        let (x, y, scale) = match i.checked_sub(1) {
            None => (0, 0, full_scale),
            Some(sub) => {
                let (row, column) = (sub / gw, sub % gw);
                let x = full_width + GAP + column * (cell_width + GAP);
                (x, row * (cell_height + GAP), scale)
            }
        };
        canvas.text(&CAPTION, (MARGIN + x, head + y), text);
        let corner = (MARGIN + x, head + y + CAPTION_HEIGHT);
        canvas.panel(corner, tile, &states[i], geometry, scale);
    }
    canvas.0
}

fn caption(geometry: &Geometry, visual: &Visual, i: usize) -> String {
    let name = match (i.checked_sub(1), geometry.grid()) {
        (Some(sub), Some((_, gw))) => format!("({},{})", sub / gw, sub % gw),
        _ => "full image".into(),
    };
    let arriving = visual.kept_indices[i].len();
    let lost = match visual.allocation[i].saturating_sub(arriving) {
        0 => String::new(),
        lost => format!(", {lost} lost"),
    };
    format!("{name} {arriving}/{}{lost}", geometry.valid_in(i))
}

fn states(geometry: &Geometry, visual: &Visual, i: usize) -> Vec<State> {
    let unkept = |patch| if geometry.is_valid(i, patch) { State::Dropped } else { State::Padding };
    let mut states: Vec<State> = (0..geometry.patches()).map(unkept).collect();
    for (indices, state) in
        [(&visual.merged_indices, State::Merged), (&visual.kept_indices, State::Kept)]
    {
        indices[i].iter().for_each(|&patch| states[patch as usize] = state);
    }
    states
}

fn text_width(font: &MonoFont, text: &str) -> usize {
    text.chars().count() * (font.character_size.width + font.character_spacing) as usize
}

const SWATCH: usize = 14;

fn legend(visual: &Visual) -> Vec<(State, String)> {
    let merged = match visual.merged {
        0 => "merged".into(),
        1 => "merged, 1 row added".into(),
        rows => format!("merged, {rows} rows added"),
    };
    vec![
        (State::Kept, "kept".into()),
        (State::Merged, merged),
        (State::Dropped, "dropped".into()),
        (State::Padding, "padding".into()),
    ]
}

fn legend_item_width(name: &str) -> usize {
    SWATCH + 8 + text_width(&CAPTION, name) + 24
}

fn grey([r, g, b]: [u8; 3]) -> u32 {
    (299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b)) / 1000
}

/// Dark and nearly grey, but still recognisable.
fn dimmed(pixel: [u8; 3]) -> [u8; 3] {
    pixel.map(|c| ((u32::from(c) + 4 * grey(pixel)) * 32 / 500 + 8) as u8)
}

/// Grey on blue, darker than kept patches.
fn tinted(pixel: [u8; 3]) -> [u8; 3] {
    [(10, 22), (36, 34), (76, 46)].map(|(base, share)| (base + grey(pixel) * share / 100) as u8)
}

fn shown(state: State, pixel: [u8; 3], x: usize, y: usize) -> [u8; 3] {
    match state {
        State::Kept => pixel,
        State::Merged => tinted(pixel),
        State::Dropped => dimmed(pixel),
        State::Padding => rgb(HATCH[usize::from((x + y) % 10 >= 3)]),
    }
}

fn rgb(colour: Rgb888) -> [u8; 3] {
    [colour.r(), colour.g(), colour.b()]
}

/// The picture being drawn, as a target for embedded-graphics.
pub struct Canvas(pub RgbImage);

impl Canvas {
    pub fn new(width: usize, height: usize) -> Self {
        Canvas(RgbImage::from_pixel(width as u32, height as u32, Rgb(rgb(BACKGROUND))))
    }

    /// Draws a line of text below the corner (x, y).
    pub fn text(&mut self, font: &MonoFont, (x, y): (usize, usize), text: &str) {
        let style = MonoTextStyle::new(font, TEXT);
        let at = Point::new(x as i32, y as i32);
        let Ok(_) = Text::with_baseline(text, at, style, Baseline::Top).draw(self);
    }

    fn legend(&mut self, (mut x, y): (usize, usize), entries: &[(State, String)]) {
        for (state, name) in entries {
            let state = *state;
            for (dx, dy) in (0..SWATCH * SWATCH).map(|i| (i % SWATCH, i / SWATCH)) {
                // The swatch shows a sky and a meadow as a sample image.
                let pixel = if dy < SWATCH / 2 { [120, 190, 255] } else { [110, 200, 90] };
                self.set(x + dx, y + dy, shown(state, pixel, x + dx, y + dy));
            }
            if state == State::Kept {
                let size = Size::new_equal(SWATCH as u32);
                let frame = Rectangle::new(Point::new(x as i32, y as i32), size);
                let Ok(()) = frame.into_styled(PrimitiveStyle::with_stroke(OUTLINE, 1)).draw(self);
            }
            self.text(&CAPTION, (x + SWATCH + 8, y), name);
            x += legend_item_width(name);
        }
    }

    /// Draws one partition, planar \[3, S, S\], with each pixel `scale` wide.
    fn panel(
        &mut self,
        (left, top): (usize, usize),
        tile: &[u8],
        states: &[State],
        geometry: &Geometry,
        scale: usize,
    ) {
        let (n, patch) = (geometry.side(), geometry.patch_size() * scale);
        let pixels = geometry.pixels();
        let line = (patch / 20).clamp(1, 3);
        let state = |row: usize, column: usize| states[row * n + column];
        for (y, x) in (0..(n * patch).pow(2)).map(|i| (i / (n * patch), i % (n * patch))) {
            let (row, column) = (y / patch, x / patch);
            let at = y / scale * pixels + x / scale;
            let pixel = [0, 1, 2].map(|c| tile[c * pixels * pixels + at]);
            let other = |row, column| state(row, column) != State::Kept;
            let outlined = state(row, column) == State::Kept
                && (y % patch < line && row > 0 && other(row - 1, column)
                    || patch - y % patch <= line && row + 1 < n && other(row + 1, column)
                    || x % patch < line && column > 0 && other(row, column - 1)
                    || patch - x % patch <= line && column + 1 < n && other(row, column + 1));
            let colour =
                if outlined { rgb(OUTLINE) } else { shown(state(row, column), pixel, x, y) };
            self.set(left + x, top + y, colour);
        }
    }

    pub fn set(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        self.0.put_pixel(x as u32, y as u32, Rgb(colour));
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(at, colour) in pixels {
            if self.bounding_box().contains(at) {
                self.set(at.x as usize, at.y as usize, rgb(colour));
            }
        }
        Ok(())
    }
}
