//! Predicts what a GPU can do with a model without having the GPU: memory by the engine's own predictor, time by a
//! roofline model.

use super::dry_run::{BudgetNeed, DryRun, NEW_TOKENS, Subject};
use super::limit::{Estimate, Limit, Pace, TooMuch, check_method, floor, largest, largest_budget};
use super::request::{Device, EngineOptions};
use super::runner::room_for;
use crate::format::{Dtype, Formats};
use crate::ops::DECODE_ROWS;
use crate::ops::clock::Stage;
use crate::ops::cost::Kind;
use crate::ops::footprint::Footprint;
use crate::ops::gpu::Gpu;
use crate::ops::memory::Size;
use crate::ops::shares::Shares;
use crate::quant::{Packing, Quantization};
use crate::select::{Budget, Selection};
use crate::{Error, Result};
use serde::Serialize;

/// Seconds of host work: decoding and cutting the image (measured on a 2.5 GHz Xeon under load), the prompt, and
/// launches that the device waits for.
const HOST: f64 = 0.05;

/// The predicted cost of one budget on a GPU.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BudgetPlan {
    /// Memory needs.
    #[serde(flatten)]
    pub need: BudgetNeed,
    /// True if `peak` is at most `usable`.
    pub fits: bool,
    /// Bytes of the GPU's memory that the engine can use.
    pub usable: usize,
    /// Lower bound on the seconds to the first token: the GPU's work at 100% of its peak rates.
    pub ttft_floor: f64,
    /// Expected seconds to the first token, compared with `--max-ttft`.
    pub ttft_expected: f64,
    /// Lower bound on the seconds per token, for the first one after the prompt.
    pub decode_floor: f64,
    /// Expected seconds per token, for the same one.
    pub decode_expected: f64,
    /// The largest batch of such requests that fits.
    pub largest_batch: usize,
    /// The limit that a larger budget would exceed, if the largest budget was searched for.
    pub limit: Option<Bound>,
}

/// A limit on the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// The memory of the GPU.
    Card,
    /// The requested memory limit.
    MaxMemory,
    /// The requested time limit.
    MaxTtft,
    /// The model's context length, or a limit of its kernels.
    Model,
}

/// Plans a model on a GPU.
pub struct Planner {
    dry_run: DryRun,
    gpu: &'static Gpu,
    formats: Formats,
    quantization: Option<Quantization>,
    selection: Selection,
    pace: Pace,
}

impl Planner {
    /// Creates a plan for `gpu`, whatever device `options` name. The budget of `selection` is ignored.
    ///
    /// # Errors
    /// As [`super::Engine::load`] for a folder; [`Error::Request`] for contradictory options.
    pub fn new(
        subject: Subject<'_>,
        gpu: &'static Gpu,
        options: &EngineOptions,
        selection: &Selection,
    ) -> Result<Self> {
        let options = EngineOptions { device: Device::Cuda(None), ..options.clone() };
        let dry_run = DryRun::new(subject, &options)?;
        let formats = options.cuda_formats();
        let library = matches!(dry_run.footprint, Footprint::Cuda { library: true, .. });
        let activations = formats.activations;
        let tensor = gpu.multiplies_on_tensor_cores(activations.into(), activations);
        let shares = Shares::of(gpu.capability, tensor, library);
        let pace = Pace { roofs: gpu.roofs(activations, library), shares, host: HOST };
        let quantization = options.quantization;
        Ok(Self { dry_run, gpu, formats, quantization, selection: selection.clone(), pace })
    }

