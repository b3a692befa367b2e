//! Selection by hand-worked examples: small enough to check on paper.

mod support;

use hired::image::{Layout, Packing};
use hired::select::*;
use support::{layout, one_crop, pinpoints};

/// Partitions of 28 pixels in patches of 7: n = 4, T = 16.
fn small(width: usize, height: usize) -> Geometry {
    Geometry::new(&layout(width, height, 28, &pinpoints(28)), 7).unwrap()
}

/// 2 x 2 sub-images without padding: P = 5, V = 80.
fn square() -> Geometry {
    small(56, 56)
}

/// 1 x 3 sub-images, the canvas of 84 x 28 filled from 7 to 77: P = 4, V = 16 + 12 + 16 + 12.
fn banner() -> Geometry {
    small(70, 28)
}

fn ask(budget: &str, alpha: &str, rule: Rule) -> Selection {
    let (budget, alpha) = (budget.parse().unwrap(), alpha.parse().unwrap());
    Selection::default().with_budget(budget).with_alpha(alpha).with_rule(rule)
}

/// Final scores that rank patch 0 highest everywhere.
fn descending(geometry: &Geometry) -> Vec<f32> {
    let patches = geometry.patches();
    (0..geometry.partitions() * patches).map(|i| (patches - i % patches) as f32).collect()
}

fn allocation(geometry: &Geometry, selection: &Selection, init: &[f32]) -> Vec<usize> {
    let plan = plan(geometry, selection).unwrap();
    choose(&plan, &Evidence::scores(init, &descending(geometry))).unwrap().allocation
}

/// An init map of 16 patches that is `value` at `patches` and 0 elsewhere.
fn map(value: f32, patches: &[usize]) -> Vec<f32> {
    (0..16).map(|i| if patches.contains(&i) { value } else { 0.0 }).collect()
}

const UNIFORM: [f32; 16] = [0.0625; 16];

/// LLaVA-OneVision's largest canvas, whose products leave 64 bits: 6 x 6 sub-images of 27 x 27 patches.
#[test]
fn the_largest_canvas_is_shared_out_exactly() {
    let geometry = Geometry::new(&layout(2304, 2304, 384, &[(2304, 2304)]), 14).unwrap();
    assert_eq!((geometry.partitions(), geometry.patches(), geometry.valid()), (37, 729, 37 * 729));
    let ask = ask("10%", "0.5", Rule::Exact);
    // 2697 tokens; the full image takes the 729 that it has. 1968 for 36 sub-images: 54 each, and 24 over.
    let shares =
        |each: usize, over: usize, of: usize| (0..of).map(move |i| each + usize::from(i < over));
    let even: Vec<usize> = [729].into_iter().chain(shares(54, 24, 36)).collect();
    assert_eq!(allocation(&geometry, &ask, &[16.0 / 729.0; 729]), even);
    // All attention in the first corner: its sub-image is filled, and the others share 1239 by what they can hold.
    let mut corner = [0.0; 729];
    corner[0] = 16.0;
    let filled: Vec<usize> = [729, 729].into_iter().chain(shares(35, 14, 35)).collect();
    assert_eq!(allocation(&geometry, &ask, &corner), filled);
}

#[test]
fn valid_patches_are_transformers_own() {
    // Width, height, grid, kept rows and columns of the canvas at 336 pixels and patches of 14.
    for (w, h, grid, rows, cols) in [
        (336, 336, (1, 2), 24, 24),
        (1, 1, (1, 2), 24, 24),
        (300, 300, (1, 2), 24, 24),
        (672, 336, (1, 2), 24, 48),
        (336, 672, (2, 1), 48, 24),
        (1024, 1024, (2, 2), 48, 48),
        (672, 448, (2, 2), 32, 48),
        (448, 672, (2, 2), 48, 32),
        (640, 480, (2, 2), 36, 48),
        (375, 500, (2, 2), 48, 36),
        (640, 427, (2, 2), 32, 48),
        (1100, 808, (2, 2), 36, 48),
        (1024, 899, (2, 2), 42, 48),
        (1280, 720, (2, 2), 28, 48),
        (1080, 1920, (2, 2), 48, 28),
        (1800, 600, (1, 3), 24, 72),
        (777, 333, (1, 3), 24, 56),
        (500, 2000, (3, 1), 72, 18),
        (1000, 100, (1, 3), 8, 72),
        (10, 1000, (3, 1), 72, 0),
        (50, 1, (1, 2), 0, 48),
    ] {
        let geometry = Geometry::new(&layout(w, h, 336, &pinpoints(336)), 14).unwrap();
        let (kept_rows, kept_cols) = (geometry.rows().len(), geometry.cols().len());
        assert_eq!((geometry.grid(), kept_rows, kept_cols), (Some(grid), rows, cols), "{w}x{h}");
        assert_eq!(geometry.valid(), 576 + rows * cols, "{w}x{h}");
        let full = Selection::default().with_method(Method::Full);
        let plan = plan(&geometry, &full).unwrap();
        assert_eq!((plan.rows, plan.newlines), (576 + rows * cols, rows), "{w}x{h}");
    }
}

