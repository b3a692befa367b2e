//! The counting executor. It computes nothing: it adds up the operations, traffic and memory of the work that would
//! run.
//!
//! Model code runs on it unchanged, so that the prediction cannot drift from the work.

mod attention;
mod batch;
mod matmul;
mod measure;
mod memory;
mod rows;
mod select;
mod sizes;

pub use sizes::{Cache, Planned, Retained, Rows, Scores, Shape, Size};

use super::arena::Arena;
use super::clock::{Clock, Stage};
use super::cost::{self, Cost, Kind};
use super::footprint::{Footprint, Hold};
use super::memory::Meter;
use crate::format::Dtype;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Counts the work of another executor.
#[derive(Debug)]
pub struct Counter {
    meter: Arc<Meter>,
    clock: Clock,
    costs: BTreeMap<(Stage, Kind), Cost>,
    footprint: Footprint,
    arena: Arena,
    /// Products are made without split-K: from a selection that may keep fewer rows than planned, until the first
    /// token.
    whole: bool,
}

impl Counter {
    /// A counter for an executor with this memory model.
    pub fn new(footprint: Footprint) -> Self {
        let meter = Arc::default();
        let arena = Arena::planning(&meter);
        Self {
            meter,
            clock: Clock::default(),
            costs: BTreeMap::new(),
            footprint,
            arena,
            whole: false,
        }
    }

    /// The cost counted for one kind of work in one stage.
    pub fn cost(&self, stage: Stage, kind: Kind) -> Cost {
        self.costs.get(&(stage, kind)).copied().unwrap_or_default()
    }

    /// All counted costs, by stage and kind.
    pub fn costs(&self) -> impl Iterator<Item = (Stage, Kind, Cost)> + '_ {
        self.costs.iter().map(|(&(stage, kind), &cost)| (stage, kind, cost))
    }

    /// Resets costs and memory maxima. `workspace`: the size that the executor has allocated already and keeps.
    pub fn restart(&mut self, workspace: usize) {
        self.costs.clear();
        self.whole = false;
        self.arena.restart(workspace);
        self.meter.restart();
    }

    fn hold(&self, bytes: usize) -> Hold {
        self.footprint.hold(&self.meter, &self.arena, bytes)
    }

    fn buffer(&self, rows: usize, cols: usize) -> Size {
        self.sized(rows, cols, self.footprint.activations())
    }

    /// A result in f32, whatever the format of activations: logits.
    fn wide(&self, rows: usize, cols: usize) -> Size {
        self.sized(rows, cols, Dtype::F32)
    }

    fn sized(&self, rows: usize, cols: usize, dtype: Dtype) -> Size {
        let _hold = self.hold(rows * cols * dtype.size());
        Size { rows, cols, _hold, of_integers: false, coded: None }
    }

    /// A buffer of rows that their kernel also leaves as int8, if `coded`.
    fn coded_buffer(&mut self, rows: usize, cols: usize, coded: bool) -> Size {
        let mut out = self.buffer(rows, cols);
        if coded {
            out.coded = Some(self.hold(self.footprint.coded(rows, cols)));
            self.rounding(rows, cols);
        }
        out
    }

    /// Rows that become int8.
    fn rounding(&mut self, rows: usize, cols: usize) {
        let row = cols * (self.footprint.activations().size() + size_of::<i8>());
        self.count(Kind::Other, Cost::bytes(rows * (row + size_of::<f32>())));
    }

    fn count(&mut self, kind: Kind, cost: Cost) {
        *self.costs.entry((self.clock.stage(), kind)).or_default() += cost;
    }

    fn pass(&mut self, numbers: usize) {
        self.count(Kind::Other, cost::pass(numbers, self.footprint.activations().size()));
    }
}
