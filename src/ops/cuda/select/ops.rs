//! The selection operations on the device.

use crate::Result;
use crate::ops::cuda::abi::SelectMix;
use crate::ops::cuda::buffer::{Buffer, Home, Scores, part};
use crate::ops::cuda::executor::Cuda;
use crate::ops::cuda::scratch;
use crate::ops::cuda::select::{ClsHeads, Rows, Scratch, Seen, Selecting};
use crate::ops::{Chosen, Evidence, MemoryOps, SelectionOps};
use crate::select::{self, Plan};
use std::ops::Range;

/// A selection in device memory.
#[derive(Debug)]
pub struct Kept {
    _place: Home,
    /// Address of the first kept row of each partition, then the number of all.
    pub(in crate::ops::cuda) offsets: u64,
    /// Address of the kept rows' numbers in the vision tower.
    pub(in crate::ops::cuda) rows: u64,
    /// Address of the kept row, or newline, for each visual row of the prompt.
    pub(in crate::ops::cuda) slots: u64,
    pub(in crate::ops::cuda) count: usize,
    pub(in crate::ops::cuda) slot_count: usize,
    synchronized: bool,
    /// Address of its arrays.
    block: u64,
    selecting: Selecting,
}

impl Kept {
    /// Number of the vision tower's rows for each kept patch.
    pub(in crate::ops::cuda) fn each(&self) -> usize {
        self.selecting.plan().rows_each()
    }

    /// A selection of `count` rows with its arrays in a block.
    fn at(block: u64, place: Home, selecting: Selecting, count: usize, synchronized: bool) -> Self {
        let layout = selecting.layout();
        let [offsets, rows, slots] =
            [&layout.offsets, &layout.rows, &layout.slots].map(|range| word(block, range.start));
        let slot_count = count + selecting.plan().newlines;
        Self {
            offsets,
            rows,
            slots,
            count,
            slot_count,
            synchronized,
            block,
            selecting,
            _place: place,
        }
    }
}

impl Chosen for Kept {
    fn rows(&self) -> usize {
        self.count
    }

    fn slots(&self) -> usize {
        self.slot_count
    }

    fn synchronized(&self) -> bool {
        self.synchronized
    }
}

const WORD: usize = size_of::<u32>();

/// Address of a word in a block.
fn word(block: u64, index: usize) -> u64 {
    block + (index * WORD) as u64
}

/// The addresses of the evidence.
fn seen(evidence: &Evidence<'_, Cuda>) -> Seen {
    let heads = |scores: Option<&Scores>| scores.map_or(ClsHeads::default(), |s| s.heads);
    let rows = |x: Option<&Buffer>| {
        x.map_or_else(Rows::default, |x| {
            let Buffer { address, cols, stride, dtype, .. } = *x;
            Rows { address, cols, stride, dtype }
        })
    };
    Seen {
        init: heads(evidence.init),
        last: heads(evidence.last),
        queries: rows(evidence.queries),
        keys: rows(evidence.keys),
        heads: evidence.heads,
        features: rows(evidence.features),
        projected: rows(evidence.projected),
    }
}

impl SelectionOps for Cuda {
    /// Selects on the device if the plan has a program, else on the host. The host waits only to read its evidence, or
    /// a number of rows that the plan does not know.
    fn select(&mut self, plan: &Plan, evidence: Evidence<'_, Self>) -> Result<Kept> {
        // A prompt may have several images; one of them is enough.
        self.whole |= !plan.is_exact();
        let selecting = Selecting::new(plan)?;
        let layout = selecting.layout().clone();
        let (place, block) = self.region(layout.words() * WORD)?;
        let at = |range: &Range<usize>| word(block, range.start);
        let mut synchronized = false;
        let count = if selecting.program().is_none() {
            synchronized = !selecting.needs_no_evidence();
            let (chosen, words) = self.choose_on_host(&selecting, evidence)?;
            // SAFETY: the region holds the words.
            unsafe { self.queue.upload(block, &words)? };
            chosen.count() + chosen.merged()
        } else {
            let seen = seen(&evidence);
            let scratch = Scratch::of(&selecting, seen.widths());
            let tables = scratch.as_ref().map(|parts| self.region(parts.bytes())).transpose()?;
            let (_region, tables) = tables.map_or((None, 0), |(place, at)| (Some(place), at));
            // SAFETY: the regions hold the flags, the allocation and the tables; the launches' arrays are parts of
            // them.
            unsafe {
                self.queue.clear(at(&layout.flags), layout.flags.len() * WORD)?;
                if let Some(words) = selecting.allocation() {
                    self.queue.upload(at(&layout.allocation), &words)?;
                }
                if let Some(parts) = &scratch {
                    self.queue.upload(tables, &parts.tables(plan))?;
                }
                for (launch, params) in selecting.launches(block, tables, &seen, self.processors) {
                    params.launch(&self.queue, &launch)?;
                }
            }
            if plan.is_exact() {
                plan.rows
            } else {
                synchronized = true;
                let head = layout.head();
                // SAFETY: the head is a part of the region.
                selecting.delivered(&unsafe { self.queue.download(at(&head), head.len())? })?
            }
        };
        Ok(Kept::at(block, place, selecting, count, synchronized))
    }

    fn recall(&mut self, plan: &Plan, kept: &select::Kept) -> Result<Kept> {
        self.whole |= !plan.is_exact();
        let selecting = Selecting::new(plan)?;
        let (place, block) = self.region(selecting.layout().words() * WORD)?;
        let words = selecting.block(kept, &select::Scores::default());
        // SAFETY: the region holds the words.
        unsafe { self.queue.upload(block, &words)? };
        Ok(Kept::at(block, place, selecting, kept.count() + kept.merged(), false))
    }