#[test]
fn the_banner_is_centred_on_its_canvas() {
    let geometry = banner();
    assert_eq!((geometry.grid(), geometry.fit()), (Some((1, 3)), (28, 70)));
    assert_eq!((geometry.rows(), geometry.cols()), (0..4, 1..11));
    assert_eq!([0, 1, 2, 3].map(|i| geometry.valid_in(i)), [16, 12, 16, 12]);
    assert_eq!([1, 2, 3].map(|i| geometry.valid_area(i).1), [1..4, 0..4, 0..3]);
    assert!(!geometry.is_valid(1, 4) && geometry.is_valid(1, 5) && !geometry.is_valid(3, 15));
    // In quarters of a pixel the columns of the full image are 70 wide, the strips end at 4·21, 4·49 and 4·70.
    assert_eq!(geometry.row_shares(), [[28, 28, 28, 28]]);
    assert_eq!(geometry.col_shares(), [[70, 14, 0, 0], [0, 56, 56, 0], [0, 0, 14, 70]]);
}

#[test]
fn the_odd_pixel_of_padding_lies_behind() {
    // 29 of 56 columns: 13 before, 14 behind, so that the first sub-image shows 15 and the second 14.
    let layout = Layout {
        width: 20,
        height: 20,
        side: 28,
        grid: Some((1, 2)),
        fit: (28, 29),
        packing: Packing::Canvas,
    };
    let geometry = Geometry::new(&layout, 7).unwrap();
    assert_eq!(geometry.col_shares(), [[29, 29, 2, 0], [0, 0, 27, 29]]);
    // Of patch columns the aspect asks for 4 of 8, 5 of 9 and 4 of 9; flooring the last one's pad of 2.5 keeps a fifth.
    assert_eq!(geometry.cols(), 2..6);
    let layout = Layout {
        width: 5,
        height: 3,
        side: 21,
        grid: Some((1, 3)),
        fit: (21, 35),
        packing: Packing::Canvas,
    };
    assert_eq!(Geometry::new(&layout, 7).unwrap().cols(), 2..7);
    let layout = Layout {
        width: 4,
        height: 3,
        side: 21,
        grid: Some((1, 3)),
        fit: (21, 28),
        packing: Packing::Canvas,
    };
    assert_eq!(Geometry::new(&layout, 7).unwrap().cols(), 2..7);
}

#[test]
fn exact_shares_by_content_and_largest_remainder() {
    let geometry = banner();
    // The three sub-images show 21 : 28 : 21 pixels.
    for (budget, expected) in [
        ("20", [10, 3, 4, 3]),
        ("14", [7, 2, 3, 2]), // 2.1, 2.8, 2.1
        ("10", [5, 2, 2, 1]), // 1.5, 2, 1.5: the tie goes to the lower sub-image
        ("1", [0, 0, 1, 0]),
        ("56", [16, 12, 16, 12]),
        ("55", [16, 12, 15, 12]), // 11.7, 15.6, 11.7
    ] {
        assert_eq!(allocation(&geometry, &ask(budget, "0.5", Rule::Exact), &UNIFORM), expected);
    }
}

