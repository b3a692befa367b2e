//! Rotary position embeddings: the rotation of each pair of a head's elements per position.

use super::json::Section;
use crate::Result;
use std::f32::consts::TAU;

/// Rotary position embeddings (Su et al. 2021), with the scalings that extend a model's context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// The base θ.
    pub theta: f32,
    /// How many numbers of each head turn, an even number of them from the first on; the others stay as they are.
    pub width: usize,
    /// What becomes of the frequencies.
    pub scaling: RopeScaling,
}

/// A scaling of the frequencies, named as transformers' `rope_type`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// No scaling.
    Default,
    /// All frequencies are divided by a factor (Chen et al. 2023).
    Linear {
        /// The factor.
        factor: f32,
    },
    /// LLaMA 3.1: low frequencies are divided, high ones stay, and those between are interpolated.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f32,
        /// Low frequencies make fewer turns than this in the original context.
        low_freq_factor: f32,
        /// High frequencies make more turns than this in the original context.
        high_freq_factor: f32,
        /// Length of the original context.
        original_positions: f32,
    },
}

impl Rope {
    /// The frequencies θ^(−2j/width), scaled, in radians a position: `[width / 2]`, in f32 and in the order of operations
    /// of transformers' `modeling_rope_utils`.
    pub fn frequencies(&self) -> Vec<f32> {
        let plain = |j: usize| 1.0 / self.theta.powf((2 * j) as f32 / self.width as f32);
        (0..self.width / 2).map(|j| self.scaling.of(plain(j))).collect()
    }
}

impl RopeScaling {
    fn of(self, frequency: f32) -> f32 {
        match self {
            Self::Default => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => {
                let wave = TAU / frequency;
                if wave > original_positions / low_freq_factor {
                    return frequency / factor;
                }
                if wave < original_positions / high_freq_factor {
                    return frequency;
                }
                let smooth = (original_positions / wave - low_freq_factor)
                    / (high_freq_factor - low_freq_factor);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
    }
}

/// What the decoder's section of `config.json` says; `positions`: its `max_position_embeddings`, `head_dim`: the width of
/// a head. `share`: of a head that turns, where the key is absent; `None` where there is no such key.
pub(super) fn read(
    section: &Section,
    positions: usize,
    head_dim: usize,
    share: Option<f64>,
) -> Result<Rope> {
    // `rope_parameters` is the name since transformers 5; where the older one says anything, it alone counts.
    let older = section.section("rope_scaling")?;
    let inner = if older.is_empty() { section.section("rope_parameters")? } else { older };
    let width = match share {
        Some(share) => turned(section, &inner, head_dim, share)?,
        None => {
            for holder in [section, &inner] {
                holder.number(SHARE, 1.0, 1.0..=1.0)?;
            }
            head_dim
        }
    };
    let holder = if inner.get("rope_theta").is_some() { &inner } else { section };
    let theta = holder.number("rope_theta", 10_000.0, 1.0..=1e12)? as f32;
    let number =
        |key, default, least| inner.number(key, default, least..=1e9).map(|value| value as f32);
    let scaling = match inner.choice(
        inner.spelling("rope_type", "type"),
        "default",
        // "dynamic" has no effect up to max_position_embeddings, which no request exceeds.
        &[("default", 0), ("dynamic", 0), ("linear", 1), ("llama3", 2)],
    )? {
        0 => RopeScaling::Default,
        1 => RopeScaling::Linear { factor: factor(&inner)? },
        _ => {
            let [low, high] = ["low_freq_factor", "high_freq_factor"];
            let original = "original_max_position_embeddings";
            let (low_freq_factor, high_freq_factor) =
                (number(low, 1.0, 1e-6)?, number(high, 4.0, 1e-6)?);
            if high_freq_factor <= low_freq_factor {
                return Err(inner.error(high, format!("must be larger than {low}")));
            }
            RopeScaling::Llama3 {
                factor: factor(&inner)?,
                low_freq_factor,
                high_freq_factor,
                original_positions: number(original, positions as f64, 1.0)?,
            }
        }
    };
    Ok(Rope { theta, width, scaling })
}

const SHARE: &str = "partial_rotary_factor";

/// Numbers of a head that turn: its share of them, rounded down as transformers does.
fn turned(section: &Section, inner: &Section, head_dim: usize, share: f64) -> Result<usize> {
    let holder = if inner.get(SHARE).is_some() { inner } else { section };
    let share = holder.number(SHARE, share, 0.0..=1.0)?;
    let width = (head_dim as f64 * share) as usize;
    if width < 2 || !width.is_multiple_of(2) {
        let what = format!(
            "is {share}, which is {width} of a head's {head_dim} numbers; they turn in pairs: it must be an even number \
             of them, at least 2"
        );
        return Err(holder.error(SHARE, what));
    }
    Ok(width)
}

fn factor(inner: &Section) -> Result<f32> {
    if inner.get("factor").is_none() {
        return Err(
            inner.error("factor", "is missing; it says by how much the context is extended")
        );
    }
    Ok(inner.number("factor", 1.0, 1.0..=1e6)? as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_turns_are_stretched_and_quick_ones_stay() {
        let rope = |scaling| Rope { theta: 10_000.0, width: 64, scaling }.frequencies();
        let plain = rope(RopeScaling::Default);
        assert_eq!((plain.len(), plain[0]), (32, 1.0));
        let halved: Vec<f32> = plain.iter().map(|f| f / 2.0).collect();
        assert_eq!(rope(RopeScaling::Linear { factor: 2.0 }), halved);
        let scaled = rope(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_positions: 64.0,
        });
        let ratios: Vec<f32> = scaled.iter().zip(&plain).map(|(s, p)| s / p).collect();
        assert_eq!((ratios[0], ratios[31]), (1.0, 0.125));
        assert!(ratios.windows(2).all(|pair| pair[1] <= pair[0]), "{ratios:?}");
        assert!(ratios.iter().any(|&r| r > 0.2 && r < 0.9), "{ratios:?}");
    }
}
