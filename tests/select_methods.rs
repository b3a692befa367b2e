//! The methods beside HiRED: against an independent implementation in numpy (the cases of `golden/methods.json`), and
//! what holds for each of them on random images, budgets and evidence.

mod support;

use hired::select::*;
use proptest::prelude::*;
use serde::Deserialize;
use support::{Picture, Scores, layout, one_crop, pinpoints};

const HEADS: usize = 4;
const WIDTH: usize = 8;

/// What the methods look at, from a seed.
struct Seen {
    init: Vec<f32>,
    last: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    features: Vec<f32>,
    projected: Vec<f32>,
}

impl Seen {
    fn new(geometry: &Geometry, heads: Heads, seed: u64) -> Self {
        let (partitions, patches) = (geometry.partitions(), geometry.patches());
        let mut draws = Scores(seed);
        let init = draws.take(patches);
        let last = heads.scores(&draws.take(partitions * HEADS * patches), HEADS, patches);
        let mut centred =
            |count| -> Vec<f32> { draws.units(count).into_iter().map(|unit| unit - 0.5).collect() };
        let queries = centred(partitions * WIDTH).into_iter().map(|x| 16.0 * x).collect();
        let rows = partitions * (patches + 1);
        let (keys, features) = (centred(rows * WIDTH), centred(rows * WIDTH));
        let projected = centred(geometry.valid() * 2 * WIDTH);
        Self { init, last, queries, keys, features, projected }
    }

    fn evidence(&self) -> Evidence<'_> {
        let matrix = |numbers, cols| Matrix { numbers, cols };
        Evidence {
            init: &self.init,
            last: &self.last,
            queries: matrix(&self.queries, WIDTH),
            keys: matrix(&self.keys, WIDTH),
            heads: HEADS,
            features: matrix(&self.features, WIDTH),
            projected: matrix(&self.projected, 2 * WIDTH),
        }
    }
}

#[derive(Deserialize)]
struct Case {
    method: String,
    rule: String,
    heads: String,
    count: String,
    /// Of the method `spatial`.
    spatial: Option<String>,
    #[serde(flatten)]
    picture: Picture,
    budget: String,
    seed: u64,
    kept_indices: Vec<Vec<u32>>,
    merged: usize,
    added: Option<Vec<usize>>,
    rows: Option<usize>,
    #[serde(default)]
    sums: Vec<f64>,
    #[serde(default)]
    weighted: Vec<f64>,
    #[serde(default)]
    last_rows: Vec<Vec<f64>>,
}

#[test]
fn choices_equal_those_of_the_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden/methods.json");
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() >= 50, "only {} cases", cases.len());
    for (number, case) in cases.iter().enumerate() {
        let name = format!("case {number}: {} at {}", case.method, case.budget);
        let geometry = case.picture.geometry();
        let selection = Selection::default()
            .with_method(case.method.parse().unwrap())
            .with_budget(case.budget.parse().unwrap())
            .with_rule(case.rule.parse().unwrap())
            .with_heads(case.heads.parse().unwrap())
            .with_tuning(
                Tuning::default().with_prumerge(case.count.parse().unwrap()).with_spatial(
                    case.spatial.as_ref().map_or(Spacing::Even, |name| name.parse().unwrap()),
                ),
            );
        let plan = plan(&geometry, &selection).unwrap();
        let seen = Seen::new(&geometry, selection.heads, case.seed);
        let kept = choose(&plan, &seen.evidence()).unwrap();
        assert_eq!(kept.indices, case.kept_indices, "{name}");
        assert_eq!(kept.merged(), case.merged, "{name}");
        let Some(rows) = case.rows else {
            assert!(kept.mix.is_none(), "{name}");
            continue;
        };
        let mix = kept.mix.unwrap();
        assert_eq!((mix.rows(), mix.added()), (rows, &case.added.as_ref().unwrap()[..]), "{name}");
        let mut mixed = vec![0.0; rows * WIDTH];
        mix.apply(&seen.features, WIDTH, &mut mixed);
        let near = |got: f64, want: f64, scale: usize| {
            assert!((got - want).abs() < 1e-5 * scale as f64, "{name}: {got} for {want}");
        };
        for j in 0..WIDTH {
            let column = || mixed[j..].iter().step_by(WIDTH).map(|&x| f64::from(x));
            near(column().sum(), case.sums[j], rows);
            let weight = |i: usize| (i + 1) as f64 / rows as f64;
            near(column().enumerate().map(|(i, x)| weight(i) * x).sum(), case.weighted[j], rows);
        }
        let last = case.last_rows.iter().flatten();
        let from = mixed.len() - WIDTH * case.last_rows.len();
        mixed[from..].iter().zip(last).for_each(|(&got, &want)| near(got.into(), want, 1));
    }
}