#[test]
fn exact_caps_a_sub_image_and_shares_the_rest() {
    let geometry = banner();
    let half = |budget| ask(budget, "0.5", Rule::Exact);
    // All content in the first sub-image, which holds 12 of 24; without content left, 12 go by valid patches:
    // 12·16/28 = 6.86 and 12·12/28 = 5.14.
    assert_eq!(allocation(&geometry, &half("40"), &map(1.0, &[0])), [16, 12, 7, 5]);
    // Columns 0 and 1 of the picture at 4 : 1, so contents are 294 : 56 : 0 of 350. Of 20 the first would get 16.8.
    let mut init = map(4.0, &[0, 4, 8, 12]);
    (0..4).for_each(|row| init[4 * row + 1] = 1.0);
    assert_eq!(allocation(&geometry, &ask("20", "0", Rule::Exact), &init), [0, 12, 8, 0]);
    // Of 30 the second fills too, in the next round, and the third gets what is left.
    assert_eq!(allocation(&geometry, &ask("30", "0", Rule::Exact), &init), [0, 12, 16, 2]);
    // No content anywhere: 4 tokens by 12 : 16 : 12.
    assert_eq!(allocation(&geometry, &half("8"), &[0.0; 16]), [4, 1, 2, 1]);
}

#[test]
fn content_is_fixed_point_rounded_half_to_even() {
    let geometry = square();
    let unit = (-24f32).exp2();
    // 2.5 rounds to 2 and 1.5 to 2: the tie goes to the first sub-image although the last has more.
    let mut init = map(1.5 * unit, &[0]);
    init[15] = 2.5 * unit;
    assert_eq!(allocation(&geometry, &ask("1", "0", Rule::Exact), &init), [0, 1, 0, 0, 0]);
    init[15] = 2.5000002 * unit;
    assert_eq!(allocation(&geometry, &ask("1", "0", Rule::Exact), &init), [0, 0, 0, 0, 1]);
}

#[test]
fn alpha_spills_both_ways() {
    let geometry = square();
    for (budget, alpha, expected) in [
        ("20", "1", [16, 1, 1, 1, 1]),      // the sub-images get what exceeds T
        ("16", "1", [16, 0, 0, 0, 0]),      //
        ("70", "0", [6, 16, 16, 16, 16]),   // the full image gets tokens only when they are full
        ("64", "0", [0, 16, 16, 16, 16]),   //
        ("10", "0.25", [2, 2, 2, 2, 2]),    // ⌊2.5⌋
        ("3", "0.333333", [0, 1, 1, 1, 0]), // ⌊0.999999⌋
        ("3", "0.3333335", [1, 1, 1, 0, 0]), // 333334 millionths
    ] {
        let allocation = allocation(&geometry, &ask(budget, alpha, Rule::Exact), &UNIFORM);
        assert_eq!(allocation, expected, "{budget} at {alpha}");
    }
}

#[test]
fn exact_keeps_the_highest_valid_patches() {
    let geometry = banner();
    let plan = plan(&geometry, &ask("20", "0.5", Rule::Exact)).unwrap();
    let kept = choose(&plan, &Evidence::scores(&UNIFORM, &descending(&geometry))).unwrap();
    assert_eq!(kept.indices[0], (0..10).collect::<Vec<u32>>());
    // Patch 0 and 4 of the first sub-image are padding, and so is 3 of the last.
    assert_eq!(kept.indices[1..], [vec![1, 2, 3], vec![0, 1, 2, 3], vec![0, 1, 2]]);
    // All scores equal: the same, by position.
    assert_eq!(choose(&plan, &Evidence::scores(&UNIFORM, &[0.5; 64])).unwrap(), kept);
}

#[test]
fn decoder_order_interleaves_sub_images() {
    let geometry = square();
    let mut selection = ask("8", "0.25", Rule::Exact);
    selection.newlines = Some(Newlines::All);
    let plan = plan(&geometry, &selection).unwrap();
    let allocation = vec![2, 2, 2, 2, 0];
    let indices = vec![vec![3, 9], vec![0, 5], vec![2, 4], vec![0, 15], vec![]];
    let slots = order(&plan, &Kept { allocation, indices, mix: None });
    let patch = |partition, patch| Slot::Patch { partition, patch };
    let expected = [
        &[patch(0, 3), patch(0, 9)][..],
        &[patch(1, 0), patch(2, 2), Slot::Newline],
        &[patch(1, 5), patch(2, 4), Slot::Newline],
        &[Slot::Newline, Slot::Newline],
        &[patch(3, 0), Slot::Newline, Slot::Newline, Slot::Newline],
        &[patch(3, 15), Slot::Newline],
    ];
    assert_eq!(slots, expected.concat());
    assert_eq!(plan.newlines, 8);
}

