//! Requests in, answers out.

mod answer;
mod inspect;
mod limit;
mod predict;
mod prepare;
mod request;
mod runner;
mod sequence;

pub use answer::{Answer, Event, FinishReason, Memory, Stages, Timings, Visual};
pub use inspect::{BudgetNeed, Inspection, inspect};
pub use limit::Limit;
pub use request::{Device, Dtype, EngineOptions, Image, Prompt, Request};

use crate::checkpoint::Checkpoint;
use crate::config::{ModelConfig, ModelFolder};
use crate::kv::{self, BlockTable, Pool};
use crate::model::vit::Encoded;
use crate::ops::clock::Stage;
use crate::ops::cpu::Cpu;
use crate::ops::memory::Purpose;
use crate::ops::{DECODE_ROWS, Ops};
use crate::select::Selection;
use crate::{Error, Result};
use predict::{Need, Predictor, available, check_memory};
use prepare::{Prepared, PreparedImage, Preparer};
use runner::{Runner, pages};
use sequence::Sequence;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

/// A model, ready to answer.
///
/// It may move between threads and answers one batch at a time. It prints nothing, keeps no global state, and a
/// request that fails leaves it as it was.
pub struct Engine {
    preparer: Preparer,
    checkpoint: Checkpoint,
    predictor: Predictor,
    runner: Runner<Cpu>,
    kv_tokens: Option<usize>,
    load: Duration,
}

/// Stages that come before the first token.
const BEFORE_FIRST: [Stage; 4] = [Stage::Vision, Stage::Select, Stage::Project, Stage::Prefill];

/// What one request has come to before its first token.
struct Begun {
    sequence: Sequence,
    prompt_tokens: usize,
    visual: Option<Visual>,
    timings: Timings,
    stages: Option<Stages>,
}

impl Engine {
    /// Opens a Hugging Face folder of LLaVA-NeXT or LLaVA-1.5.
    ///
    /// # Errors
    /// [`Error::Model`] or [`Error::Io`] naming the file at fault, [`Error::Device`] when the device cannot be used.
    pub fn load(path: impl AsRef<Path>, options: EngineOptions) -> Result<Self> {
        let start = Instant::now();
        if let Device::Cuda(_) = options.device {
            return Err(Error::Device(
                "this build has no CUDA executor: use the device cpu".into(),
            ));
        }
        let ModelFolder { dir, config } = ModelFolder::open(path.as_ref())?;
        let checkpoint = Checkpoint::open(&dir)?;
        let half_cache = options.dtype == Some(Dtype::F16);
        let predictor = Predictor::new(&config, half_cache, &checkpoint)?;
        let mut runner = Runner::load(&config, Cpu::new(half_cache), &checkpoint)?;
        if let Some(tokens) = options.kv_tokens {
            runner.reserve(&config, kv::pages_for(tokens))?;
        }
        let preparer = Preparer::open(&dir, config, options.resample)?;
        let load = start.elapsed();
        let kv_tokens = options.kv_tokens;
        Ok(Self { preparer, checkpoint, predictor, runner, kv_tokens, load })
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.preparer.config
    }

    /// Answers one request. `on_event` hears of progress and of every token as it is drawn.
    ///
    /// # Errors
    /// As [`Engine::generate_batch`].
    pub fn generate(
        &mut self,
        request: &Request,
        on_event: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let mut answers = self.generate_batch(std::slice::from_ref(request), on_event)?;
        Ok(answers.remove(0))
    }

