//! Bicubic resampling in the fixed-point arithmetic of Pillow and torch, bit for bit.
//!
//! Both resize one axis after the other with 8-bit pixels in between, and both convert the same kernel (a = −0.5,
//! widened when downscaling) into integer weights. They differ in the number of bits per weight and in the order of
//! the axes, which matters because of the intermediate rounding.
//!
//! Sources: Pillow `src/libImaging/Resample.c`; torch `aten/src/ATen/native/cpu/UpSampleKernel.cpp`
//! (`separable_upsample_generic_Nd_kernel_impl` for uint8).

use std::ops::Range;

use rayon::prelude::*;

use super::RgbImage;
use crate::config::ImageConfig;

/// The bicubic resampling, and with it the normalisation, to reproduce.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resample {
    /// Pillow 13 and newer: vertical first if the height shrinks much more than the width.
    #[default]
    Pillow,
    /// Pillow up to 12.1: always horizontal first.
    Pillow12,
    /// torchvision on a CPU (transformers' "fast" processors): horizontal first, 16-bit weights.
    Torchvision,
}

impl Resample {
    /// The requested resampling, or the default of the folder's image processor.
    pub fn of(config: &ImageConfig, asked: Option<Self>) -> Self {
        let own = if config.torchvision { Self::Torchvision } else { Self::Pillow };
        asked.unwrap_or(own)
    }
}

/// Resizes an image.
///
/// A size of 0 gives an image without pixels.
///
/// # Panics
/// If the length of `image.pixels` does not match its sides.
pub fn resize(image: &RgbImage, width: usize, height: usize, resample: Resample) -> RgbImage {
    let pixels = resize_window(image, (height, width), (0..height, 0..width), resample);
    RgbImage { width, height, pixels, transparent: None }
}

/// The part `rows × columns` of the image resized to `(height, width)`, without computing the rest: the centre crop
/// of a thin image is a tiny part of a huge one. RGB8, as [`RgbImage::pixels`].
pub(super) fn resize_window(
    image: &RgbImage,
    (height, width): (usize, usize),
    (rows, columns): (Range<usize>, Range<usize>),
    resample: Resample,
) -> Vec<u8> {
    assert_eq!(image.pixels.len(), image.width * image.height * 3, "length of the pixels");
    if rows.is_empty() || columns.is_empty() {
        return Vec::new();
    }
    let across = (width != image.width).then(|| Taps::new(image.width, width, &columns, resample));
    let down = (height != image.height).then(|| Taps::new(image.height, height, &rows, resample));
    // Each pass only computes what the other one needs.
    let rows = down.as_ref().map_or(rows, |taps| taps.reach.clone());
    let columns = across.as_ref().map_or(columns, |taps| taps.reach.clone());
    let source = View { pixels: &image.pixels, width: image.width };
    let shrinks = |from: usize, to: usize| from as i64 - to as i64;
    let down_first = resample == Resample::Pillow
        && image.height > height
        && shrinks(image.height, height) > 2 * shrinks(image.width, width);
    match (across, down) {
        (None, None) => source.cut(rows, columns),
        (Some(across), None) => across.horizontal(source, rows),
        (None, Some(down)) => down.vertical(source, columns),
        (Some(across), Some(down)) if down_first => {
            let first = down.vertical(source, columns.clone());
            let view = View { pixels: &first, width: columns.len() };
            across.shifted(columns.start).horizontal(view, 0..down.len())
        }
        (Some(across), Some(down)) => {
            let first = across.horizontal(source, rows.clone());
            let view = View { pixels: &first, width: across.len() };
            let all = 0..across.len();
            down.shifted(rows.start).vertical(view, all)
        }
    }
}

/// RGB8 rows of a given width.
#[derive(Clone, Copy)]
struct View<'a> {
    pixels: &'a [u8],
    width: usize,
}

