//! Prompts that begin as an earlier one did.

use super::Sight;
use crate::engine::prepare::Prepared;
use crate::kv::{Beginning, PAGE, Pools, Tables};

/// Rows of a part of a prompt behind its last image. Images end a part each; text alone is cut as well, so that a long
/// conversation does not begin anew, but not so often that the weights are read for a few rows.
const PART: usize = 512;

/// Where a prompt is cut into parts that are computed one after the other, ascending; a beginning may be kept up to
/// each. Every cut is at a page's end. There are none where what the decoder gets of an image, or keeps of it, is not
/// known before.
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

/// Some first rows of a prompt.
#[derive(Debug, PartialEq)]
struct Rows {
    pieces: Vec<Piece>,
    /// Where they were cut when they were computed.
    cuts: Vec<usize>,
}

#[derive(Debug, PartialEq)]
enum Piece {
    Words(Vec<u32>),
    /// So many of an image's rows.
    Image(Box<Sight>, usize),
}

impl Rows {
    /// Those up to a cut.
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

/// Beginnings of which the pages may still be kept.
#[derive(Debug, Default)]
pub struct Beginnings(Vec<(Rows, Beginning)>);

impl Beginnings {
    /// The longest one that a prompt has, and its rows.
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

    /// Keeps the beginnings of a prompt from row `known` on, up to which they are kept already.
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
            // Somebody else may have begun alike meanwhile.
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
