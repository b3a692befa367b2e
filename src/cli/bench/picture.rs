//! The picture that is measured when none is given.

use hired::engine::Image;

/// Side in pixels: a grid of two by two with the usual sub-images.
const SIDE: usize = 672;

/// What it is called.
pub const NAME: &str = "fixed, 672×672";

/// Always the same 672×672 pixels: gradients, a grid of lines and noise, so that no part is like another.
pub fn fixed() -> Image {
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    let mut pixels = Vec::with_capacity(3 * SIDE * SIDE);
    for y in 0..SIDE {
        for x in 0..SIDE {
            // Marsaglia's xorshift.
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            let line = if x % 96 < 3 || y % 96 < 3 { 120 } else { 0 };
            let base = [x * 255 / SIDE, y * 255 / SIDE, (x + y) * 255 / (2 * SIDE)];
            for (channel, value) in base.into_iter().enumerate() {
                let grain = (noise >> (8 * channel)) as usize % 32;
                pixels.push((value / 2 + line + grain).min(255) as u8);
            }
        }
    }
    Image::Rgb8 { width: SIDE, height: SIDE, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_never_changes() {
        let Image::Rgb8 { pixels, .. } = fixed() else { panic!() };
        let sum = pixels.iter().fold(0u64, |sum, &p| sum.wrapping_mul(31).wrapping_add(p.into()));
        assert_eq!((pixels.len(), sum), (3 * 672 * 672, 16_597_691_113_804_685_326));
    }
}
