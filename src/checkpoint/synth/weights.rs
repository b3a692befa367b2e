//! Random weights that keep activations in a normal range.

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::super::Tensor;
use crate::format::Format;
use crate::quant::Scheme;
use crate::{Error, Result};
use std::ops::Range;

/// How the elements of a tensor are generated: uniformly around a mean, by position, so that any part can be
/// generated at any time on any thread or on a GPU.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The tensor's name.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Element *i* is computed from 16 bits of SplitMix64 at `key` + *i*/4, the lowest bits first.
    pub key: u64,
    /// Centre of the interval.
    pub mean: f32,
    /// Half the width of the interval.
    pub reach: f32,
    /// The quantization of the elements, if any.
    pub scheme: Option<Scheme>,
}

impl Recipe {
    /// The recipe for the weight that has this name in published files.
    pub(super) fn new(name: &str, shape: &[usize], seed: u64) -> Self {
        let (mean, deviation) = moments(name, shape);
        // FNV-1a hash of the name, so that every tensor has its own sequence.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let key = mix(mix(seed).wrapping_add(hash));
        let (name, shape) = (name.to_owned(), shape.to_vec());
        Self { name, shape, key, mean, reach: deviation * 3f32.sqrt(), scheme: None }
    }

    /// The recipe for a range of the tensor's rows, with the same values as in the whole.
    ///
    /// # Errors
    /// [`Error::Request`] if the range begins inside a group of four elements that are generated together.
    pub fn rows(mut self, rows: Range<usize>) -> Result<Self> {
        let before = rows.start * self.shape[1..].iter().product::<usize>();
        if !before.is_multiple_of(4) {
            let what =
                format!("rows of {} cannot be generated separately: use a folder", self.name);
            return Err(Error::Request(what));
        }
        self.key = self.key.wrapping_add(before as u64 / 4);
        self.shape[0] = rows.len();
        Ok(self)
    }

    /// Generates the tensor in memory.
    ///
    /// # Errors
    /// As [`Tensor::quantized`].
    pub fn tensor(&self) -> Result<Tensor> {
        let mut numbers = vec![f16::ZERO; self.shape.iter().product()];
        self.fill(0, &mut numbers);
        let tensor = Tensor::made(self.name.clone(), self.shape.clone(), numbers);
        match self.scheme {
            Some(scheme) => tensor.quantized(scheme),
            None => Ok(tensor),
        }
    }

    /// Format of the tensor.
    pub fn format(&self) -> Format {
        self.scheme.map_or(Format::F16, Scheme::format)
    }

    /// Fills `out` with the elements from `first` on, which must be a multiple of four.
    pub(super) fn fill(&self, first: u64, out: &mut [f16]) {
        /// Elements per task of a thread.
        const BLOCK: usize = 8192;
        out.par_chunks_mut(BLOCK).enumerate().for_each(|(block, out)| {
            let mut values = [0f32; BLOCK];
            let counter = first / 4 + (block * BLOCK / 4) as u64;
            for (i, four) in values[..out.len()].chunks_mut(4).enumerate() {
                let mut bits = mix(self.key.wrapping_add(counter + i as u64));
                for value in four {
                    // A signed 16-bit number, centred: (d + ½) / 2¹⁵ lies inside ±1.
                    *value = self.mean + (f32::from(bits as i16) + 0.5) / 32768.0 * self.reach;
                    bits >>= 16;
                }
            }
            out.convert_from_f32_slice(&values[..out.len()]);
        });
    }
}

/// Mean and standard deviation of a tensor's elements.
///
/// Linear layers preserve the scale of their input, so the residual stream grows with the square root of the depth
/// and stays within f16. Queries and keys are larger: logits with a standard deviation of 2 give attention that
/// prefers some positions.
fn moments(name: &str, shape: &[usize]) -> (f32, f32) {
    let fan_in: usize = shape[1..].iter().product();
    if name.ends_with(".bias") {
        (0.0, 0.05)
    } else if name.contains("norm") {
        (1.0, 0.1)
    } else if name.contains(".lambda_") {
        // InternViT's layer scale.
        (0.5, 0.1)
    } else if name.contains("embedding.") && !name.contains("patch")
        || name.contains("embeddings.cls_token")
        || name.contains("embeddings.position_embeddings")
        || shape.len() == 1
    {
        // Class and position embeddings of the vision tower, and the row separator.
        (0.0, 0.5)
    } else if name.contains("embed_tokens") {
        (0.0, 1.0)
    } else if name.contains("q_proj") || name.contains("k_proj") {
        (0.0, 1.5 / (fan_in as f32).sqrt())
    } else {
        (0.0, 1.0 / (fan_in as f32).sqrt())
    }
}

/// SplitMix64: a full-period step followed by its finaliser.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_depend_on_position_alone() {
        let recipe = Recipe::new("mlp.fc1.weight", &[300, 100], 7);
        let mut whole = vec![f16::ZERO; 30_000];
        recipe.fill(0, &mut whole);
        let mut part = vec![f16::ZERO; 10_001];
        recipe.fill(9_996, &mut part);
        assert_eq!(part, whole[9_996..19_997]);
    }

    #[test]
    fn rows_are_those_of_the_whole() {
        let recipe = Recipe::new("self_attn.qkv_proj.weight", &[6, 10], 7);
        let whole = recipe.tensor().unwrap();
        let rows = recipe.clone().rows(2..5).unwrap().tensor().unwrap();
        assert_eq!((&rows.shape[..], rows.bytes()), (&[3, 10][..], &whole.bytes()[40..100]));
        assert!(recipe.rows(1..2).is_err());
    }

    #[test]
    fn moments_are_as_asked_for() {
        let recipe = Recipe::new("self_attn.q_proj.weight", &[400, 100], 0);
        let mut values = vec![f16::ZERO; 40_000];
        recipe.fill(0, &mut values);
        let mean = values.iter().map(|x| x.to_f64()).sum::<f64>() / 40_000.0;
        let square = values.iter().map(|x| x.to_f64().powi(2)).sum::<f64>() / 40_000.0;
        assert!(mean.abs() < 0.003, "{mean}");
        assert!((square.sqrt() - 0.15).abs() < 0.003, "{square}");
    }

    #[test]
    fn seeds_and_names_give_other_numbers() {
        let draw = |name, seed| {
            let mut values = [f16::ZERO; 8];
            Recipe::new(name, &[8], seed).fill(0, &mut values);
            values
        };
        assert_ne!(draw("a.bias", 0), draw("a.bias", 1));
        assert_ne!(draw("a.bias", 0), draw("b.bias", 0));
    }
}