fn geometries() -> impl Strategy<Value = Geometry> {
    let length = || prop_oneof![1usize..60, 1usize..700];
    (length(), length(), prop::sample::select(vec![14, 28, 56, 84]), any::<bool>()).prop_map(
        |(width, height, side, single)| {
            let layout = match single {
                true => one_crop(width, height, side),
                false => layout(width, height, side, &pinpoints(side)),
            };
            Geometry::new(&layout, 14).unwrap()
        },
    )
}

fn selections() -> impl Strategy<Value = Selection> {
    let budget = prop_oneof![
        (1usize..300).prop_map(Budget::Count),
        (1u32..=100).prop_map(|percent| Budget::Percent(1_000_000 * percent)),
    ];
    let counting = prop::sample::select(vec![Counting::Adaptive, Counting::Budget]);
    let spacing = prop::sample::select(vec![Spacing::Even, Spacing::Stride]);
    let neighbours = prop_oneof![0usize..80, Just(usize::MAX)];
    let share = prop::sample::select(vec!["0", "0.15625", "0.5", "1"]);
    (prop::sample::select(Method::ALL), budget, counting, spacing, share, neighbours).prop_map(
        |(method, budget, prumerge, spatial, share, neighbours)| {
            let contextual = share.parse().unwrap();
            let tuning = Tuning::default()
                .with_prumerge(prumerge)
                .with_spatial(spatial)
                .with_contextual(contextual)
                .with_neighbours(neighbours);
            Selection::default().with_method(method).with_budget(budget).with_tuning(tuning)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn budgets_are_kept_and_padding_is_not(
        geometry in geometries(),
        selection in selections(),
        seed in any::<u64>(),
    ) {
        let Ok(plan) = plan(&geometry, &selection) else { return Ok(()) };
        let seen = Seen::new(&geometry, selection.heads, seed);
        let kept = choose(&plan, &seen.evidence()).unwrap();
        let rows = kept.count() + kept.merged();
        let strided = selection.method == Method::Spatial && selection.tuning.spatial == Spacing::Stride;
        // What drops inside the language model lets everything in.
        let late = selection.method == Method::FastV;
        let most = match () {
            // The distance is rounded down; each partition keeps a patch at least.
            () if strided => 2 * plan.budget.max(geometry.partitions()),
            () if late => geometry.valid(),
            () => plan.budget,
        };
        prop_assert!(rows <= plan.rows && plan.rows <= most.min(geometry.valid()));
        let staying = (late && plan.budget < rows + plan.newlines).then_some(plan.budget);
        prop_assert_eq!(plan.late.map(|late| late.rows), staying);
        let adaptive = matches!(selection.method, Method::PruMerge | Method::PruMergePlus)
            && selection.tuning.prumerge == Counting::Adaptive;
        prop_assert_eq!(plan.is_exact(), !adaptive);
        if strided {
            prop_assert_eq!(rows, plan.rows);
        } else if !adaptive {
            prop_assert_eq!(rows, most.min(geometry.valid()), "{:?}", selection);
        }
        prop_assert!(rows > 0);
        for (i, indices) in kept.indices.iter().enumerate() {
            prop_assert!(indices.is_sorted_by(|a, b| a < b));
            prop_assert!(indices.iter().all(|&patch| geometry.is_valid(i, patch as usize)));
        }
        if let Some(mix) = &kept.mix {
            prop_assert_eq!(mix.rows(), rows);
            let tokens = geometry.patches() + 1;
            // What is merged is of its own partition, and valid; a class token is no padding either.
            let partitions = kept.indices.iter().enumerate().flat_map(|(i, k)| k.iter().map(move |_| i));
            for (row, i) in partitions.chain(mix.added().iter().copied()).enumerate() {
                for (source, weight) in mix.row(row) {
                    prop_assert!(source / tokens == i && weight >= 0.0);
                    prop_assert!(source % tokens == 0 || geometry.is_valid(i, source % tokens - 1));
                }
            }
            for (row, source) in plan.rows_of(&kept.indices).into_iter().enumerate() {
                prop_assert_eq!(mix.row(row).next(), Some((source, 1.0)));
            }
        }
        let places = order(&plan, &kept);
        prop_assert_eq!(places.len(), rows + plan.newlines);
        // The same again.
        prop_assert_eq!(choose(&plan, &seen.evidence()).unwrap(), kept);
    }

    /// Where everything is alike the lower patches are kept, of every partition.
    #[test]
    fn ties_go_to_the_lower_patch(geometry in geometries(), budget in 1usize..200, seed in any::<u64>()) {
        let mut seen = Seen::new(&geometry, Heads::Sum, seed);
        for (numbers, width) in [(&mut seen.keys, WIDTH), (&mut seen.features, WIDTH), (&mut seen.projected, 2 * WIDTH)] {
            let first = numbers[..width].to_vec();
            numbers.chunks_exact_mut(width).for_each(|row| row.copy_from_slice(&first));
        }
        seen.last.fill(0.25);
        for method in ["fastervlm", "prumerge", "visionzip", "divprune", "scope", "globalcom2"] {
            let method = method.parse().unwrap();
            let selection = Selection::default().with_method(method).with_budget(Budget::Count(budget));
            let plan = plan(&geometry, &selection).unwrap();
            let kept = choose(&plan, &seen.evidence()).unwrap();
            for (i, indices) in kept.indices.iter().enumerate() {
                let lowest = geometry.valid_patches(i).take(indices.len()).map(|patch| patch as u32);
                prop_assert_eq!(indices, &lowest.collect::<Vec<_>>(), "{}", method);
            }
        }
    }
}

#[test]
fn rows_that_stand_for_no_patch_come_behind_what_they_belong_to() {
    // The full image and two sub-images of four patches; 9 rows: 3 each, of which one is contextual, one the class token.
    let geometry = Geometry::new(&layout(28, 14, 14, &[(14, 28)]), 7).unwrap();
    let tuning = Tuning::default().with_contextual("0.5".parse().unwrap());
    let selection = Selection::default()
        .with_method(Method::VisionZip)
        .with_budget(Budget::Count(9))
        .with_newlines(Newlines::All)
        .with_tuning(tuning);
    let plan = plan(&geometry, &selection).unwrap();
    let mut seen = Seen::new(&geometry, Heads::Sum, 5);
    seen.last = [0.1, 0.2, 0.4, 0.3].repeat(3);
    let kept = choose(&plan, &seen.evidence()).unwrap();
    assert_eq!(kept.indices, [[2], [2], [2]]);
    assert_eq!(kept.mix.as_ref().unwrap().added(), [0, 0, 1, 2, 1, 2]);
    // A class token, and the first of three left with the mean of both others.
    let rows = kept.mix.as_ref().unwrap();
    assert_eq!(rows.row(3).collect::<Vec<_>>(), [(0, 1.0)]);
    assert_eq!(rows.row(8).collect::<Vec<_>>(), [(11, 1.0), (12, 0.5), (14, 0.5)]);
    let patch = |partition| Slot::Patch { partition, patch: 2 };
    let slots = order(&plan, &kept);
    let behind_full_image = [patch(0), Slot::Merged(0), Slot::Merged(1)];
    assert_eq!(slots[..3], behind_full_image);
    assert_eq!(slots[3..7], [Slot::Newline, patch(1), patch(2), Slot::Newline]);
    assert_eq!(slots[7..], [2, 3, 4, 5].map(Slot::Merged));
}

#[test]
fn equal_shares_fill_up_to_the_cap() {
    // 16 + 12 + 16 + 12 valid patches.
    let geometry = Geometry::new(&layout(70, 28, 28, &pinpoints(28)), 7).unwrap();
    for (budget, expected) in [
        (1, [1, 0, 0, 0]),
        (20, [5, 5, 5, 5]),
        (22, [6, 6, 5, 5]),
        (50, [13, 12, 13, 12]),
        (90, [16, 12, 16, 12]),
    ] {
        let seen = Seen::new(&geometry, Heads::Sum, 1);
        let equal = Selection::default().with_rule(Rule::Equal).with_budget(Budget::Count(budget));
        let faster = equal.clone().with_method(Method::FasterVlm).with_rule(Rule::Paper);
        let plans = [&equal, &faster].map(|selection| plan(&geometry, selection).unwrap());
        assert_eq!(plans[0], plans[1]);
        let kept = choose(&plans[0], &Evidence::scores(&[], &seen.last)).unwrap();
        assert_eq!(kept.allocation, expected, "{budget}");
    }
}

#[test]
fn evidence_that_is_none_is_refused() {
    let geometry = Geometry::new(&layout(56, 56, 28, &pinpoints(28)), 7).unwrap();
    let seen = Seen::new(&geometry, Heads::Sum, 1);
    for (name, what) in [
        ("prumerge", "keys"),
        ("globalcom2", "keys"),
        ("scope", "features"),
        ("divprune", "projected features"),
    ] {
        let selection = Selection::default().with_method(name.parse().unwrap());
        let plan = plan(&geometry, &selection).unwrap();
        choose(&plan, &seen.evidence()).unwrap();
        let mut wrong = Seen::new(&geometry, Heads::Sum, 1);
        for numbers in [&mut wrong.keys, &mut wrong.features, &mut wrong.projected] {
            numbers[WIDTH * 3] = f32::NAN;
        }
        let error = choose(&plan, &wrong.evidence()).unwrap_err();
        assert!(matches!(error, hired::Error::Numeric(_)), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        let none = Evidence::scores(&seen.init, &seen.last);
        assert!(matches!(choose(&plan, &none), Err(hired::Error::Request(_))));
    }
}