    /// Answers several requests together; each gets the answer that it would get alone.
    ///
    /// All requests are checked and all memory is planned before any work. Stopping when every request has its first
    /// token gives the answers as far as they have come.
    ///
    /// # Errors
    /// [`Error::Image`], [`Error::Request`] and [`Error::Capacity`] before any work; [`Error::Numeric`] when the
    /// numbers overflow; [`Error::Cancelled`] when stopped before every request has its first token. One failure
    /// fails the batch.
    pub fn generate_batch(
        &mut self,
        requests: &[Request],
        mut on_event: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Answer>> {
        let start = Instant::now();
        let batch =
            requests.iter().map(|r| self.preparer.prepare(r)).collect::<Result<Vec<_>>>()?;
        let predicted_peak = self.plan(&batch)?;
        let served = self.serve(&batch, start, &mut on_event);
        if served.is_err() {
            // The sequences are gone and their block tables with them.
            self.runner.pool = Pool::new(self.runner.pool.pages());
        }
        debug_assert_eq!(self.runner.pool.free(), self.runner.pool.pages());
        let memory = self.memory(predicted_peak);
        Ok(served?.into_iter().map(|b| self.answer(b, memory)).collect())
    }

    /// Runs a planned batch to its end.
    fn serve(
        &mut self,
        batch: &[Prepared],
        start: Instant,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Begun>> {
        let mut all = Vec::with_capacity(batch.len());
        let mut flow = ControlFlow::Continue(());
        for (index, prepared) in batch.iter().enumerate() {
            if flow.is_break() {
                return Err(Error::Cancelled);
            }
            let (begun, after) = self.begin(index, prepared, start, on_event)?;
            all.push(begun);
            flow = after;
        }
        self.decode(&mut all, flow, start, on_event)?;
        Ok(all)
    }

    /// The vision half only: which patches of an image would be kept.
    ///
    /// # Errors
    /// As [`Engine::generate_batch`].
    pub fn select(&mut self, image: &Image, selection: &Selection) -> Result<Visual> {
        let image = self.preparer.image(image, selection)?;
        self.require(&image)?;
        let need = self.predictor.vision_need(&self.preparer.normalization, &image)?;
        check_memory(&need, 0, available())?;
        let mut quiet = |_, _, _| ControlFlow::Continue(());
        let encoded = self.runner.encode(&image, &self.preparer.normalization, &mut quiet)?;
        Ok(Visual::new(&image.plan, self.runner.ops.kept(&encoded.kept)?))
    }

    /// Takes the weights of vision blocks that only scoring needs.
    fn require(&mut self, image: &PreparedImage) -> Result<()> {
        self.predictor.require(image, &self.checkpoint)?;
        let blocks = image.layers.blocks(&image.plan);
        self.runner.model.require(blocks, &mut self.runner.ops, &self.checkpoint)
    }

    /// Memory and operations to the first token of a batch, the system's memory checked.
    fn need(&mut self, batch: &[Prepared]) -> Result<(Need, u64)> {
        for image in batch.iter().filter_map(|p| p.image.as_ref()) {
            self.require(image)?;
        }
        let before = self.predictor.counter().flops_in(&BEFORE_FIRST);
        let (config, norm) = (&self.preparer.config, &self.preparer.normalization);
        let need = self.predictor.need(config, norm, batch, self.runner.pool.pages())?;
        check_memory(&need, self.runner.ops.meter().held(Purpose::Kv), available())?;
        Ok((need, self.predictor.counter().flops_in(&BEFORE_FIRST) - before))
    }

    /// Plans the memory of a batch and takes the cache.
    fn plan(&mut self, batch: &[Prepared]) -> Result<usize> {
        let wanted = pages(batch);
        if let Some(tokens) = self.kv_tokens
            && wanted > kv::pages_for(tokens)
        {
            return Err(Error::Capacity(format!(
                "the requests need a cache of {} tokens, the engine was given {tokens}: \
                 lower the budget, the new tokens or the number of requests, or raise kv_tokens",
                wanted * kv::PAGE,
            )));
        }
        let (need, _) = self.need(batch)?;
        self.runner.ops.meter().restart();
        self.runner.reserve(&self.preparer.config, wanted)?;
        Ok(need.peak)
    }

    /// Runs a request up to its first token.
    fn begin(
        &mut self,
        index: usize,
        prepared: &Prepared,
        start: Instant,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(Begun, ControlFlow<()>)> {
        let runner = &mut self.runner;
        let mut progress =
            |stage, done, all| on_event(Event::Progress { request: index, stage, done, all });
        let encoded = match &prepared.image {
            Some(image) => {
                Some(runner.encode(image, &self.preparer.normalization, &mut progress)?)
            }
            None => None,
        };
        let mut table = BlockTable::default();
        let prefilled = runner.prefill(prepared, encoded.as_ref(), &mut table, &mut progress)?;
        let first = runner.ops.sample(&prefilled.logits, &[(prepared.sampling, 0)])?[0];
        runner.ops.enter(Stage::Idle);

        let mut sequence = Sequence::new(
            index,
            table,
            &self.preparer.tokenizer,
            prepared.sampling,
            prepared.max_new_tokens,
        );
        let flow = sequence.push(first, &self.preparer.config.eos, start, on_event)?;
        let runner = &mut self.runner;
        let mut seconds = |stage| runner.ops.clock().take(stage).as_secs_f64();
        let timings = Timings {
            load: self.load.as_secs_f64(),
            preprocess: prepared.took.as_secs_f64(),
            vision: seconds(Stage::Vision),
            select: seconds(Stage::Select),
            project: seconds(Stage::Project),
            prefill: seconds(Stage::Prefill),
            ttft: sequence.ttft.as_secs_f64(),
            ..Timings::default()
        };
        let stages = if prepared.keep_stages {
            let visual = prefilled.visual_rows.as_ref();
            Some(self.stages(prepared, encoded.as_ref(), visual, &prefilled.logits)?)
        } else {
            None
        };
        let visual = match (&prepared.image, encoded) {
            (Some(image), Some(encoded)) => {
                Some(Visual::new(&image.plan, self.runner.ops.kept(&encoded.kept)?))
            }
            _ => None,
        };
        let prompt_tokens = prefilled.tokens;
        Ok((Begun { sequence, prompt_tokens, visual, timings, stages }, flow))
    }

    /// Draws tokens until every answer has ended.
    fn decode(
        &mut self,
        begun: &mut [Begun],
        mut flow: ControlFlow<()>,
        start: Instant,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        loop {
            let mut live: Vec<&mut Sequence> = Vec::new();
            for sequence in begun.iter_mut().map(|b| &mut b.sequence) {
                if flow.is_break() && sequence.finished.is_none() {
                    let _ = sequence.finish(FinishReason::Cancelled, on_event)?;
                }
                match sequence.finished {
                    Some(_) => {
                        self.runner.pool.release(std::mem::take(&mut sequence.table));
                    }
                    None => live.push(sequence),
                }
            }
            if live.is_empty() {
                self.runner.ops.enter(Stage::Idle);
                return Ok(());
            }
            for group in live.chunks_mut(DECODE_ROWS) {
                let mut rows: Vec<(u32, &mut BlockTable)> = group
                    .iter_mut()
                    .map(|s| (*s.tokens.last().expect("begun with a token"), &mut s.table))
                    .collect();
                let logits = self.runner.step(&mut rows)?;
                let how: Vec<_> = group.iter().map(|s| (s.sampling, s.tokens.len())).collect();
                let tokens = self.runner.ops.sample(&logits, &how)?;
                for (sequence, token) in group.iter_mut().zip(tokens) {
                    let eos = &self.preparer.config.eos;
                    if sequence.push(token, eos, start, on_event)?.is_break() {
                        flow = ControlFlow::Break(());
                    }
                }
            }
        }
    }

    fn memory(&self, predicted_peak: usize) -> Memory {
        let meter = self.runner.ops.meter();
        Memory {
            weights: meter.held(Purpose::Weights),
            mapped: meter.mapped(),
            kv: meter.held(Purpose::Kv),
            workspace: meter.most(Purpose::Workspace),
            other: 0,
            peak: meter.peak(),
            predicted_peak,
        }
    }

    fn answer(&self, begun: Begun, memory: Memory) -> Answer {
        let Begun { sequence, prompt_tokens, visual, mut timings, stages } = begun;
        timings.decode = sequence.decode_time().as_secs_f64();
        let more = sequence.tokens.len() - 1;
        timings.decode_tokens_per_second =
            (more > 0 && timings.decode > 0.0).then(|| more as f64 / timings.decode);
        Answer {
            text: sequence.text,
            finish_reason: sequence.finished.unwrap_or(FinishReason::Cancelled),
            token_ids: sequence.tokens,
            prompt_tokens,
            visual,
            timings,
            memory,
            stages,
        }
    }

    /// Copies of the intermediate results.
    fn stages(
        &mut self,
        prepared: &Prepared,
        encoded: Option<&Encoded<Cpu>>,
        visual_rows: Option<&<Cpu as Ops>::Buffer>,
        logits: &<Cpu as Ops>::Buffer,
    ) -> Result<Stages> {
        use crate::ops::Chosen;
        let ops = &mut self.runner.ops;
        let config = &self.preparer.config;
        let image = prepared.image.as_ref();
        let numbers = image.map_or(0, |i| i.plan.geometry.partitions() * i.plan.geometry.patches());
        let mut scores = |buffer: Option<&<Cpu as Ops>::Buffer>| -> Result<Option<Vec<f32>>> {
            let Some(_) = image else { return Ok(None) };
            let mut all = match buffer {
                Some(buffer) => ops.download(buffer)?,
                None => Vec::new(),
            };
            all.resize(numbers, f32::NAN);
            Ok(Some(all))
        };
        let cls_attention_init = scores(encoded.and_then(|e| e.init.as_ref()))?;
        let cls_attention_final = scores(encoded.and_then(|e| e.last.as_ref()))?;
        let slots = encoded.map_or(0, |e| e.kept.slots());
        let mut input_ids = prepared.before.clone();
        input_ids.extend(std::iter::repeat_n(config.image_token, slots));
        input_ids.extend(&prepared.after);
        Ok(Stages {
            pixel_values: image.map(|i| self.preparer.normalization.apply(&i.tiles)),
            side: config.vision.image_size,
            input_ids,
            cls_attention_init,
            cls_attention_final,
            visual_tokens: visual_rows.map(|rows| ops.download(rows)).transpose()?,
            hidden: config.text.hidden,
            prefill_logits: ops.download(logits)?,
        })
    }
}