impl<'a> View<'a> {
    fn row(&self, y: usize, columns: &Range<usize>) -> &'a [u8] {
        let row = y * self.width;
        &self.pixels[(row + columns.start) * 3..(row + columns.end) * 3]
    }

    fn cut(&self, rows: Range<usize>, columns: Range<usize>) -> Vec<u8> {
        rows.flat_map(|y| self.row(y, &columns)).copied().collect()
    }
}

/// The weights of one axis for a range of outputs.
struct Taps {
    /// First input of each output.
    starts: Vec<usize>,
    /// Weights of all outputs, concatenated; output `i` has `ends[i-1]..ends[i]`.
    weights: Vec<i32>,
    ends: Vec<usize>,
    /// Range of inputs that any of the outputs reads.
    reach: Range<usize>,
    /// Fraction bits of the weights.
    precision: u32,
}

/// Fraction bits of Pillow's weights, and the maximum of torch's.
const PILLOW_PRECISION: u32 = 22;

impl Taps {
    fn new(input: usize, output: usize, outputs: &Range<usize>, resample: Resample) -> Self {
        let axis = Axis::new(input, output);
        let precision = match resample {
            Resample::Pillow | Resample::Pillow12 => PILLOW_PRECISION,
            Resample::Torchvision => axis.torch_precision(output),
        };
        let one = f64::from(1u32 << precision);
        let mut taps = Self {
            starts: Vec::with_capacity(outputs.len()),
            weights: Vec::new(),
            ends: Vec::with_capacity(outputs.len()),
            reach: input..0,
            precision,
        };
        let mut weights = Vec::new();
        for x in outputs.clone() {
            let start = axis.weights(x, &mut weights);
            taps.starts.push(start);
            // Rounds half away from zero by adding ±½ and truncating, as both do.
            taps.weights.extend(weights.iter().map(|w| (w * one + 0.5f64.copysign(*w)) as i32));
            taps.ends.push(taps.weights.len());
            taps.reach.start = taps.reach.start.min(start);
            taps.reach.end = taps.reach.end.max(start + weights.len());
        }
        taps
    }

    fn len(&self) -> usize {
        self.starts.len()
    }

    /// The same weights for an input without its first `by` elements.
    fn shifted(mut self, by: usize) -> Self {
        self.starts.iter_mut().for_each(|start| *start -= by);
        self
    }

    /// First input of output `i`, and its weights.
    fn of(&self, i: usize) -> (usize, &[i32]) {
        let begin = if i == 0 { 0 } else { self.ends[i - 1] };
        (self.starts[i], &self.weights[begin..self.ends[i]])
    }

    /// Rounds and clamps an accumulated sum.
    fn pixel(&self, sum: i32) -> u8 {
        ((sum + (1 << (self.precision - 1))) >> self.precision).clamp(0, 255) as u8
    }

    /// Resizes the rows `rows` horizontally.
    fn horizontal(&self, view: View, rows: Range<usize>) -> Vec<u8> {
        let mut out = vec![0; rows.len() * self.len() * 3];
        out.par_chunks_exact_mut(self.len() * 3).zip(rows).for_each(|(out, y)| {
            let row = view.row(y, &(0..view.width));
            for (i, out) in out.chunks_exact_mut(3).enumerate() {
                let (start, weights) = self.of(i);
                let mut sum = [0i32; 3];
                for (pixel, &k) in row[start * 3..].chunks_exact(3).zip(weights) {
                    for (sum, &p) in sum.iter_mut().zip(pixel) {
                        *sum += k * i32::from(p);
                    }
                }
                for (out, sum) in out.iter_mut().zip(sum) {
                    *out = self.pixel(sum);
                }
            }
        });
        out
    }

    /// Resizes the columns `columns` vertically.
    fn vertical(&self, view: View, columns: Range<usize>) -> Vec<u8> {
        let stride = columns.len() * 3;
        let mut out = vec![0; self.len() * stride];
        out.par_chunks_exact_mut(stride).enumerate().for_each_init(
            || vec![0i32; stride],
            |sums, (i, out)| {
                let (start, weights) = self.of(i);
                sums.fill(0);
                for (y, &k) in (start..).zip(weights) {
                    for (sum, &p) in sums.iter_mut().zip(view.row(y, &columns)) {
                        *sum += k * i32::from(p);
                    }
                }
                for (out, &sum) in out.iter_mut().zip(&*sums) {
                    *out = self.pixel(sum);
                }
            },
        );
        out
    }
}

