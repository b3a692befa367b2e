//! The launches of a selection, with their parameters.

use super::params::{Launches, Params, Seen, launch};
use super::similarity::Similarity;
use super::{Block, Scratch, Selecting};
use crate::image::Packing;
use crate::ops::cost;
use crate::ops::cuda::abi;
use crate::ops::cuda::launch::Launch;
use crate::select::{self, Program, Ranking, Rule};

impl Selecting {
    /// The launches of the selection, in order; none where the host selects. `block`: address of the block, whose flags
    /// are zero and whose allocation is filled in if it is known. `scratch`: address of the scratch with its tables, if
    /// any. `processors`: the GPU's multiprocessors.
    pub fn launches(&self, block: u64, scratch: u64, seen: &Seen, processors: usize) -> Launches {
        let Some(program) = self.program() else { return Vec::new() };
        let at = Block { layout: &self.layout, block };
        let needs = &self.plan.needs;
        let geometry = &self.plan.geometry;
        let init = seen.init.scores(needs.heads, geometry, at.word(&self.layout.init));
        let last = seen.last.scores(needs.heads, geometry, at.word(&self.layout.last));
        let parts = Scratch::of(self, seen.widths()).map(|parts| Similarity {
            selecting: self,
            at,
            parts,
            scratch,
            seen,
            processors,
        });
        let similarity = || parts.as_ref().expect("methods that compare rows have scratch");
        let mut all = Vec::new();
        match program {
            Program::Rank(ranking) => {
                if ranking.allocation.is_none() {
                    all.push(self.share(ranking, init, at));
                }
                let padding = matches!(ranking.rule, Rule::Paper | Rule::Repo);
                all.extend([self.topk(last, padding, at), self.rows(at)]);
            }
            Program::Contexts(_) => {
                all.extend([self.topk(last, false, at), self.rows(at)]);
                similarity().contexts(&mut all);
            }
            Program::Spread => {
                similarity().spread(&mut all);
                all.push(self.rows(at));
            }
            Program::Cover { counts, exponent } => {
                similarity().cover(last, counts, *exponent, &mut all);
                all.push(self.rows(at));
            }
            Program::Merge { ranking, spatial, neighbours } => {
                all.push(self.share(ranking, init, at));
                similarity().merge(*spatial, *neighbours, &mut all);
            }
        }
        let added = match program {
            Program::Contexts(_) | Program::Merge { .. } => similarity().added(),
            _ => std::ptr::null(),
        };
        all.push(self.order(added, at));
        all
    }

    /// Picks the allotted number of highest scores in each partition.
    fn topk(&self, scores: abi::SelectScores, padding: bool, at: Block<'_>) -> (Launch, Params) {
        let area = self.area();
        let params = abi::SelectTopkParams {
            scores,
            allocation: at.word(&at.layout.allocation),
            ranks: at.word(&at.layout.ranks),
            counts: at.word(&at.layout.counts),
            flags: at.word(&at.layout.flags),
            area,
            padding: padding.into(),
            reserved: 0,
        };
        // Reads the scores and writes the ranks; the other kernels access few words.
        let scored = cost::pass(at.layout.ranks.len(), size_of::<f32>());
        let blocks = area.partitions as usize;
        (launch("select", "select_topk", blocks).costing(scored), Params::Topk(params))
    }

    /// Computes the source rows of the kept patches.
    pub(super) fn rows(&self, at: Block<'_>) -> (Launch, Params) {
        let area = self.area();
        let params = abi::SelectRowsParams {
            ranks: at.word(&at.layout.ranks),
            counts: at.word(&at.layout.counts),
            offsets: at.word(&at.layout.offsets),
            patches: at.word(&at.layout.patches),
            rows: at.word(&at.layout.rows),
            area,
            projected: self.plan.from_projected().into(),
            prefix: self.plan.geometry.class_token().into(),
        };
        (launch("select", "select_rows", area.partitions as usize), Params::Rows(params))
    }

    /// Computes the places of the kept rows in the prompt.
    fn order(&self, added: *const u32, at: Block<'_>) -> (Launch, Params) {
        let params = abi::SelectOrderParams {
            ranks: at.word(&at.layout.ranks),
            offsets: at.word(&at.layout.offsets),
            added,
            slots: at.word(&at.layout.slots),
            area: self.area(),
            newlines: (self.plan.newlines > 0).into(),
            reserved: 0,
        };
        (launch("select", "select_order", 1), Params::Order(params))
    }

    fn area(&self) -> abi::SelectArea {
        let geometry = &self.plan.geometry;
        let (grid_rows, grid_cols) = geometry.grid().unwrap_or((0, 0));
        let (rows, cols) = (geometry.rows(), geometry.cols());
        abi::SelectArea {
            partitions: geometry.partitions() as u32,
            side: geometry.side() as u32,
            grid_rows: grid_rows as u32,
            grid_cols: grid_cols as u32,
            row_begin: rows.start as u32,
            row_end: rows.end as u32,
            col_begin: cols.start as u32,
            col_end: cols.end as u32,
            cell: geometry.cell() as u32,
            tiled: (geometry.packing() == Packing::Tiles).into(),
        }
    }

    /// Shares the budget among the partitions.
    fn share(&self, ranking: &Ranking, init: abi::SelectScores, at: Block<'_>) -> (Launch, Params) {
        let allocation = at.word(&at.layout.allocation);
        let flags = at.word(&at.layout.flags);
        let geometry = &self.plan.geometry;
        let area = self.area();
        let full_image = ranking.full_image as u32;
        // The kernel, and its bytes of shared memory for each sub-image.
        let ((kernel, shared), params) = match ranking.rule {
            // Equal shares are known before the launch.
            Rule::Exact | Rule::Equal => {
                let (fit_rows, fit_cols) = geometry.fit();
                let mass_limit = select::mass_limit(geometry);
                let params = abi::SelectExactParams {
                    init,
                    allocation,
                    flags,
                    mass_limit,
                    area,
                    full_image,
                    sub_images: ranking.sub_images as u32,
                    // The area of all sub-images in pixels, including the rest that patches do not cover.
                    pixels: geometry.pixels() as u32,
                    fit_rows: fit_rows as u32,
                    fit_cols: fit_cols as u32,
                    reserved: 0,
                };
                (("select_exact", 12), Params::Exact(params))
            }
            Rule::Paper => {
                let sub_images = ranking.sub_images as u64;
                let params = abi::SelectPaperParams {
                    init,
                    allocation,
                    flags,
                    sub_images,
                    area,
                    full_image,
                    reserved: 0,
                };
                (("select_paper", 8), Params::Paper(params))
            }
            Rule::Repo => {
                let unmarked = ranking.alpha.millionths() as usize;
                let params = abi::SelectRepoParams {
                    init,
                    allocation,
                    flags,
                    area,
                    full_image,
                    sub_images: ranking.sub_images as u32,
                    marked: (geometry.patches() * (1_000_000 - unmarked) / 1_000_000) as u32,
                    reserved: 0,
                };
                (("select_repo", 4), Params::Repo(params))
            }
        };
        let shared = shared * (geometry.partitions() as u32 - 1);
        (Launch { shared, ..launch("select", kernel, 1) }, params)
    }
}
