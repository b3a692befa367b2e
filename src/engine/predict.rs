//! Predicts the memory and cost of a batch by running the model on a counting executor.

use super::cache::{Found, cuts};
use super::drawing::Turn;
use super::prepare::{Prepared, PreparedImage};
use super::runner::{Runner, images, quiet};
use crate::config::ModelConfig;
use crate::image::Normalization;
use crate::kv::{PAGE, Room, Tables, pages_for};
use crate::model::Source;
use crate::model::vit::Survey;
use crate::ops::count::Counter;
use crate::ops::footprint::Footprint;
use crate::ops::memory::{Purpose, Size};
use crate::ops::sample::Sampling;
use crate::ops::{DECODE_ROWS, MemoryOps};
use crate::{Error, Result};
use std::cmp::Reverse;

/// The bytes that a batch needs, without mapped weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The key/value cache.
    pub kv: usize,
    /// The largest amount of activations and scratch memory at any time.
    pub workspace: usize,
    /// The largest total at any time, copied weights included.
    pub peak: usize,
}

/// The sampling state of a request, of which only the cost matters here.
fn turn(prepared: &Prepared) -> Turn<'static> {
    Turn { sampling: prepared.sampling, before: &[], tokens: &[] }
}

/// Bytes that an executor has allocated and keeps for the next batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// The key/value cache.
    pub kv: usize,
    /// Workspace.
    pub workspace: usize,
}

/// A model that predicts costs.
pub struct Predictor {
    runner: Runner<Counter>,
}

impl Predictor {
    pub fn new(
        config: &ModelConfig,
        footprint: Footprint,
        source: &dyn Source<Counter>,
    ) -> Result<Self> {
        Ok(Self { runner: Runner::load(config, Counter::new(footprint), source)? })
    }

    /// Takes the shapes of what an image's selection looks at in the vision tower.
    pub fn require(&mut self, image: &PreparedImage, source: &dyn Source<Counter>) -> Result<()> {
        self.runner.model.require(image.layers, &mut self.runner.ops, source)
    }

    /// The needs of `batch` in caches of size `room`, given the memory already `held`, if every answer reaches its
    /// maximum length.
    ///
    /// Requests are prefilled one after the other and decoded in groups of [`DECODE_ROWS`], so a group of a larger
    /// batch's requests, counted in the larger batch's caches, needs as much as the whole batch.
    pub fn need(
        &mut self,
        config: &ModelConfig,
        norm: &Normalization,
        batch: &[Prepared],
        room: &Room,
        held: Held,
    ) -> Result<Need> {
        self.restart(config, room, held)?;
        self.serve(norm, batch, None, None)?;
        Ok(self.spent())
    }

    /// The needs of a request that stores its results for later ones and reuses `found`.
    ///
    /// As [`Predictor::need`], in addition to the memory of other requests.
    pub fn need_with(
        &mut self,
        config: &ModelConfig,
        norm: &Normalization,
        prepared: &Prepared,
        room: &Room,
        found: &Found,
    ) -> Result<Need> {
        self.restart(config, room, Held::default())?;
        self.serve(norm, std::slice::from_ref(prepared), None, Some(found))?;
        Ok(self.spent())
    }

    /// The needs of `batches` about one image, run one after the other, with the image encoded only once.
    ///
    /// As [`Predictor::need`].
    pub fn sweep_need(
        &mut self,
        config: &ModelConfig,
        norm: &Normalization,
        batches: &[&[Prepared]],
        room: &Room,
        held: Held,
    ) -> Result<Need> {
        self.restart(config, room, held)?;
        let survey = self.runner.survey(&images(batches), norm, &mut quiet)?;
        batches.iter().try_for_each(|batch| self.serve(norm, batch, Some(&survey), None))?;
        Ok(self.spent())
    }

    /// Resets the counter.
    fn restart(&mut self, config: &ModelConfig, room: &Room, held: Held) -> Result<()> {
        self.runner.free_caches();
        self.runner.ops.restart(held.workspace);
        self.runner.reserve(config, room)
    }