/// One axis of a resize, before its weights are converted to integers.
struct Axis {
    input: usize,
    scale: f64,
    /// Half the width of the kernel, in inputs.
    support: f64,
    /// Kernel units per input.
    step: f64,
}

impl Axis {
    fn new(input: usize, output: usize) -> Self {
        let scale = input as f64 / output as f64;
        let widening = scale.max(1.0);
        Self { input, scale, support: 2.0 * widening, step: 1.0 / widening }
    }

    /// Writes the normalised weights of output `x` and returns the index of its first input.
    fn weights(&self, x: usize, weights: &mut Vec<f64>) -> usize {
        let center = (x as f64 + 0.5) * self.scale;
        // `as` truncates and clamps negative numbers to zero.
        let start = (center - self.support + 0.5) as usize;
        let end = ((center + self.support + 0.5) as usize).min(self.input);
        weights.clear();
        weights.extend(
            (0..end - start).map(|j| bicubic((j as f64 + start as f64 - center + 0.5) * self.step)),
        );
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        start
    }

    /// torch gives weights as many fraction bits as the axis's largest weight leaves in an `i16`.
    fn torch_precision(&self, output: usize) -> u32 {
        let mut weights = Vec::new();
        let mut largest = 0.0f64;
        for x in 0..output {
            self.weights(x, &mut weights);
            largest = weights.iter().copied().fold(largest, f64::max);
        }
        let fits = |bits: u32| 0.5 + largest * f64::from(1u32 << (bits + 1)) < f64::from(1 << 15);
        (0..PILLOW_PRECISION).find(|&bits| !fits(bits)).unwrap_or(PILLOW_PRECISION)
    }
}

/// Keys' cubic convolution kernel with a = −½, in Pillow's order of operations.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> RgbImage {
        let mut state = (width * 31 + height) as u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let pixels = (0..width * height * 3).map(|_| noise()).collect();
        RgbImage::new(width, height, pixels).expect("a valid picture")
    }

    #[test]
    fn a_window_is_a_part_of_the_whole() {
        let sizes =
            [((40, 30), (20, 50)), ((9, 70), (30, 8)), ((25, 25), (25, 60)), ((6, 90), (6, 9))];
        for resample in [Resample::Pillow, Resample::Pillow12, Resample::Torchvision] {
            for ((w, h), (width, height)) in sizes {
                let picture = picture(w, h);
                let whole = resize(&picture, width, height, resample);
                let (rows, columns) = (height / 3..height / 3 + 2, width / 2..width);
                let window = (rows.clone(), columns.clone());
                let part = resize_window(&picture, (height, width), window, resample);
                let view = View { pixels: &whole.pixels, width };
                assert_eq!(part, view.cut(rows, columns), "{w}×{h} to {width}×{height}");
            }
        }
    }

    #[test]
    fn the_same_size_is_a_copy_and_no_size_is_empty() {
        let picture = picture(7, 5);
        for resample in [Resample::Pillow, Resample::Pillow12, Resample::Torchvision] {
            assert_eq!(resize(&picture, 7, 5, resample), picture);
            assert!(resize(&picture, 0, 5, resample).pixels.is_empty());
            assert!(resize(&picture, 7, 0, resample).pixels.is_empty());
        }
    }

    #[test]
    fn the_order_of_passes_flips_where_pillow_13_flips_it() {
        // Vertical first exactly if 2·(20 − 12) = 16 is exceeded.
        for (height, differs) in [(46, false), (47, true)] {
            let picture = picture(20, height);
            let new = resize(&picture, 12, 30, Resample::Pillow);
            assert_eq!(new != resize(&picture, 12, 30, Resample::Pillow12), differs, "{height}");
        }
    }
}
