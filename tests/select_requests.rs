//! What may be asked for, and what is refused: one line that names the value at fault.

mod support;

use hired::Error;
use hired::image::{Layout, Packing};
use hired::select::*;
use support::{layout, one_crop, pinpoints};

/// 2 x 2 sub-images of 16 patches without padding: P·T = 80.
fn square() -> Geometry {
    Geometry::new(&layout(56, 56, 28, &pinpoints(28)), 7).unwrap()
}

fn ask(budget: &str, rule: Rule) -> Selection {
    Selection::default().with_budget(budget.parse().unwrap()).with_rule(rule)
}

#[test]
fn budgets_as_typed() {
    let hundred = Geometry::new(&one_crop(9, 9, 140), 14).unwrap(); // P·T = 100
    for (text, count, shown) in [
        ("29%", 29, "29%"),
        ("57%", 57, "57%"),
        ("58.000%", 58, "58%"),
        ("57.9999994%", 57, "57.999999%"),
        ("57.9999995%", 58, "58%"),
        ("57.9999985%", 57, "57.999998%"),
        ("1e1%", 10, "10%"),
        ("100%", 100, "100%"),
        ("100.0000005%", 100, "100%"),
        ("7", 7, "7"),
        ("007", 7, "7"),
        ("full", 100, "full"),
    ] {
        let budget: Budget = text.parse().unwrap();
        let plan = plan(&hundred, &Selection::default().with_budget(budget)).unwrap();
        assert_eq!((plan.budget, budget.to_string().as_str()), (count, shown), "{text}");
    }
    for text in [
        "0",
        "00",
        "-1",
        "-0",
        "+5",
        "5.0",
        "1e3",
        "",
        "%",
        "0%",
        "-0%",
        "-20%",
        "0.0000001%",
        "100.000001%",
        "1e9%",
        "1e99999%",
        "101%",
        "nan",
        "nan%",
        "inf%",
        "Full",
        "auto",
        "20 %",
        " 20",
        "0x10",
        "20%%",
    ] {
        let error = text.parse::<Budget>().unwrap_err().to_string();
        assert!(error.contains(&format!("`{text}`")) && !error.contains('\n'), "{error}");
    }
    for text in ["0", "1", "0.5", "1.0000005", ".25", "1e-3", "-0", "+0.5"] {
        let alpha: Alpha = text.parse().unwrap();
        let exact: f64 = text.parse().unwrap();
        assert!((alpha.value() - exact).abs() < 1e-6, "{text}");
    }
    for text in ["-0.1", "1.000001", "2", "nan", "inf", "", "half", "50%", "1e99"] {
        let error = text.parse::<Alpha>().unwrap_err().to_string();
        assert!(error.contains(&format!("`{text}`")) && !error.contains('\n'), "{error}");
    }
    assert_eq!("0.50".parse::<Alpha>().unwrap(), Alpha::default());
    assert_eq!(Alpha::default().to_string(), "0.5");
}

#[test]
fn a_share_that_comes_to_no_token_fails_the_request() {
    let error = plan(&square(), &ask("1.2%", Rule::Exact)).unwrap_err();
    assert!(matches!(error, Error::Request(_)));
    assert!(error.to_string().contains("1.2%") && error.to_string().contains("80"), "{error}");
    assert_eq!(plan(&square(), &ask("1.25%", Rule::Exact)).unwrap().budget, 1);
    for budget in [Budget::Count(0), Budget::Percent(0), Budget::Percent(100_000_001)] {
        let selection = Selection::default().with_budget(budget);
        assert!(matches!(plan(&square(), &selection), Err(Error::Request(_))));
    }
}

