//! The options of a selection as a person types them, separated by line ends, and the plan that they make for several
//! images: what is parsed is planned or refused, and shows itself as what it was parsed from.

#![no_main]

use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;
use std::sync::LazyLock;

use hired::Error;
use hired::config::ModelConfig;
use hired::image::Layout;
use hired::select::{
    Alpha, Budget, Counting, Factor, Geometry, Heads, Method, Rule, Selection, Spacing, Tuning,
    plan,
};
use hired_fuzz::assert_one_line;
use libfuzzer_sys::fuzz_target;

/// Parses one option. What it displays must parse to an equal value.
fn parse<T: FromStr<Err = Error> + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(value) => {
            let shown = value.to_string();
            assert_eq!(shown.parse::<T>().ok().as_ref(), Some(&value), "{text:?} shows {shown:?}");
            Some(value)
        }
        Err(e) => {
            assert_one_line(&e, "");
            None
        }
    }
}

/// Images of several shapes as LLaVA-NeXT divides them.
static GEOMETRIES: LazyLock<Vec<Geometry>> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/models/next-memory");
    let config = ModelConfig::read(Path::new(folder)).expect("the configuration of a fixture");
    [(1, 1), (672, 671), (20, 900)]
        .map(|(width, height)| Layout::new(width, height, &config.image).expect("a layout"))
        .map(|layout| Geometry::new(&layout, config.vision.patch_size).expect("a geometry"))
        .into()
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut fields = text.split('\n');
    let mut next = || fields.next().unwrap_or_default();
    let mut selection = Selection::default();
    macro_rules! take {
        ($($type:ty => $set:ident),+) => {
            $(if let Some(value) = parse::<$type>(next()) { selection = selection.$set(value); })+
        };
    }
    take!(Method => with_method, Budget => with_budget, Rule => with_rule, Alpha => with_alpha, Heads => with_heads);
    let mut tuning = Tuning::default();
    macro_rules! tune {
        ($($type:ty => $set:ident),+) => {
            $(if let Some(value) = parse::<$type>(next()) { tuning = tuning.$set(value); })+
        };
    }
    tune!(Counting => with_prumerge, Spacing => with_spatial, Factor => with_outliers, Alpha => with_contextual, Factor => with_saliency);
    if let Ok(neighbours) = next().parse() {
        tuning = tuning.with_neighbours(neighbours);
    }
    let selection = selection.with_tuning(tuning);
    for geometry in &*GEOMETRIES {
        // Merged rows stand for patches, but every partition may have one that stands for none of its own.
        let most = geometry.valid() + geometry.partitions();
        match plan(geometry, &selection) {
            Ok(plan) => assert!(plan.rows <= most, "{plan:?}"),
            Err(e) => assert_one_line(&e, ""),
        }
    }
});
