//! Which patches are kept, and what follows from it: kept rows, and their order in the prompt.
//!
//! An executor is held against the rule applied to its own scores, for scores that differ in the last bit may choose
//! other patches.

use super::corpus::{Case, Corpus, Data, Results, Tensors};
use hired::Error;
use hired::image::{Layout, Packing};
use hired::ops::{Evidence, Extent, Ops, Visual};
use hired::select::{
    self, Budget, Counting, Geometry, Method, Newlines, Plan, Rule, Selection, Slot, Tuning,
    choose, order, plan,
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
        packing: Packing::Canvas,
    };
    let layouts = [
        Layout { width: 5, height: 5, side: 4, grid: None, fit: (4, 4), packing: Packing::Canvas },
        picture(16, 16, 8, (2, 2), (16, 16)),
        // Padding above and below, at the sides, and of whole sub-images.
        picture(30, 16, 8, (2, 2), (9, 16)),
        picture(10, 30, 6, (3, 1), (18, 6)),
        picture(200, 3, 5, (3, 1), (1, 5)),
    ];
    comparing(corpus, &layouts);
    let exact = Selection::default();
    let selections = [
        exact.clone(),
        exact.clone().with_budget(Budget::Count(7)).with_newlines(Newlines::All),
        exact.clone().with_budget(Budget::Full),
        exact.clone().with_rule(Rule::Paper),
        exact.with_rule(Rule::Repo).with_newlines(Newlines::All),
    ];
    // Tokens of single patches and of cells, stitched and tile by tile.
    let single = layouts.iter().map(|layout| (*layout, 1));
    let tiles = |layout: &Layout| Layout { packing: Packing::Tiles, ..*layout };
    let cells = [
        (tiles(&layouts[1]), 2),
        (Layout { side: 8, fit: (8, 8), ..tiles(&layouts[0]) }, 2),
        (layouts[3], 2),
        (tiles(&layouts[3]), 1),
    ];
    for (layout, cell) in single.chain(cells) {
        for selection in &selections {
            let geometry = Geometry::new(&layout, cell).unwrap().with_cells(cell);
            let plan = plan(&geometry, selection).unwrap();
            let rows = geometry.partitions() * geometry.tower_stride();
            let wide = WIDTH * cell * cell;
            let tensors = || {
                Tensors::default()
                    .random("q", &[rows, WIDTH], 1.0)
                    .random("table", &[3, wide], 1.0)
                    .random("newline", &[wide], 1.0)
            };
            let what = format!("{selection:?} of {layout:?}, {cell}");
            let data = tensors().random("k", &[rows, WIDTH], 2.0).stored(corpus.stored());
            corpus.check("select", &what, 0.0, &Select(plan.clone()), &data);
            if layout != layouts[1] {
                continue;
            }
            let wrong = vec![f32::NAN; rows * WIDTH];
            let data = tensors().given("k", &[rows, WIDTH], wrong).stored(corpus.stored());
            corpus.check("select, not finite", &what, 0.0, &Refused(plan), &data);
        }
    }
}

/// Methods that compare rows, as far as they choose on the device: what they choose is `device_methods`' matter, here it is
/// what becomes of it and the memory that it takes.
fn comparing(corpus: &mut Corpus, layouts: &[Layout]) {
    let methods = [
        Method::VisionZip,
        Method::DivPrune,
        Method::Scope,
        Method::PruMerge,
        Method::PruMergePlus,
    ];
    let countings = [Counting::Budget, Counting::Adaptive];
    for layout in layouts {
        for (method, prumerge) in methods.iter().flat_map(|m| countings.map(|c| (*m, c))) {
            let adaptive = prumerge == Counting::Adaptive;
            let prumerges = matches!(method, Method::PruMerge | Method::PruMergePlus);
            if adaptive && !prumerges {
                continue;
            }
            let tuning = Tuning::default().with_prumerge(prumerge);
            let newlines = adaptive.then_some(Newlines::All);
            let selection = Selection::default()
                .with_method(method)
                .with_tuning(tuning)
                .with_newlines(newlines);
            let geometry = Geometry::new(layout, 1).unwrap();
            let plan = plan(&geometry, &selection).unwrap();
            let rows = geometry.partitions() * (geometry.patches() + 1);
            // A width that whole vectors reach, and one that they do not.
            for (width, heads) in [(WIDTH, HEADS), (10, 1)] {
                let data = Tensors::default()
                    .random("q", &[rows, width], 1.0)
                    .random("k", &[rows, width], 2.0)
                    .random("queries", &[geometry.partitions(), width], 4.0)
                    .random("projected", &[geometry.valid(), 2 * width], 1.0)
                    .stored(corpus.stored());
                let what = format!("{selection:?} of {layout:?}, {width} wide");
                corpus.check("choose and mix", &what, 64.0, &Compare(plan.clone(), heads), &data);
            }
        }
    }
}