    /// Counts a batch from its first prefill to its last decode step.
    fn serve(
        &mut self,
        norm: &Normalization,
        batch: &[Prepared],
        survey: Option<&Survey<Counter>>,
        found: Option<&Found>,
    ) -> Result<()> {
        let runner = &mut self.runner;
        let mut tables = Vec::new();
        for prepared in batch {
            let images = prepared.images.iter().enumerate();
            let encoded = images.map(|(index, image)| match found {
                Some(found) => runner.encode_to_keep(image, norm, found.picture(index), &mut quiet),
                None => runner.encode(image, norm, survey, &mut quiet),
            });
            let encoded = encoded.collect::<Result<Vec<_>>>()?;
            let mut own = runner.pools.tables();
            runner.pools.append(&mut own, |_| found.map_or(0, Found::rows))?;
            let cuts = found.map_or(Vec::new(), |_| cuts(prepared));
            let prefilled = runner.prefill(prepared, &encoded, &mut own, &cuts, &mut quiet)?;
            runner.lend().draw(&prefilled.logits, &[turn(prepared)])?;
            tables.push((prepared, own));
        }
        // The last step of each group costs the most. Which sequences are decoded together changes as others end;
        // grouping the longest ones gives an upper bound.
        let mut growing: Vec<_> =
            tables.iter_mut().filter(|(prepared, _)| prepared.max_new_tokens > 1).collect();
        growing.sort_by_key(|(prepared, _)| Reverse(prepared.positions()));
        for group in growing.chunks_mut(DECODE_ROWS) {
            let mut turns = Vec::new();
            let mut rows: Vec<(u32, &mut Tables)> = Vec::new();
            for (prepared, tables) in group.iter_mut() {
                let more = prepared.positions() - tables.positions();
                runner.pools.append(tables, |_| more.saturating_sub(1))?;
                turns.push(turn(prepared));
                rows.push((0, tables));
            }
            let logits = runner.lend().step(&mut rows)?;
            runner.lend().draw(&logits, &turns)?;
        }
        tables.into_iter().for_each(|(_, tables)| runner.pools.release(tables));
        Ok(())
    }

    fn spent(&self) -> Need {
        let meter = self.runner.ops.meter();
        Need {
            kv: meter.most(Purpose::Kv),
            workspace: meter.most(Purpose::Workspace),
            peak: meter.peak(),
        }
    }

    /// The needs of the vision part alone.
    pub fn vision_need(
        &mut self,
        norm: &Normalization,
        image: &PreparedImage,
        held: Held,
    ) -> Result<Need> {
        let runner = &mut self.runner;
        runner.free_caches();
        runner.ops.restart(held.workspace);
        runner.encode(image, norm, None, &mut quiet)?;
        let meter = runner.ops.meter();
        Ok(Need { kv: 0, workspace: meter.most(Purpose::Workspace), peak: meter.peak() })
    }

    /// Workspace of a decode step with the given number of sequences and context length, for any kind of sampling.
    pub fn step_need(
        &mut self,
        config: &ModelConfig,
        sequences: usize,
        positions: usize,
    ) -> Result<usize> {
        let room = Room::whole(sequences * pages_for(positions));
        self.restart(config, &room, Held::default())?;
        let runner = &mut self.runner;
        let mut tables: Vec<Tables> = (0..sequences).map(|_| runner.pools.tables()).collect();
        for tables in &mut tables {
            runner.pools.append(tables, |_| positions - 1)?;
        }
        let mut rows: Vec<(u32, &mut Tables)> =
            tables.iter_mut().map(|tables| (0, tables)).collect();
        let logits = runner.lend().step(&mut rows)?;
        let drawn = Sampling::default().with_temperature(1.0).with_top_k(8).with_top_p(0.5);
        for sampling in [Sampling::default(), drawn] {
            let turn = || Turn { sampling, before: &[], tokens: &[] };
            runner.lend().draw(&logits, &rows.iter().map(|_| turn()).collect::<Vec<_>>())?;
        }
        drop((logits, rows));
        tables.into_iter().for_each(|tables| runner.pools.release(tables));
        Ok(runner.ops.meter().most(Purpose::Workspace))
    }

