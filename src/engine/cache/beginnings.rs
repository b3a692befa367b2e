//! Prefix cache: prompts that begin like an earlier one.

use super::Sight;
use crate::engine::prepare::Prepared;
use crate::kv::{Beginning, PAGE, Pools, Tables};

/// Rows per part in the text after the last image. A part also ends with each image. Text is cut so that a long
/// conversation can be reused in part; the parts are large so that the weights are not read for only a few rows.
const PART: usize = 512;

/// Positions at which a prompt is cut into parts that are computed one after the other, ascending; a prefix may be
/// kept up to each of them. All cuts are at page boundaries. There are none if the number of image rows is not known
/// before the computation, or rows are dropped in the decoder.
pub fn cuts(prepared: &Prepared) -> Vec<usize> {
    let plans = || prepared.images.iter().map(|image| &image.plan);
    if plans().any(|plan| !plan.is_exact() || plan.late.is_some()) {
        return Vec::new();
    }
    let rows = prepared.image_rows(plans().map(|plan| plan.rows + plan.newlines));
    let mut cuts: Vec<usize> = rows.iter().map(|rows| rows.end / PAGE * PAGE).collect();
    let all = prepared.prompt_tokens();
    let last = cuts.last().copied().unwrap_or(0);
    cuts.extend((last + PART..all).step_by(PART));
    cuts.retain(|cut| (1..all).contains(cut));
    cuts.dedup();
    cuts
}

/// The identity of a prefix of a prompt.
#[derive(Debug, PartialEq)]
struct Rows {
    pieces: Vec<Piece>,
    /// The cuts that were used to compute it.
    cuts: Vec<usize>,
}

#[derive(Debug, PartialEq)]
enum Piece {
    Words(Vec<u32>),
    /// The first rows of an image, with their number.
    Image(Box<Sight>, usize),
}

impl Rows {
    /// The prefix up to `cut`.
    fn until(cut: usize, cuts: &[usize], prepared: &Prepared, sights: &[Sight]) -> Self {
        let mut pieces = Vec::new();
        let mut left = cut;
        for (index, words) in prepared.texts.iter().enumerate() {
            let taken = words.len().min(left);
            left -= taken;
            pieces.push(Piece::Words(words[..taken].to_vec()));
            let image = prepared.images.get(index).zip(sights.get(index));
            let Some((image, sight)) = image.filter(|_| left > 0) else { break };
            let taken = (image.plan.rows + image.plan.newlines).min(left);
            left -= taken;
            pieces.push(Piece::Image(Box::new(sight.clone()), taken));
            if left == 0 {
                break;
            }
        }
        debug_assert_eq!(left, 0);
        Self { pieces, cuts: cuts.iter().copied().filter(|&other| other < cut).collect() }
    }
}

/// The prefixes whose pages may still be in the cache.
#[derive(Debug, Default)]
pub struct Beginnings(Vec<(Rows, Beginning)>);

impl Beginnings {
    /// The longest known prefix of a prompt, and its number of rows.
    pub fn find(
        &mut self,
        prepared: &Prepared,
        sights: &[Sight],
        pools: &Pools,
    ) -> Option<(Beginning, usize)> {
        self.0.retain(|(_, name)| pools.keeps(*name));
        let cuts = cuts(prepared);
        cuts.iter().rev().find_map(|&cut| {
            let rows = Rows::until(cut, &cuts, prepared, sights);
            Some((self.named(&rows)?, cut))
        })
    }

    fn named(&self, rows: &Rows) -> Option<Beginning> {
        self.0.iter().find(|(other, _)| other == rows).map(|(_, name)| *name)
    }

    /// Registers the prefixes of a prompt beyond the first `known` rows, which are registered already.
    pub fn keep(
        &mut self,
        prepared: &Prepared,
        sights: &[Sight],
        known: usize,
        tables: &Tables,
        pools: &mut Pools,
    ) {
        let cuts = cuts(prepared);
        for &cut in cuts.iter().filter(|&&cut| cut > known) {
            let rows = Rows::until(cut, &cuts, prepared, sights);
            // Another request may have registered the same prefix in the meantime.
            if self.named(&rows).is_some_and(|name| pools.keeps(name)) {
                continue;
            }
            if let Some(name) = pools.keep(tables, cut) {
                self.0.retain(|(other, _)| *other != rows);
                self.0.push((rows, name));
            }
        }
    }
}