#[test]
fn names_as_typed() {
    for name in ["exact", "paper", "repo", "equal"] {
        assert_eq!(name.parse::<Rule>().unwrap().to_string(), name);
    }
    let methods = Method::ALL.iter().map(|method| method.to_string()).collect::<Vec<_>>();
    assert_eq!(
        methods.join(" "),
        "hired full spatial random fastervlm prumerge prumerge+ visionzip divprune scope globalcom2 fastv"
    );
    for (method, name) in Method::ALL.iter().zip(&methods) {
        assert_eq!(name.parse().ok(), Some(*method));
    }
    for text in ["0", "1.5", "4294.967295", "0.000001"] {
        assert_eq!(text.parse::<Factor>().unwrap().to_string(), text);
    }
    for text in ["-1", "4295", "nan", "", "inf", "-0.0000001"] {
        let error = text.parse::<Factor>().unwrap_err().to_string();
        assert!(error.contains(&format!("`{text}`")), "{error}");
    }
    assert_eq!(
        ("all".parse().ok(), "none".parse().ok()),
        (Some(Newlines::All), Some(Newlines::None))
    );
    let error = "strict".parse::<Rule>().unwrap_err().to_string();
    assert_eq!(error, "unknown rule `strict`: give one of exact, paper, repo, equal");
}

#[test]
fn scores_that_no_attention_can_be_are_errors() {
    // A sub-image column of padding on each side.
    let geometry = Geometry::new(&layout(70, 28, 28, &pinpoints(28)), 7).unwrap();
    let (uniform, good) = ([0.0625; 16], [0.5; 64]);
    for rule in [Rule::Exact, Rule::Paper, Rule::Repo] {
        let plan = plan(&geometry, &ask("10", rule)).unwrap();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0] {
            let mut init = uniform;
            init[7] = bad;
            let error = choose(&plan, &Evidence::scores(&init, &good)).unwrap_err();
            assert!(matches!(error, Error::Numeric(_)), "{error}");
            assert!(error.to_string().contains("init score of partition 0, patch 7"), "{error}");
            // Padding counts too.
            let mut scores = good;
            scores[16] = bad;
            let error = choose(&plan, &Evidence::scores(&uniform, &scores)).unwrap_err();
            assert!(error.to_string().contains("final score of partition 1, patch 0"), "{error}");
        }
        assert!(matches!(
            choose(&plan, &Evidence::scores(&uniform[1..], &good)),
            Err(Error::Request(_))
        ));
        assert!(matches!(
            choose(&plan, &Evidence::scores(&uniform, &good[1..])),
            Err(Error::Request(_))
        ));
    }
    let exact = plan(&geometry, &ask("10", Rule::Exact)).unwrap();
    for large in [1e9, 1e30, f32::MAX] {
        assert!(matches!(
            choose(&exact, &Evidence::scores(&[large; 16], &good)),
            Err(Error::Numeric(_))
        ));
    }
}

#[test]
fn layouts_that_no_preprocessing_makes_are_errors() {
    let good = Layout {
        width: 56,
        height: 56,
        side: 28,
        grid: Some((2, 2)),
        fit: (56, 56),
        packing: Packing::Canvas,
    };
    assert!(Geometry::new(&good, 7).is_ok());
    // What is left of a partition's side (SigLIP: 384 pixels in patches of 14) is in no patch.
    assert_eq!(Geometry::new(&good, 8).unwrap().side(), 3);
    let huge = usize::MAX / 2;
    for (bad, patch) in [
        (good, 0),
        (good, 29),
        (Layout { width: 0, ..good }, 7),
        (Layout { height: 0, ..good }, 7),
        (Layout { side: 0, ..good }, 7),
        (Layout { side: huge - huge % 7, ..good }, 7),
        (Layout { grid: Some((0, 2)), ..good }, 7),
        (Layout { grid: Some((2, huge)), ..good }, 7),
        (Layout { fit: (57, 56), ..good }, 7),
        (Layout { fit: (56, huge), ..good }, 7),
    ] {
        assert!(matches!(Geometry::new(&bad, patch), Err(Error::Request(_))), "{bad:?} {patch}");
    }
    // The largest image that a usize can describe.
    assert!(Geometry::new(&Layout { width: usize::MAX, height: usize::MAX, ..good }, 7).is_ok());
}