    /// Workspace of the work that measures a machine's speed.
    pub fn probe_need(&mut self, tokens: &[u32]) -> Result<usize> {
        let runner = &mut self.runner;
        runner.free_caches();
        runner.ops.restart(0);
        runner.model.probe(&mut runner.ops, tokens)?;
        Ok(runner.ops.meter().most(Purpose::Workspace))
    }

    /// The counter, holding the cost of the latest prediction: all work up to the first tokens of a batch, and the
    /// last decode step of each group.
    pub fn counter(&self) -> &Counter {
        &self.runner.ops
    }

    /// Bytes of copied and of mapped weights.
    pub fn weights(&self) -> (usize, usize) {
        let meter = self.runner.ops.meter();
        (meter.held(Purpose::Weights), meter.mapped())
    }
}

/// Refuses a batch that does not fit into memory.
///
/// # Errors
/// [`Error::Capacity`] with the numbers.
pub fn check_memory(need: &Need, held: Held, available: Option<usize>) -> Result<()> {
    let wanted = need.kv.saturating_sub(held.kv) + need.workspace.saturating_sub(held.workspace);
    match available {
        Some(free) if wanted > free => Err(Error::Capacity(format!(
            "the request needs {} for keys and values and {} of workspace, {} are \
             available: use a smaller budget, fewer new tokens or fewer images at a time",
            Size(need.kv as u64),
            Size(need.workspace as u64),
            Size(free as u64),
        ))),
        _ => Ok(()),
    }
}

/// Refuses weights that do not fit into memory.
///
/// # Errors
/// [`Error::Capacity`] with the numbers.
pub fn check_weights(wanted: usize, available: Option<usize>) -> Result<()> {
    match available {
        Some(free) if wanted > free => Err(Error::Capacity(format!(
            "the weights need {}, {} are available: use --dtype f16, a smaller model, or the CPU, \
             which uses them where the files are mapped (--device cpu)",
            Size(wanted as u64),
            Size(free as u64),
        ))),
        _ => Ok(()),
    }
}

/// Refuses a cache of fixed size, with `page` bytes per page, that does not fit into memory or the address space.
///
/// # Errors
/// [`Error::Capacity`] with the numbers.
pub fn check_cache(tokens: usize, page: usize, available: Option<usize>) -> Result<()> {
    let refuse = |most: usize| {
        let fits = most / page.max(1) * PAGE;
        let free = Size(most as u64);
        Err(Error::Capacity(format!(
            "kv_tokens: a cache of {tokens} tokens does not fit, {free} are available: set at most {fits}, or leave it \
             unset to allocate what each batch needs"
        )))
    };
    // The limit of a single allocation, if the free memory is unknown.
    let most = available.unwrap_or(isize::MAX as usize);
    match pages_for(tokens).checked_mul(page) {
        Some(bytes) if bytes <= most => Ok(()),
        _ => refuse(most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_has_no_memory_for_is_refused_with_the_numbers() {
        let need = Need { kv: 3 << 30, workspace: 200 << 20, peak: 0 };
        let refused = check_memory(&need, Held::default(), Some(3 << 30)).unwrap_err();
        assert!(matches!(refused, Error::Capacity(_)));
        let message = refused.to_string();
        assert!(message.contains("3.0 GiB") && message.contains("200.0 MiB"), "{message}");
        // Memory that is already held is not counted again; without knowing the free memory nothing is refused.
        check_memory(&need, Held { kv: 1 << 30, ..Held::default() }, Some(3 << 30)).unwrap();
        check_memory(&need, Held::default(), None).unwrap();
    }

    #[test]
    fn a_cache_of_any_size_is_checked_before_it_is_taken() {
        let page = 1 << 20;
        check_cache(2 * PAGE, page, Some(2 << 20)).unwrap();
        for (tokens, available) in
            [(2 * PAGE + 1, Some(2 << 20)), (usize::MAX, Some(2 << 20)), (usize::MAX, None)]
        {
            let refused = check_cache(tokens, page, available).unwrap_err();
            assert!(matches!(refused, Error::Capacity(_)), "{refused:?}");
            let message = refused.to_string();
            assert!(message.contains("kv_tokens") && message.contains(&tokens.to_string()));
            if available.is_some() {
                assert!(message.contains(&format!("set at most {}", 2 * PAGE)), "{message}");
            }
        }
    }
}
