//! Notes about options that were given but have no effect.

use super::args::SamplingArgs;
use clap::ArgMatches;
use clap::parser::ValueSource;
use hired::select::{Method, Score, Selection};

/// Options of the selection. All except the first two and the last concern only some methods.
const SELECTION: [&str; 19] = [
    "budget",
    "method",
    "rule",
    "alpha",
    "init_layer",
    "final_layer",
    "heads",
    "score",
    "drop_seed",
    "spatial",
    "prumerge_count",
    "neighbours",
    "outliers",
    "contextual",
    "saliency",
    "key_layer",
    "fastv_layer",
    "lazy_tiles",
    "newlines",
];

/// The options that were given on the command line.
pub struct Given<'a>(pub &'a ArgMatches);

impl Given<'_> {
    fn is_given(&self, option: &str) -> bool {
        // Not every command has every option.
        let source = self.0.try_contains_id(option).ok().and_then(|_| self.0.value_source(option));
        source == Some(ValueSource::CommandLine)
    }

    /// A sentence about those of `options` that were given, followed by the reason; `None` if none was given.
    fn idle(&self, options: &[&str], why: &str) -> Option<String> {
        let names: Vec<String> = (options.iter().filter(|option| self.is_given(option)))
            .map(|option| format!("--{}", option.replace('_', "-")))
            .collect();
        match names.as_slice() {
            [] => None,
            [one] => Some(format!("{one} has no effect: {why}")),
            [first @ .., last] => {
                Some(format!("{} and {last} have no effect: {why}", first.join(", ")))
            }
        }
    }

    /// Notes about `options`.
    pub fn these(&self, options: &[&str], why: &str) -> Vec<String> {
        self.idle(options, why).into_iter().collect()
    }

    /// Notes about options of the selection if there is no image.
    pub fn without_image(&self) -> Vec<String> {
        let options =
            [&SELECTION[..], &["budget_total", "max_memory", "max_ttft", "resample"]].concat();
        self.these(&options, "there is no image")
    }

    /// Notes about options that have no effect on this selection.
    pub fn selection(&self, selection: &Selection) -> Vec<String> {
        let method = selection.method;
        if selection.keeps_everything() {
            let (options, why) = match method {
                Method::Full => ([&SELECTION[..1], &SELECTION[2..18]].concat(), "--method full"),
                _ => (SELECTION[1..18].to_vec(), "--budget full"),
            };
            return self.these(&options, &format!("{why} keeps every token"));
        }
        let parts = selection.parts();
        let prumerge = matches!(method, Method::PruMerge | Method::PruMergePlus);
        let plays = [
            ("rule", parts.rule),
            ("alpha", parts.shares),
            ("init_layer", parts.shares),
            ("final_layer", parts.ranks),
            ("heads", parts.heads),
            ("score", parts.heads),
            ("drop_seed", method == Method::Random),
            ("spatial", method == Method::Spatial),
            ("prumerge_count", prumerge),
            ("neighbours", prumerge),
            ("outliers", prumerge),
            ("contextual", method == Method::VisionZip),
            ("saliency", method == Method::Scope),
            ("key_layer", prumerge || matches!(method, Method::VisionZip | Method::GlobalCom2)),
            ("fastv_layer", method == Method::FastV),
        ];
        let idle: Vec<&str> =
            plays.into_iter().filter_map(|(option, plays)| (!plays).then_some(option)).collect();
        let why = match method {
            // With HiRED it may be the rule that makes alpha unused.
            Method::Hired => format!("not used by --method hired with --rule {}", selection.rule),
            method => format!("not used by --method {method}"),
        };
        let mut told = self.these(&idle, &why);
        if selection.score == Some(Score::Head) && parts.heads {
            let layers = [("init_layer", parts.shares), ("final_layer", parts.ranks)];
            let layers: Vec<&str> =
                layers.into_iter().filter_map(|(layer, plays)| plays.then_some(layer)).collect();
            told.extend(self.these(&layers, "--score head looks behind the last layer"));
        }
        told
    }

    /// Notes about options of sampling.
    pub fn sampling(&self, sampling: &SamplingArgs) -> Vec<String> {
        if sampling.temperature != 0.0 {
            return Vec::new();
        }
        let why = "--temperature 0 always takes the most likely token";
        self.these(&["top_k", "top_p", "min_p", "seed"], why)
    }

    /// Notes about options that only concern CUDA.
    pub fn device(&self, is_cuda: bool) -> Vec<String> {
        if is_cuda { Vec::new() } else { self.these(&["gemm", "no_graph"], "the CPU computes") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::{CommandFactory, FromArgMatches};

    fn told(line: &str) -> Vec<String> {
        let words = format!("hired select -m m -i i {line}");
        let matches = Cli::command().try_get_matches_from(words.split_whitespace()).unwrap();
        let Command::Select(args) = Cli::from_arg_matches(&matches).unwrap().command else {
            panic!("{words}")
        };
        let (_, matches) = matches.subcommand().unwrap();
        Given(matches).selection(&args.selection.with(args.budget))
    }

    #[test]
    fn what_changes_nothing_is_told_by_name() {
        for line in [
            "",
            "--budget 10% --rule paper --alpha 0.1 --init-layer 1 --final-layer 1 --heads max",
            "--score received",
            "--score head --alpha 0.1 --heads max",
            "--method random --drop-seed 3",
            "--method prumerge --neighbours 3 --outliers 2 --key-layer 0 --prumerge-count budget",
            "--method visionzip --contextual 0.5 --key-layer 0",
            "--method scope --saliency 2",
            "--method globalcom2 --key-layer 0",
            "--method fastv --fastv-layer 1 --newlines none",
            "--method spatial --spatial stride",
            "--budget full --newlines none",
        ] {
            assert_eq!(told(line), Vec::<String>::new(), "{line}");
        }
        for (line, options) in [
            ("--method full --budget 20% --rule paper", "--budget and --rule have"),
            ("--method full --heads max", "--heads has"),
            ("--method divprune --score received", "--score has"),
            ("--budget full --method scope --saliency 2", "--method and --saliency have"),
            ("--method spatial --alpha 0.9 --neighbours 3", "--alpha and --neighbours have"),
            ("--rule equal --alpha 0.9", "--alpha has"),
            ("--score head --final-layer 3", "--final-layer has"),
            ("--method fastervlm --rule paper", "--rule has"),
            ("--method divprune --heads max --final-layer 1", "--final-layer and --heads have"),
            ("--drop-seed 1 --fastv-layer 2", "--drop-seed and --fastv-layer have"),
        ] {
            let told = told(line);
            let [sentence] = told.as_slice() else { panic!("{line}: {told:?}") };
            assert!(sentence.starts_with(&format!("{options} no effect: ")), "{line}: {sentence}");
        }
    }

    #[test]
    fn every_option_of_a_selection_is_known_here() {
        let command = Cli::command();
        let select = command.find_subcommand("select").unwrap();
        let known = |id: &str| select.get_arguments().any(|arg| arg.get_id() == id);
        assert!(SELECTION.iter().all(|id| known(id)));
        use crate::cli::args::heading::{METHODS, TOKENS};
        let of_selection = |heading: Option<&str>| matches!(heading, Some(METHODS | TOKENS));
        let mut options = select.get_arguments().filter(|arg| of_selection(arg.get_help_heading()));
        assert!(options.all(|arg| SELECTION.contains(&arg.get_id().as_str())));
    }
}
