//! What a batch will need, found by running the model on the executor that only counts.

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

/// Bytes that a batch takes beside the mapped weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Keys and values.
    pub kv: usize,
    /// The most activations and scratch at one moment.
    pub workspace: usize,
    /// The most of everything at one moment, copied weights included.
    pub peak: usize,
}

/// What draws a token of a request, whatever the token.
fn turn(prepared: &Prepared) -> Turn<'static> {
    Turn { sampling: prepared.sampling, before: &[], tokens: &[] }
}

/// Bytes that an executor has taken and keeps for the next batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Keys and values.
    pub kv: usize,
    /// Workspace.
    pub workspace: usize,
}

/// A model whose cost can be asked.
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

    /// What `batch` needs in caches of this `room` when what is `held` stays and every answer is as long as it may get.
    ///
    /// Requests are prefilled one after the other and decoded in groups of [`DECODE_ROWS`]: with the room of a larger
    /// batch, a group of its requests needs what all of them do.
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

    /// What a request needs that keeps what it computes for later ones, and finds so much of it.
    ///
    /// As [`Predictor::need`], beside what others hold.
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

    /// What `batches` about one image need, one after the other, when it is encoded once for all of them.
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

    /// Counts from nothing.
    fn restart(&mut self, config: &ModelConfig, room: &Room, held: Held) -> Result<()> {
        self.runner.free_caches();
        self.runner.ops.restart(held.workspace);
        self.runner.reserve(config, room)
    }

    /// Counts a batch from its first prompt to its longest answers.
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
        // The last step of each group is its most expensive one. Which answers grow together changes as others end: the
        // longest of all, here in one group, need no less than any that come together.
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

    /// What the vision half alone needs.
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

    /// Workspace of a decode step of so many sequences that are so long, whatever draws their tokens.
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

    /// Workspace of the piece of work that measures a machine.
    pub fn probe_need(&mut self, tokens: &[u32]) -> Result<usize> {
        let runner = &mut self.runner;
        runner.free_caches();
        runner.ops.restart(0);
        runner.model.probe(&mut runner.ops, tokens)?;
        Ok(runner.ops.meter().most(Purpose::Workspace))
    }

    /// The counter, with what the last question cost: all the work up to each first token of a batch, and the last
    /// decode step of each group.
    pub fn counter(&self) -> &Counter {
        &self.runner.ops
    }

    /// Copied and mapped weight bytes.
    pub fn weights(&self) -> (usize, usize) {
        let meter = self.runner.ops.meter();
        (meter.held(Purpose::Weights), meter.mapped())
    }
}

/// Refuses a batch that there is no memory for.
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

/// Refuses weights that there is no memory for.
///
/// # Errors
/// [`Error::Capacity`] with the numbers.
pub fn check_weights(wanted: usize, available: Option<usize>) -> Result<()> {
    match available {
        Some(free) if wanted > free => Err(Error::Capacity(format!(
            "the weights take {}, {} are available: use --dtype f16, a smaller model, or the CPU, \
             which uses them where the files are mapped (--device cpu)",
            Size(wanted as u64),
            Size(free as u64),
        ))),
        _ => Ok(()),
    }
}

/// Refuses a cache of fixed size, of which a page takes `page` bytes, that there is no memory or no address for.
///
/// # Errors
/// [`Error::Capacity`] with the numbers.
pub fn check_cache(tokens: usize, page: usize, available: Option<usize>) -> Result<()> {
    let refuse = |most: usize| {
        let fits = most / page.max(1) * PAGE;
        let free = Size(most as u64);
        Err(Error::Capacity(format!(
            "kv_tokens: a cache of {tokens} tokens does not fit, {free} are available: ask for {fits} at most, or for \
             none to have as much as the requests at hand need"
        )))
    };
    // What no allocation may exceed, where the free memory is not known.
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
        // What is held already is not taken again; without knowledge nothing is refused.
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
                assert!(message.contains(&format!("ask for {} at most", 2 * PAGE)), "{message}");
            }
        }
    }
}
