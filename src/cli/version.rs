//! The long version text, which describes this build.

use std::fmt::Write;
use std::sync::LazyLock;

/// The commit, which can be set when building: `HIRED_COMMIT=$(git rev-parse --short HEAD) cargo build`.
const COMMIT: Option<&str> = option_env!("HIRED_COMMIT");

/// Set by the build script if nvcc compiled the kernels.
const NVCC: Option<&str> = option_env!("HIRED_NVCC_VERSION");

/// The text after the program's name.
pub fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut text = String::from(env!("CARGO_PKG_VERSION"));
        let mut line = |name: &str, value: &str| {
            write!(text, "\n{name:<11}{value}").expect("a String takes everything");
        };
        line("commit", COMMIT.unwrap_or("unknown (set HIRED_COMMIT when building)"));
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        line(
            "target",
            &format!("{}-{}, {profile} build", std::env::consts::ARCH, std::env::consts::OS),
        );
        let features = [
            ("cli", cfg!(feature = "cli")),
            ("image-formats", cfg!(feature = "image-formats")),
            ("cuda", cfg!(feature = "cuda")),
            ("serve", cfg!(feature = "serve")),
        ];
        let features: Vec<&str> =
            features.into_iter().filter_map(|(name, on)| on.then_some(name)).collect();
        line("features", &features.join(" "));
        line("CUDA", &cuda());
        text
    });
    &TEXT
}

fn cuda() -> String {
    #[cfg(feature = "cuda")]
    {
        let code = super::devices::embedded_code();
        match NVCC {
            Some(nvcc) if !code.is_empty() => {
                format!("kernels for {} (nvcc {nvcc})", code.join(" "))
            }
            _ => "no kernels in this build: nvcc was missing or switched off when it was built"
                .into(),
        }
    }
    #[cfg(not(feature = "cuda"))]
    {
        let _ = NVCC;
        "no CUDA code in this build: the feature cuda is off".into()
    }
}