    fn gather_kept(&mut self, x: &Buffer, kept: &Kept) -> Result<Buffer> {
        let out = self.strided(kept.count * kept.each(), x.cols, x.stride, x.dtype)?;
        match kept.selecting.mix_at(kept.block) {
            None => self.gather_rows(x, kept.rows, &out)?,
            Some(mix) => self.mix_rows(x, mix, kept.selecting.plan().sources, &out)?,
        }
        Ok(out)
    }

    fn mix(&mut self, x: &Buffer, mix: &select::Mix) -> Result<Buffer> {
        let out = self.strided(mix.rows(), x.cols, x.stride, x.dtype)?;
        let parts = scratch::mix(mix.rows(), mix.sources());
        let (_region, address) = self.region(parts.bytes())?;
        let [spans, sources, weights] = [0, 1, 2].map(|index| part(address, &parts, index));
        let ends = (0..mix.rows()).map(|row| mix.span(row));
        let ends: Vec<u32> = ends.flat_map(|span| [span.start as u32, span.end as u32]).collect();
        let (of, by): (Vec<u32>, Vec<f32>) = (0..mix.rows())
            .flat_map(|row| mix.row(row))
            .map(|(source, weight)| (source as u32, weight))
            .unzip();
        // SAFETY: the region holds the words; every source is a row of x.
        unsafe {
            self.queue.upload(spans, &ends)?;
            self.queue.upload(sources, &of)?;
            self.queue.upload(weights, &by)?;
        }
        let made = SelectMix {
            spans: spans as *mut u32,
            sources: sources as *mut u32,
            weights: weights as *mut f32,
        };
        self.mix_rows(x, made, mix.sources(), &out)?;
        Ok(out)
    }

    fn kept(&mut self, kept: &Kept) -> Result<select::Kept> {
        let layout = kept.selecting.layout();
        let read = |words: Range<usize>| {
            // SAFETY: the outcome and the mix are parts of the selection's region.
            unsafe { self.queue.download(word(kept.block, words.start), words.len()) }
        };
        let outcome = kept.selecting.kept(&read(layout.outcome())?)?;
        if kept.selecting.mix_at(kept.block).is_none() {
            return Ok(outcome);
        }
        let mix = kept.selecting.mix(outcome.count(), kept.count, &read(layout.mix())?);
        Ok(select::Kept { mix: Some(mix), ..outcome })
    }

    fn scores(&mut self, kept: &Kept) -> Result<select::Scores> {
        let layout = kept.selecting.layout();
        let read = |scores: &Range<usize>| {
            // SAFETY: the scores are a part of the selection's region.
            unsafe { self.queue.download(word(kept.block, scores.start), scores.len()) }
        };
        Ok(select::Scores { init: read(&layout.init)?, last: read(&layout.last)? })
    }
}

impl Cuda {
    /// Selects with the functions of [`select`] on copies of the evidence; returns the outcome and the words of its
    /// block.
    fn choose_on_host(
        &mut self,
        selecting: &Selecting,
        evidence: Evidence<'_, Self>,
    ) -> Result<(select::Kept, Vec<u32>)> {
        let plan = selecting.plan();
        let partitions = plan.geometry.partitions();
        let patches = plan.geometry.tower_patches();
        let scores = |scores: Option<&Scores>, layer: Option<_>, partitions| match layer.and(scores)
        {
            Some(scores) => {
                let heads = self.read_heads(scores, partitions, patches)?;
                let scores = plan.needs.heads.scores(&heads, scores.heads.heads, patches);
                Ok(plan.geometry.pooled(scores))
            }
            None => Ok(Vec::new()),
        };
        let init = scores(evidence.init, plan.needs.init, 1)?;
        let last = scores(evidence.last, plan.needs.last, partitions)?;
        let scores = select::Scores { init, last };
        let mut read =
            |x: Option<&Buffer>| x.map_or(Ok((Vec::new(), 0)), |x| Ok((self.download(x)?, x.cols)));
        let queries = read(evidence.queries)?;
        let keys = read(evidence.keys)?;
        let features = read(evidence.features)?;
        let projected = read(evidence.projected)?;
        fn rows((numbers, cols): &(Vec<f32>, usize)) -> select::Matrix<'_> {
            select::Matrix { numbers, cols: *cols }
        }
        let seen = select::Evidence {
            init: &scores.init,
            last: &scores.last,
            queries: rows(&queries),
            keys: rows(&keys),
            heads: evidence.heads,
            features: rows(&features),
            projected: rows(&projected),
        };
        let chosen = select::choose(plan, &seen)?;
        let words = selecting.block(&chosen, &scores);
        Ok((chosen, words))
    }

    /// Copies the attention of class tokens to the host: `[partitions, heads, T]`, normalised.
    fn read_heads(&self, scores: &Scores, partitions: usize, patches: usize) -> Result<Vec<f32>> {
        let ClsHeads { weights, sums, heads } = scores.heads;
        let rows = partitions * heads;
        // SAFETY: the scores have this many weights (the class token's before the patches'), and a sum for each row.
        let (weights, sums) = unsafe {
            let weights = self.queue.download::<f32>(weights, rows * (patches + 1))?;
            (weights, self.queue.download::<f32>(sums, rows)?)
        };
        let rows = weights.chunks_exact(patches + 1).zip(sums);
        Ok(rows.flat_map(|(row, sum)| row[1..].iter().map(move |weight| weight / sum)).collect())
    }
}