#[test]
fn thin_images_have_only_the_full_image() {
    let no_row = small(50, 1);
    let no_column = small(1, 50);
    for (geometry, newlines) in [(&no_row, 0), (&no_column, 8)] {
        assert_eq!((geometry.valid(), geometry.valid_in_sub_images()), (16, 0));
        for alpha in ["0", "0.5", "1"] {
            assert_eq!(allocation(geometry, &ask("10", alpha, Rule::Exact), &UNIFORM), [10, 0, 0]);
        }
        let full = plan(geometry, &ask("full", "0.5", Rule::Exact)).unwrap();
        assert_eq!((full.budget, full.rows, full.newlines), (16, 16, newlines));
        let slots = order(&full, &choose(&full, &Evidence::default()).unwrap());
        assert_eq!(slots.len(), 16 + newlines);
        assert!(slots[16..].iter().all(|slot| *slot == Slot::Newline));
    }
}

#[test]
fn one_crop_ranks_the_full_image_alone() {
    let geometry = Geometry::new(&one_crop(640, 480, 28), 7).unwrap();
    assert_eq!((geometry.partitions(), geometry.valid()), (1, 16));
    let mut scores = UNIFORM;
    scores[13] = 3.0;
    scores[6] = 2.0;
    for rule in [Rule::Exact, Rule::Paper, Rule::Repo] {
        for alpha in ["0", "1"] {
            let mut selection = ask("20%", alpha, rule);
            selection.newlines = Some(Newlines::All);
            let plan = plan(&geometry, &selection).unwrap();
            assert_eq!((plan.budget, plan.rows, plan.newlines, plan.is_exact()), (3, 3, 0, true));
            let kept = choose(&plan, &Evidence::scores(&[], &scores)).unwrap();
            assert_eq!((kept.allocation, kept.indices), (vec![3], vec![vec![0, 6, 13]]));
        }
        let more = plan(&geometry, &ask("17", "0.5", rule)).unwrap();
        assert_eq!((more.budget, more.rows), (17, 16));
    }
}

#[test]
fn a_budget_beyond_the_valid_patches_keeps_all() {
    let geometry = banner();
    let full = plan(&geometry, &ask("full", "0.5", Rule::Paper)).unwrap();
    let more = plan(&geometry, &ask("1000", "0.1", Rule::Exact)).unwrap();
    assert_eq!((full.budget, full.rows, full.newlines), (56, 56, 4));
    assert_eq!((more.budget, more.rows, more.newlines), (1000, 56, 0));
    let everything = choose(&full, &Evidence::default()).unwrap();
    assert_eq!(
        everything,
        choose(&more, &Evidence::scores(&UNIFORM, &descending(&geometry))).unwrap()
    );
    // With alpha 0.7 `repo` marks four patches, all in the first chunk.
    for (rule, arriving) in [(Rule::Exact, 56), (Rule::Paper, 56), (Rule::Repo, 28)] {
        let plan = plan(&geometry, &ask(&usize::MAX.to_string(), "0.7", rule)).unwrap();
        let kept = choose(&plan, &Evidence::scores(&UNIFORM, &descending(&geometry))).unwrap();
        assert_eq!((plan.rows, kept.count()), (56, arriving), "{rule}");
    }
    let method_full = ask("1", "0", Rule::Exact).with_method(Method::Full);
    assert_eq!(plan(&geometry, &method_full).unwrap(), full);
}