    /// Format of the weights: the integer format if they are quantized, otherwise that of the activations.
    pub fn weights(&self) -> &'static str {
        let stored = self.dry_run.config.quantization;
        let integers = stored.or(self.quantization.map(|q| q.scheme.into()));
        integers.map_or(self.formats.activations.name(), Packing::name)
    }

    /// Returns true if the latest plan contains work of this kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.dry_run.predictor.counter().costs().any(|(_, other, _)| other == kind)
    }

    /// The expected speed of the GPU.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// The predicted cost of a budget.
    ///
    /// # Errors
    /// [`Error::Request`] for an invalid budget or one that rounds to no token, [`Error::Context`] if the model's
    /// context is too short.
    pub fn at(&mut self, budget: &str) -> Result<BudgetPlan> {
        let selection = Selection { budget: budget.parse()?, ..self.selection.clone() };
        self.dry_run.request(&selection, NEW_TOKENS)?.check_positions(&self.dry_run.config)?;
        let need = self.dry_run.budget(budget, &selection)?;
        let usable = self.gpu.usable();
        let largest_batch = self.largest_batch(&selection, NEW_TOKENS)?;
        // The single decode step of an answer of two tokens is the first one after the prompt.
        let request = self.dry_run.request(&selection, 2)?;
        self.dry_run.need(std::slice::from_ref(&request))?;
        let (counter, roofs) = (self.dry_run.predictor.counter(), &self.pace.roofs);
        Ok(BudgetPlan {
            fits: need.peak <= usable,
            need,
            usable,
            ttft_floor: floor(counter, roofs, |stage| stage != Stage::Decode),
            ttft_expected: self.pace.first_token(counter),
            decode_floor: floor(counter, roofs, |stage| stage == Stage::Decode),
            decode_expected: self.pace.step(counter),
            largest_batch,
            limit: None,
        })
    }

    /// The largest budget, as a number of image tokens, that fits the GPU and the given limits on peak memory (bytes)
    /// and on the time to first token (seconds).
    ///
    /// # Errors
    /// [`Error::Capacity`] if not even one token fits; [`Error::Request`] if the method takes no budget.
    pub fn largest_budget(
        &mut self,
        max_memory: Option<usize>,
        max_ttft: Option<f64>,
    ) -> Result<BudgetPlan> {
        check_method(&self.selection)?;
        let usable = self.gpu.usable();
        let with = |count| Selection { budget: Budget::Count(count), ..self.selection.clone() };
        let smallest = self.dry_run.request(&with(1), NEW_TOKENS)?;
        let image = &smallest.images[0];
        let most = image.plan.most();
        let mut cost = |count| -> Result<Estimate> {
            let request = self.dry_run.request(&with(count), NEW_TOKENS)?;
            request.check_positions(&self.dry_run.config)?;
            let need = self.dry_run.need(std::slice::from_ref(&request))?;
            let ttft = self.pace.first_token(self.dry_run.predictor.counter());
            Ok(Estimate { peak: need.peak, ttft })
        };
        let least = cost(1)?.peak;
        if least > usable {
            return Err(Error::Capacity(format!(
                "does not fit: {} are needed even with one image token, the {} has {} free: use a larger GPU or a \
                 smaller model{}",
                Size(least as u64),
                self.gpu.name,
                Size(usable as u64),
                if self.formats.activations == Dtype::F32 {
                    ", or --dtype f16"
                } else {
                    ", or --dtype q8 or q4"
                }
            )));
        }
        let memory = max_memory.map_or(usable, |bytes| bytes.min(usable));
        let limits = [Some(Limit::Memory(memory)), max_ttft.map(Limit::Ttft)];
        let limits: Vec<Limit> = limits.into_iter().flatten().collect();
        let (count, why) = largest_budget(most, &limits, cost)?;
        let limit = why.map(|why| match why {
            TooMuch::For(Limit::Memory(_), _) if max_memory == Some(memory) => Bound::MaxMemory,
            TooMuch::For(Limit::Memory(_), _) => Bound::Card,
            TooMuch::For(Limit::Ttft(_), _) => Bound::MaxTtft,
            TooMuch::Refused(_) => Bound::Model,
        });
        Ok(BudgetPlan { limit, ..self.at(&count.to_string())? })
    }

    /// The largest batch of one kind of request that fits the GPU; 0 if not even one does.
    fn largest_batch(&mut self, selection: &Selection, new_tokens: usize) -> Result<usize> {
        let group = (0..DECODE_ROWS)
            .map(|_| self.dry_run.request(selection, new_tokens))
            .collect::<Result<Vec<_>>>()?;
        let each = room_for([&group[..1]].into_iter());
        // An upper bound from keys and values alone.
        let most = self.gpu.usable() / self.dry_run.bytes(&each);
        let (count, _) = largest(most, |count| {
            let all = each.with(|pages| count * pages);
            let need = self.dry_run.need_in(&group[..count.min(DECODE_ROWS)], &all)?;
            Ok((need.peak > self.gpu.usable()).then_some(()))
        })?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::synth::Preset;
    use crate::format::Format;
    use crate::kv::PAGE;
    use crate::quant::{Scheme, Scope};

    fn planner(preset: Preset, gpu: &str, options: &EngineOptions) -> Planner {
        let gpu = Gpu::named(gpu).unwrap();
        Planner::new(Subject::Preset(preset), gpu, options, &Selection::default()).unwrap()
    }

    fn seven(gpu: &str) -> Planner {
        planner(Preset::Next7b, gpu, &EngineOptions::default())
    }

    /// Device bytes of the weights of LLaVA-v1.6-vicuna-7b, from the published shapes: matrices with `dtype` bytes
    /// per element, vectors with four.
    fn weights_by_hand(dtype: usize) -> usize {
        let (d, inner, h, mlp) = (1024, 4096, 4096, 11008);
        // Rows of 3·14·14 = 588 columns are padded to 592 in f16 for vectors of 16 bytes; in f32 588 is aligned
        // already.
        let patch = if dtype == 2 { 592 } else { 588 };
        let matrices = [
            // The image features need 23 of 24 blocks.
            23 * (4 * d * d + 2 * d * inner) + d * patch,
            d * h + h * h,
            32 * (4 * h * h + 3 * h * mlp) + 2 * 32064 * h,
        ];
        let vectors = [
            // Class token, position embeddings and first norm; norms and biases of each block.
            d + 577 * d + 2 * d + 23 * (4 * d + 4 * d + inner + d),
            // Biases of the projector, and the row separator.
            2 * h + h,
            32 * 2 * h + h,
        ];
        dtype * matrices.iter().sum::<usize>() + 4 * vectors.iter().sum::<usize>()
    }

    /// Keys and values of 32 layers with 4096 elements each, plus the small buffers of a decode step: frequencies of
    /// 64 pairs, positions and slots, sequences and tokens of eight rows, their block tables (a power of two times
    /// 128 slots), and counters per row, one for each head and one for the row, each aligned to 256 bytes.
    fn cache_by_hand(pages: usize, dtype: usize) -> usize {
        let tables = pages.div_ceil(8).next_power_of_two() * 8 * 8 * 4;
        let counters = (8 * (32 + 1) * 4usize).next_multiple_of(256);
        pages * PAGE * 2 * 32 * 4096 * dtype + 256 + 3 * 256 + tables + counters
    }

    #[test]
    fn memory_is_what_a_count_by_hand_gives() {
        let f32 = EngineOptions { dtype: Some(super::super::Dtype::F32), ..Default::default() };
        for (options, dtype) in [(EngineOptions::default(), 2), (f32, 4)] {
            let mut planner = planner(Preset::Next7b, "h200", &options);
            // 2880 patches and 48 row separators, or 576 patches; 60 text tokens; 127 of 128 new tokens are fed back.
            for (budget, visual) in [("full", 2928), ("20%", 576)] {
                let plan = planner.at(budget).unwrap();
                let pages = (visual + 60 + 127usize).div_ceil(PAGE);
                assert_eq!(plan.need.visual_tokens, visual);
                assert_eq!(plan.need.weights, weights_by_hand(dtype), "{budget}");
                assert_eq!(plan.need.kv, cache_by_hand(pages, dtype), "{budget}");
                assert_eq!(plan.need.peak, plan.need.weights + plan.need.kv + plan.need.workspace);
                assert!(plan.fits && plan.need.mapped == 0);
            }
        }
    }

    /// Lower bounds in milliseconds from the operations of the whole model: 42.99 and 10.20 · 10¹² over the GPU's
    /// rate. The planner leaves out what the engine skips (part of the last blocks) and adds the traffic of norms and
    /// copies, which weighs most where arithmetic is fast. Tolerance: 4%.
    #[test]
    fn floors_are_the_roofs() {
        for (gpu, full, twenty) in
            [("p40", 3656.0, 867.0), ("t4", 661.0, 157.0), ("h200", 43.5, 10.3)]
        {
            let mut planner = seven(gpu);
            for (budget, wanted) in [("full", full), ("20%", twenty)] {
                let got = 1e3 * planner.at(budget).unwrap().ttft_floor;
                assert!((got / wanted - 1.0).abs() < 0.04, "{gpu} {budget}: {got} ms, {wanted}");
            }
        }
        // Each token reads all weights and the cache once.
        for (gpu, full, twenty) in [("p40", 23.4, 25.5), ("t4", 21.6, 23.6), ("h200", 325.0, 354.0)]
        {
            let mut planner = seven(gpu);
            for (budget, wanted) in [("full", full), ("20%", twenty)] {
                let got = 1.0 / planner.at(budget).unwrap().decode_floor;
                assert!((got / wanted - 1.0).abs() < 0.01, "{gpu} {budget}: {got}/s, {wanted}");
            }
        }
    }

    /// The same for integer formats. q8: the tower's 1.85 · 10¹² and the projector's and decoder's 8.24 · 10¹²
    /// operations at 47 (P40) and 130 (T4) TOP/s, plus attention at the rate of fp16: 234 and 80 ms; and passes that
    /// read 0.95 · 10⁹ activations in f16 and write them in int8, 8.2 and 8.9 ms. q4 is multiplied at the rate of
    /// fp16. A decode step reads 6.476 · 10⁹ weights of the blocks in 1 or 33/64 bytes, 131 · 10⁶ of the head in 1 or
    /// 2 bytes, and 334 MB of cache.
    #[test]
    fn integers_have_floors_of_their_own() {
        let q4 = Scheme::Q4 { group: 128 };
        for (gpu, scheme, scope, first, rate) in [
            ("p40", Scheme::Q8, Scope::All, 242.0, 49.9),
            ("t4", Scheme::Q8, Scope::All, 89.0, 46.1),
            ("p40", q4, Scope::Llm, 867.0, 87.9),
            ("t4", q4, Scope::Llm, 157.0, 81.3),
        ] {
            let quantization = Some(Quantization { scheme, scope });
            let options = EngineOptions { quantization, ..EngineOptions::default() };
            let mut planner = planner(Preset::Next7b, gpu, &options);
            let plan = planner.at("20%").unwrap();
            let near = |got: f64, wanted: f64, part| {
                assert!((got / wanted - 1.0).abs() < part, "{gpu} {scheme}: {got}, not {wanted}");
            };
            near(1e3 * plan.ttft_floor, first, 0.05);
            near(1.0 / plan.decode_floor, rate, 0.01);
            // One kind of product dominates, so the expected time is close to its time divided by its share.
            let kind =
                Kind::of(if scheme == Scheme::Q8 { Format::Q8 } else { Format::Q4 { group: 128 } });
            assert!(planner.has(kind));
            let [many, few] = [false, true].map(|few| planner.pace.shares.kind(kind, few));
            near(plan.decode_expected, plan.decode_floor / few, 0.05);
            near(plan.ttft_expected - HOST, plan.ttft_floor / many, 0.15);
        }
    }

    /// By hand: 24 GB less the weights and 0.8 GB, divided by the cache of a prompt. The planner subtracts what the
    /// driver takes of the 24 GB and adds room for the answer, so with 128 new tokens it allows fewer at small
    /// budgets.
    #[test]
    fn batches_are_what_the_cache_allows() {
        let mut planner = seven("p40");
        for (budget, prompt_alone, with_answer) in [("full", 5, 5), ("20%", 27, 22)] {
            let selection = Selection { budget: budget.parse().unwrap(), ..Selection::default() };
            assert_eq!(planner.largest_batch(&selection, 1).unwrap(), prompt_alone);
            let plan = planner.at(budget).unwrap();
            assert_eq!(plan.largest_batch, with_answer);
            assert_eq!(planner.largest_batch(&selection, NEW_TOKENS).unwrap(), with_answer);
        }
        assert_eq!(seven("t4").at("full").unwrap().largest_batch, 0);
    }

    /// The predictor counts one group instead of a whole batch; both need the same.
    #[test]
    fn a_group_with_the_pages_of_all_needs_what_all_need() {
        for preset in [Preset::Tiny, Preset::Next7b] {
            let mut planner = planner(preset, "h200", &EngineOptions::default());
            for budget in ["full", "20%", "1"] {
                let selection =
                    Selection { budget: budget.parse().unwrap(), ..Selection::default() };
                for count in [9, 16, 21] {
                    let batch: Vec<_> = (0..count)
                        .map(|_| planner.dry_run.request(&selection, NEW_TOKENS).unwrap())
                        .collect();
                    let whole = planner.dry_run.need(&batch).unwrap();
                    let all = room_for([&batch[..]].into_iter());
                    let group = planner.dry_run.need_in(&batch[..DECODE_ROWS], &all).unwrap();
                    assert_eq!(group, whole, "{preset} {budget} {count}");
                }
            }
        }
    }

    #[test]
    fn a_promise_is_expected_slower_than_its_floor() {
        for gpu in ["p40", "t4", "h200"] {
            let mut planner = seven(gpu);
            let Shares { many, few, attention, traffic } = planner.pace.shares;
            let linear = many.linear;
            let plan = planner.at("20%").unwrap();
            let [least, most] = [f64::min, f64::max].map(|by| by(by(linear, attention), traffic));
            let work = plan.ttft_expected - HOST;
            assert!(work > plan.ttft_floor / most && work < plan.ttft_floor / least, "{gpu}");
            // Products are most of the work.
            assert!((work * linear / plan.ttft_floor - 1.0).abs() < 0.1, "{gpu}");
            // Weights are most of what a decode step reads.
            let step = plan.decode_expected * few.linear / plan.decode_floor;
            assert!((step - 1.0).abs() < 0.05, "{gpu}: {step}");
        }
        let f32 = EngineOptions { dtype: Some(super::super::Dtype::F32), ..Default::default() };
        // Without integer products f32 uses the same code path as on a P40.
        let of = |shares: Shares| [shares.many.linear, shares.few.linear, shares.attention];
        let shares = planner(Preset::Tiny, "h200", &f32).pace.shares;
        assert_eq!(of(shares), of(seven("p40").pace.shares));
    }
}
