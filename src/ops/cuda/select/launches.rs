//! The kernels of a selection with their parameters.

use super::{Layout, Selecting};
use crate::ops::cost::{self, Cost};
use crate::ops::cuda::abi;
use crate::ops::cuda::launch::Launch;
use crate::select::{Ranking, Rule};
use std::ffi::c_void;
use std::ops::Range;

/// CLS attention in device memory, head by head.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClsHeads {
    /// `[partitions, heads, T + 1]`: softmax before it is divided by its sum.
    pub weights: u64,
    /// `[partitions, heads]`: of the weights.
    pub sums: u64,
    /// Their number.
    pub heads: usize,
}

impl ClsHeads {
    /// With the room for their sums.
    fn scores(self, out: *mut u32) -> abi::SelectScores {
        abi::SelectScores {
            weights: self.weights as *const f32,
            sums: self.sums as *const f32,
            out: out.cast(),
            heads: self.heads as u32,
            reserved: 0,
        }
    }
}

/// The parameters of one of the kernels, for [`Launch`].
#[derive(Debug, Clone, Copy)]
pub enum Params {
    /// `select_exact`.
    Exact(abi::SelectExactParams),
    /// `select_paper`.
    Paper(abi::SelectPaperParams),
    /// `select_repo`.
    Repo(abi::SelectRepoParams),
    /// `select_topk`.
    Topk(abi::SelectTopkParams),
    /// `select_rows`.
    Rows(abi::SelectRowsParams),
    /// `select_order`.
    Order(abi::SelectOrderParams),
}

impl Params {
    /// Where the struct is.
    pub fn pointer(&self) -> *const c_void {
        match self {
            Self::Exact(p) => (&raw const *p).cast(),
            Self::Paper(p) => (&raw const *p).cast(),
            Self::Repo(p) => (&raw const *p).cast(),
            Self::Topk(p) => (&raw const *p).cast(),
            Self::Rows(p) => (&raw const *p).cast(),
            Self::Order(p) => (&raw const *p).cast(),
        }
    }
}

impl Selecting {
    /// The launches, one after another, for a block at address `block` whose flags are zero and whose allocation is there
    /// if it is known. `init` of the full image and `scores` of all partitions are what the plan needs; of the others any.
    ///
    /// None where the host chooses.
    pub fn launches(&self, block: u64, init: ClsHeads, scores: ClsHeads) -> Vec<(Launch, Params)> {
        let Some(ranking) = self.ranking() else { return Vec::new() };
        let at = |range: &Range<usize>| (block + 4 * range.start as u64) as *mut u32;
        let Layout { flags, offsets, allocation, patches, rows, slots, counts, ranks, .. } =
            &self.layout;
        let area = self.area();
        let partitions = area.partitions;
        let patch_count = self.plan.geometry.patches() as u32;
        let launch = |kernel: &str, blocks: u32, shared: usize| Launch {
            file: "select",
            kernel: format!("select_{kernel}"),
            grid: [blocks, 1, 1],
            block: abi::HIRED_SELECT_THREADS,
            shared: shared as u32,
            cost: Cost::default(),
        };
        let init = init.scores(at(&self.layout.init));
        let topk = abi::SelectTopkParams {
            scores: scores.scores(at(&self.layout.last)),
            allocation: at(allocation),
            ranks: at(ranks),
            counts: at(counts),
            flags: at(flags),
            area,
            padding: matches!(ranking.rule, Rule::Paper | Rule::Repo).into(),
            reserved: 0,
        };
        let kept_rows = abi::SelectRowsParams {
            ranks: at(ranks),
            counts: at(counts),
            offsets: at(offsets),
            patches: at(patches),
            rows: at(rows),
            partitions,
            patch_count,
        };
        let order = abi::SelectOrderParams {
            ranks: at(ranks),
            offsets: at(offsets),
            slots: at(slots),
            area,
            newlines: (self.plan.newlines > 0).into(),
            reserved: 0,
        };
        // Scores read, ranks written; the other kernels' words are fewer.
        let scored = cost::pass((partitions * patch_count) as usize, size_of::<f32>());
        let mut launches = Vec::new();
        if ranking.allocation.is_none() {
            let (share, params) = self.share(ranking, init, at(allocation), at(flags));
            launches.push((launch(share.0, 1, share.1 * (partitions as usize - 1)), params));
        }
        launches.extend([
            (launch("topk", partitions, 0).costing(scored), Params::Topk(topk)),
            (launch("rows", partitions, 0), Params::Rows(kept_rows)),
            (launch("order", 1, 0), Params::Order(order)),
        ]);
        launches
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
        }
    }

    /// The kernel of the allocation with its bytes of shared memory for each sub-image, and its parameters.
    fn share(
        &self,
        ranking: &Ranking,
        init: abi::SelectScores,
        allocation: *mut u32,
        flags: *mut u32,
    ) -> ((&'static str, usize), Params) {
        let geometry = &self.plan.geometry;
        let area = self.area();
        let full_image = ranking.full_image as u32;
        match ranking.rule {
            // Equal shares are known.
            Rule::Exact | Rule::Equal => {
                let (fit_rows, fit_cols) = geometry.fit();
                // Floors of floors are the floor of the whole quotient.
                let mass_limit = [fit_rows, fit_cols, geometry.valid()]
                    .into_iter()
                    .fold(u64::MAX, |limit, factor| limit / factor.max(1) as u64);
                let params = abi::SelectExactParams {
                    init,
                    allocation,
                    flags,
                    mass_limit,
                    area,
                    full_image,
                    sub_images: ranking.sub_images as u32,
                    pixels: (geometry.side() * geometry.patch_size()) as u32,
                    fit_rows: fit_rows as u32,
                    fit_cols: fit_cols as u32,
                    reserved: 0,
                };
                (("exact", 12), Params::Exact(params))
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
                (("paper", 8), Params::Paper(params))
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
                (("repo", 4), Params::Repo(params))
            }
        }
    }
}