#[test]
fn paper_floors_and_loses_the_rest_and_the_padding() {
    let geometry = square();
    // Contents of the quadrants 4 : 3 : 2 : 1.
    let mut init = [0.0; 16];
    for (patch, score) in [(0, 2.5), (5, 1.5), (2, 3.0), (13, 2.0), (15, 1.0)] {
        init[patch] = score;
    }
    let paper = |budget, alpha| ask(budget, alpha, Rule::Paper);
    assert_eq!(allocation(&geometry, &paper("20", "0.5"), &init), [10, 4, 3, 2, 1]);
    assert_eq!(allocation(&geometry, &paper("21", "0.5"), &init), [10, 4, 3, 2, 1]);
    assert_eq!(allocation(&geometry, &paper("50", "0"), &init), [0, 16, 15, 10, 5]); // 20 cut to 16
    assert_eq!(allocation(&geometry, &paper("40", "1"), &init), [16, 0, 0, 0, 0]);
    assert_eq!(allocation(&geometry, &paper("20", "0.5"), &[0.0; 16]), [10, 0, 0, 0, 0]);

    // Centres of the four columns lie in cells 0, 1, 1, 2 of three. Of the first sub-image's 3, patch 0 is padding.
    let geometry = banner();
    let plan = plan(&geometry, &paper("24", "0.5")).unwrap();
    assert_eq!((plan.budget, plan.rows, plan.is_exact()), (24, 24, false));
    let kept = choose(&plan, &Evidence::scores(&UNIFORM, &descending(&geometry))).unwrap();
    assert_eq!(kept.allocation, [12, 3, 6, 3]);
    assert_eq!(kept.indices[1..], [vec![1, 2], vec![0, 1, 2, 3, 4, 5], vec![0, 1, 2]]);
    assert_eq!(kept.count(), 23);

    // The same upright.
    assert_eq!(allocation(&small(28, 70), &paper("24", "0.5"), &UNIFORM), [12, 3, 6, 3]);
}

#[test]
fn repo_counts_marks_in_raster_chunks() {
    let geometry = square();
    let repo = |budget, alpha| ask(budget, alpha, Rule::Repo);
    // Eight marks: six in row 0 and 1 by score, two by the tie at 0 going to the lower patches 2 and 3.
    let init = map(1.0, &[0, 1, 4, 5, 6, 7]);
    assert_eq!(allocation(&geometry, &repo("20", "0.5"), &init), [10, 5, 5, 0, 0]);
    assert_eq!(allocation(&geometry, &repo("60", "0"), &init), [0, 15, 15, 15, 15]);
    assert_eq!(allocation(&geometry, &repo("40", "1"), &init), [16, 0, 0, 0, 0]);
    // ⌊0.5·50⌋ = 25 is cut to 16 and 34 go to the sub-images, two of which are cut.
    assert_eq!(allocation(&geometry, &repo("50", "0.5"), &init), [16, 16, 16, 0, 0]);
}

#[test]
fn repo_multiplies_in_f32() {
    // 42, 82, 84 and 80 marks of 288 in the four chunks; 432 tokens make 63, 123, 126 and 120, but in f32 the first
    // three come out just below.
    let geometry = Geometry::new(&layout(672, 672, 336, &pinpoints(336)), 14).unwrap();
    let counts = [42, 82, 84, 80];
    let init: Vec<f32> = (0..576).map(|i| f32::from(u8::from(i % 144 < counts[i / 144]))).collect();
    let expected = [432, 62, 122, 125, 120];
    assert_eq!(allocation(&geometry, &ask("30%", "0.5", Rule::Repo), &init), expected);
}

/// Options may come from a request of somebody else: what is quoted of them is short and printable.
#[test]
fn a_wrong_option_is_quoted_in_one_line() {
    let wrong = format!("e\0\u{7f}\n{}", "x".repeat(1000));
    let messages = [
        wrong.parse::<Budget>().unwrap_err(),
        wrong.parse::<Rule>().unwrap_err(),
        wrong.parse::<Method>().unwrap_err(),
        wrong.parse::<hired::Alpha>().unwrap_err(),
        wrong.parse::<hired::Factor>().unwrap_err(),
        wrong.parse::<hired::Heads>().unwrap_err(),
    ]
    .map(|error| error.to_string());
    for message in messages {
        assert!(message.contains("`e   x"), "{message:?}");
        assert!(!message.contains(char::is_control) && message.len() < 300, "{message:?}");
    }
}
