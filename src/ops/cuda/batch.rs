//! Batches of rows in device memory.

use crate::config::Rope;
use crate::ops::cuda::buffer::{Batch, Buffer, Cache, part};
use crate::ops::cuda::executor::Cuda;
use crate::ops::cuda::scratch;
use crate::ops::{BatchOps, DECODE_ROWS, Span, Work};
use crate::{Error, Result, kv};

/// Parts of the memory of decode steps, see [`scratch::step`].
const FREQUENCIES: usize = 0;
const POSITIONS: usize = 1;
const SEQUENCES: usize = 2;
const TOKENS: usize = 3;
const TABLES: usize = 4;

const WORD: usize = size_of::<u32>();

impl BatchOps for Cuda {
    fn batch(&mut self, cache: &Cache, tokens: Vec<u32>, spans: Vec<Span>) -> Result<Batch> {
        if tokens.is_empty() {
            return self.prompt_batch(spans);
        }
        self.step_batch(cache, &tokens, spans)
    }

    fn step(
        &mut self,
        batches: &[Batch],
        caches: &mut [Cache],
        work: &mut Work<'_, Self>,
    ) -> Result<Buffer> {
        self.watch.ranges.step(batches.first().map(|batch| batch.spans.len()));
        let logits = self.replay(batches, caches, work);
        self.watch.ranges.step(None);
        logits
    }
}

impl Cuda {
    /// The batch of a prompt, in the workspace; every position is the row's slot. The batch of a prompt after FastV is
    /// [`crate::ops::FastvOps::retained_batch`].
    pub(super) fn prompt_batch(&mut self, spans: Vec<Span>) -> Result<Batch> {
        if spans.iter().any(|s| s.position != s.slot) {
            let what = "a prompt's rows have their slots as positions; FastV's retained rows use retained_batch";
            return Err(Error::Device(what.into()));
        }
        let rows: usize = spans.iter().map(|s| s.rows).sum();
        let stride = spans.iter().map(|s| s.pages.len()).max().unwrap_or(0);
        let parts = scratch::rows(rows, spans.len(), stride);
        let (place, address) = self.region(parts.bytes())?;
        let at = |index| part(address, &parts, index);
        let Arrays { slots, sequences, .. } = Arrays::of(&spans);
        // SAFETY: the region has a part for each array.
        unsafe {
            self.queue.upload(at(0), &slots)?;
            self.queue.upload(at(1), &sequences)?;
            self.queue.upload(at(2), &tables(&spans, stride))?;
        }
        Ok(Batch {
            spans,
            tokens: None,
            positions: at(0),
            slots: at(0),
            sequences: at(1),
            tables: at(2),
            stride,
            _place: Some(place),
            _block: None,
        })
    }

    /// The batch of a decode step, at the same addresses in every step.
    pub(super) fn step_batch(
        &mut self,
        cache: &Cache,
        tokens: &[u32],
        spans: Vec<Span>,
    ) -> Result<Batch> {
        let wrong = |what: &str| Error::Device(format!("a decode step {what}"));
        let pages = cache.shape.pages;
        if tokens.len() != spans.len() || spans.len() > DECODE_ROWS {
            return Err(wrong("takes a token of up to eight sequences"));
        }
        let fits = |s: &Span| s.pages.len() <= pages && s.context() <= s.pages.len() * kv::PAGE;
        if !spans.iter().all(|s| s.rows == 1 && fits(s)) {
            return Err(wrong("takes one row of a sequence in the cache"));
        }
        let at = |index| part(cache.step, &cache.parts, index);
        // One copy for all arrays, which are contiguous.
        let first = cache.parts.offset(POSITIONS);
        let mut words = vec![0u32; (cache.parts.offset(TABLES) - first) / WORD];
        let Arrays { positions, slots, sequences } = Arrays::of(&spans);
        for (index, after, values) in [
            (POSITIONS, 0, &positions[..]),
            (POSITIONS, DECODE_ROWS, &slots[..]),
            (SEQUENCES, 0, &sequences[..]),
            (TOKENS, 0, tokens),
        ] {
            let start = (cache.parts.offset(index) - first) / WORD + after;
            words[start..][..values.len()].copy_from_slice(values);
        }
        let stride = scratch::reach(&spans) / kv::PAGE;
        words.extend(tables(&spans, stride));
        // SAFETY: the cache's block has space for the arrays after its pages.
        unsafe { self.queue.upload(at(POSITIONS), &words)? };
        Ok(Batch {
            tokens: Some(at(TOKENS)),
            positions: at(POSITIONS),
            slots: at(POSITIONS) + (DECODE_ROWS * WORD) as u64,
            sequences: at(SEQUENCES),
            tables: at(TABLES),
            stride,
            spans,
            _place: None,
            _block: Some(cache.block.clone()),
        })
    }

    /// The rotation frequencies in device memory, computed on the host with the CPU executor's code.
    pub(super) fn frequencies(&self, cache: &mut Cache, rope: &Rope) -> Result<*const f32> {
        let address = part(cache.step, &cache.parts, FREQUENCIES);
        if cache.rope != Some(*rope) {
            let frequencies = rope.frequencies();
            // SAFETY: the part has room for the frequencies of a head that turns as a whole.
            unsafe { self.queue.upload(address, &frequencies)? };
            cache.rope = Some(*rope);
        }
        Ok(address as *const f32)
    }
}

/// Position, slot and sequence of every row.
#[derive(Default)]
struct Arrays {
    positions: Vec<u32>,
    slots: Vec<u32>,
    sequences: Vec<u32>,
}

impl Arrays {
    fn of(spans: &[Span]) -> Self {
        let mut arrays = Self::default();
        for (sequence, span) in spans.iter().enumerate() {
            let from = |first: usize| (first..first + span.rows).map(|i| i as u32);
            arrays.positions.extend(from(span.position));
            arrays.slots.extend(from(span.slot));
            arrays.sequences.extend(std::iter::repeat_n(sequence as u32, span.rows));
        }
        arrays
    }
}

/// Block tables, `stride` entries each. Longer tables are cut; entries behind the end of a shorter one are not read.
fn tables(spans: &[Span], stride: usize) -> Vec<u32> {
    let mut tables = vec![0; spans.len() * stride];
    for (span, table) in spans.iter().zip(tables.chunks_mut(stride.max(1))) {
        let pages = &span.pages[..span.pages.len().min(stride)];
        table[..pages.len()].copy_from_slice(pages);
    }
    tables
}
