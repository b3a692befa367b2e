//! Which patches are kept, and what follows from it: kept rows, and their order in the prompt.
//!
//! An executor is held against the rule applied to its own scores, for scores that differ in the last bit may choose
//! other patches.

use super::corpus::{Case, Corpus, Data, Results, Tensors};
use hired::Error;
use hired::image::Layout;
use hired::ops::{Evidence, Extent, Ops, Visual};
use hired::select::{
    self, Budget, Geometry, Newlines, Plan, Rule, Selection, Slot, choose, order, plan,
};

/// Numbers of a row, of so many heads.
const WIDTH: usize = 8;
const HEADS: usize = 4;

pub fn cases(corpus: &mut Corpus) {
    let picture = |width, height, side, grid: (usize, usize), fit| Layout {
        width,
        height,
        side,
        grid: Some(grid),
        fit,
    };
    let layouts = [
        Layout { width: 5, height: 5, side: 4, grid: None, fit: (4, 4) },
        picture(16, 16, 8, (2, 2), (16, 16)),
        // Padding above and below, at the sides, and of whole sub-images.
        picture(30, 16, 8, (2, 2), (9, 16)),
        picture(10, 30, 6, (3, 1), (18, 6)),
        picture(200, 3, 5, (3, 1), (1, 5)),
    ];
    let exact = Selection::default();
    let selections = [
        exact.clone(),
        Selection { budget: Budget::Count(7), newlines: Some(Newlines::All), ..exact.clone() },
        Selection { budget: Budget::Full, ..exact.clone() },
        Selection { rule: Rule::Paper, ..exact.clone() },
        Selection { rule: Rule::Repo, newlines: Some(Newlines::All), ..exact },
    ];
    for layout in &layouts {
        for selection in &selections {
            let geometry = Geometry::new(layout, 1).unwrap();
            let plan = plan(&geometry, selection).unwrap();
            let rows = geometry.partitions() * (geometry.patches() + 1);
            let tensors = || {
                Tensors::default()
                    .random("q", &[rows, WIDTH], 1.0)
                    .random("table", &[3, WIDTH], 1.0)
                    .random("newline", &[WIDTH], 1.0)
            };
            let what = format!("{selection:?} of {layout:?}");
            let data = tensors().random("k", &[rows, WIDTH], 2.0).stored(corpus.stored());
            corpus.check("select", &what, 0.0, &Select(plan.clone()), &data);
            if layout != &layouts[1] {
                continue;
            }
            let wrong = vec![f32::NAN; rows * WIDTH];
            let data = tensors().given("k", &[rows, WIDTH], wrong).stored(corpus.stored());
            corpus.check("select, not finite", &what, 0.0, &Refused(plan), &data);
        }
    }
}

struct Scores<S> {
    init: S,
    last: S,
}

/// Scores as the vision tower has them.
fn scores<O: Ops>(ops: &mut O, data: &Data, plan: &Plan) -> hired::Result<Scores<O::Scores>> {
    let (q, k) = (data.rows(ops, "q")?, data.rows(ops, "k")?);
    let (partitions, patches) = (plan.geometry.partitions(), plan.geometry.patches());
    let init = ops.cls_scores(&q, patches + 1, &k, HEADS, 1, patches)?;
    let last = ops.cls_scores(&q, patches + 1, &k, HEADS, partitions, patches)?;
    Ok(Scores { init, last })
}

/// Scores as a selection gets them.
fn seen<'a, O: Ops>(init: &'a O::Scores, last: &'a O::Scores) -> Evidence<'a, O> {
    Evidence { init: Some(init), last: Some(last), ..Evidence::default() }
}

struct Select(Plan);

impl Case for Select {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let Self(plan) = self;
        let Scores { init, last } = scores(ops, data, plan)?;
        let kept = ops.select(plan, seen(&init, &last))?;
        let outcome = ops.kept(&kept)?;
        let scores = ops.scores(&kept)?;
        drop((init, last));
        // An executor that only counts has no outcome.
        let is_counting = outcome.indices.is_empty();
        if !is_counting {
            assert_eq!(
                outcome,
                choose(plan, &select::Evidence::scores(&scores.init, &scores.last))?
            );
            assert_eq!([scores.init.len(), scores.last.len()], plan.scores());
        }
        // How many rows the other rules keep no plan knows, and so not how much memory they take.
        if !plan.is_exact() {
            return Ok(Vec::new());
        }
        let x = data.rows(ops, "q")?;
        let rows = ops.gather_kept(&x, &kept)?;
        let (table, newline) = (data.matrix(ops, "table")?, data.vector(ops, "newline")?);
        let visual = Visual { rows: &rows, kept: &kept, newline: Some(&newline) };
        let prompt = ops.interleave(&table, &[2], Some(visual), &[0])?;
        if is_counting {
            return Ok(Vec::new());
        }
        let tokens = plan.geometry.patches() + 1;
        let numbers = ops.download(&x)?;
        let row_of = |partition: usize, patch: u32| {
            &numbers[(partition * tokens + 1 + patch as usize) * WIDTH..][..WIDTH]
        };
        let gathered: Vec<f32> = (outcome.indices.iter().enumerate())
            .flat_map(|(i, patches)| patches.iter().flat_map(move |&patch| row_of(i, patch)))
            .copied()
            .collect();
        assert_eq!(ops.download(&rows)?, gathered);
        let prompt_rows = prompt.rows();
        let prompt = ops.download(&prompt)?;
        let slots = order(plan, &outcome);
        assert_eq!(prompt_rows, slots.len() + 2);
        for (slot, row) in slots.iter().zip(prompt[WIDTH..].chunks_exact(WIDTH)) {
            if let Slot::Patch { partition, patch } = *slot {
                assert_eq!(row, row_of(partition, patch));
            }
        }
        Ok(Vec::new())
    }
}

/// Scores that are none are an error, at the latest when somebody asks for the outcome.
struct Refused(Plan);

impl Case for Refused {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let Self(plan) = self;
        let Scores { init, last } = scores(ops, data, plan)?;
        let outcome = ops.select(plan, seen(&init, &last)).and_then(|kept| ops.kept(&kept));
        let refused = match outcome {
            Ok(_) => 0.0,
            Err(Error::Numeric(_)) => 1.0,
            Err(error) => return Err(error),
        };
        Ok(vec![("refused", vec![refused])])
    }
}