/// With keys of so many heads.
struct Compare(Plan, usize);

impl Case for Compare {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let &Self(ref plan, heads) = self;
        let Scores { init, last } = scores(ops, data, plan, heads)?;
        let (keys, features) = (data.rows(ops, "k")?, data.rows(ops, "q")?);
        let (queries, projected) = (data.rows(ops, "queries")?, data.rows(ops, "projected")?);
        let evidence = Evidence {
            init: Some(&init),
            last: Some(&last),
            queries: Some(&queries),
            keys: Some(&keys),
            heads,
            features: Some(&features),
            projected: Some(&projected),
        };
        let kept = ops.select(plan, evidence)?;
        let outcome = ops.kept(&kept)?;
        drop((init, last, queries));
        // How many rows adaptive counting keeps no plan knows, and so not how much memory they take.
        if !plan.is_exact() {
            return Ok(Vec::new());
        }
        let x = if plan.needs.projected { projected } else { features };
        let rows = ops.gather_kept(&x, &kept)?;
        let numbers = ops.download(&rows)?;
        // An executor that only counts has no outcome.
        if outcome.indices.is_empty() {
            return Ok(Vec::new());
        }
        let cols = x.cols();
        let from = ops.download(&x)?;
        let mut wanted = vec![0.0; numbers.len()];
        match &outcome.mix {
            Some(mix) => mix.apply(&from, cols, &mut wanted),
            None => {
                let rows = plan.rows_of(&outcome.indices);
                let rows = rows.iter().flat_map(|row| &from[row * cols..][..cols]);
                wanted = rows.copied().collect();
            }
        }
        assert_eq!((rows.rows(), numbers.len()), (plan.rows, wanted.len()));
        let largest = wanted.iter().fold(1.0f32, |most, x| most.max(x.abs()));
        let differs = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-3 * largest;
        assert!(!numbers.iter().zip(&wanted).any(differs), "{plan:?}");
        Ok(Vec::new())
    }
}

struct Scores<S> {
    init: S,
    last: S,
}

/// Scores as the vision tower has them.
fn scores<O: Ops>(
    ops: &mut O,
    data: &Data,
    plan: &Plan,
    heads: usize,
) -> hired::Result<Scores<O::Scores>> {
    let (q, k) = (data.rows(ops, "q")?, data.rows(ops, "k")?);
    let (partitions, patches) = (plan.geometry.partitions(), plan.geometry.tower_patches());
    let init = ops.cls_scores(&q, patches + 1, &k, heads, 1, patches)?;
    let last = ops.cls_scores(&q, patches + 1, &k, heads, partitions, patches)?;
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
        let Scores { init, last } = scores(ops, data, plan, HEADS)?;
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
        let each = plan.rows_each();
        let rows = ops.join(rows, each);
        let (table, newline) = (data.matrix(ops, "table")?, data.vector(ops, "newline")?);
        let visual = Visual { rows: &rows, kept: &kept, newline: Some(&newline) };
        let prompt = ops.interleave(&table, &[(&[2], visual)], &[0])?;
        if is_counting {
            return Ok(Vec::new());
        }
        let numbers = ops.download(&x)?;
        let row_of = |partition: usize, patch: u32| -> Vec<f32> {
            let rows = plan.geometry.rows_of(partition, patch as usize);
            rows.flat_map(|row| &numbers[row * WIDTH..][..WIDTH]).copied().collect()
        };
        let gathered: Vec<f32> = (outcome.indices.iter().enumerate())
            .flat_map(|(i, patches)| patches.iter().flat_map(move |&patch| row_of(i, patch)))
            .collect();
        assert_eq!(ops.download(&rows)?, gathered);
        let prompt_rows = prompt.rows();
        let prompt = ops.download(&prompt)?;
        let slots = order(plan, &outcome);
        assert_eq!(prompt_rows, slots.len() + 2);
        let wide = WIDTH * each;
        for (slot, row) in slots.iter().zip(prompt[wide..].chunks_exact(wide)) {
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
        let Scores { init, last } = scores(ops, data, plan, HEADS)?;
        let outcome = ops.select(plan, seen(&init, &last)).and_then(|kept| ops.kept(&kept));
        let refused = match outcome {
            Ok(_) => 0.0,
            Err(Error::Numeric(_)) => 1.0,
            Err(error) => return Err(error),
        };
        Ok(vec![("refused", vec![refused])])
    }
}
