//! The operations to time, at the shapes that a model uses.

use hired::Result;
use hired::config::Activation;
use hired::image::{Layout, Packing, Tiles};
use hired::ops::sample::Sampling;
use hired::select::{Counting, Geometry, Method, Plan, Selection, Tuning, plan};

/// The sizes of a model, and of the requests to it.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    pub side: usize,
    pub patch: usize,
    pub vision: usize,
    vision_inner: usize,
    pub vision_heads: usize,
    pub width: usize,
    pub inner: usize,
    pub heads: usize,
    pub vocabulary: usize,
    /// Rows of prompts: with a fifth of the budget, and with all visual tokens.
    prompts: [usize; 2],
    /// Sequences decoded together.
    sequences: [usize; 2],
    /// Context lengths of those sequences.
    contexts: [usize; 2],
}

/// LLaVA-v1.6-vicuna-7b on 672 by 672 pixels.
pub const SEVEN: Model = Model {
    side: 336,
    patch: 14,
    vision: 1024,
    vision_inner: 4096,
    vision_heads: 16,
    width: 4096,
    inner: 11008,
    heads: 32,
    vocabulary: 32064,
    prompts: [636, 2988],
    sequences: [1, 8],
    contexts: [640, 3000],
};

/// Small sizes, for a trial run.
pub const SMALL: Model = Model {
    side: 8,
    patch: 2,
    vision: 32,
    vision_inner: 64,
    vision_heads: 2,
    width: 64,
    inner: 96,
    heads: 2,
    vocabulary: 120,
    prompts: [9, 20],
    sequences: [1, 3],
    contexts: [17, 40],
};

/// The full image and four sub-images.
pub const PARTITIONS: usize = 5;

/// Rows of a prompt without an image.
const TEXT: usize = 60;

/// The methods that compare rows.
const COMPARING: [Method; 4] =
    [Method::VisionZip, Method::DivPrune, Method::Scope, Method::PruMergePlus];

/// An operation to time.
#[derive(Debug, Clone)]
pub struct Case {
    /// The operation's name and where it occurs.
    pub name: String,
    /// Rows and widths, as text.
    pub shape: String,
    /// Whether it is a matrix product that cuBLAS could make.
    pub multiplies: bool,
    pub(super) model: Model,
    pub(super) kind: Kind,
}

/// The operation and its sizes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Patches,
    Tokens,
    LayerNorm,
    Linear { rows: usize, from: usize, to: usize, activation: Option<Activation>, bias: bool },
    Linears { rows: usize },
    LinearAdd { rows: usize, from: usize, to: usize, bias: bool },
    Normed { rows: usize },
    Swiglu { rows: usize },
    Logits { rows: usize },
    Scores { partitions: usize },
    VisionAttention { kept: bool },
    Select,
    Choose(Method),
    GatherKept,
    Interleave,
    Rope { rows: usize },
    Prefill { rows: usize },
    Decode { sequences: usize, context: usize },
    Embed { sequences: usize },
    Sample { sequences: usize, sampling: Sampling },
}

/// All cases of a model.
pub fn cases(model: Model) -> Vec<Case> {
    let Model { vision, vision_inner, width, inner, vocabulary, prompts, contexts, .. } = model;
    let (tokens, kept) = (model.rows(), model.patches());
    let mut all = Vec::new();
    let mut add = |name: &str, shape: String, kind| {
        let (name, multiplies) = (
            name.to_owned(),
            matches!(
                kind,
                Kind::Linear { .. }
                    | Kind::Linears { .. }
                    | Kind::LinearAdd { .. }
                    | Kind::Normed { .. }
                    | Kind::Swiglu { .. }
            ),
        );
        all.push(Case { name, shape, multiplies, model, kind });
    };
    let linear =
        |rows, from, to, activation| Kind::Linear { rows, from, to, activation, bias: true };
    let sizes = |rows: usize, from: usize, to: usize| format!("{rows} × {from} → {to}");

    add("vision: patches", format!("{PARTITIONS} × 3 × {0} × {0}", model.side), Kind::Patches);
    add(
        "vision: embedding of patches",
        sizes(PARTITIONS * kept, model.pixels(), vision),
        linear(PARTITIONS * kept, model.pixels(), vision, None),
    );
    add("vision: tokens", format!("{tokens} × {vision}"), Kind::Tokens);
    add("vision: LayerNorm", format!("{tokens} × {vision}"), Kind::LayerNorm);
    add("vision: q, k, v", sizes(tokens, vision, 3 * vision), Kind::Linears { rows: tokens });
    add(
        "vision: attention",
        format!("{PARTITIONS} × {}, {} heads", kept + 1, model.vision_heads),
        Kind::VisionAttention { kept: false },
    );
    add(
        "vision: output",
        sizes(tokens, vision, vision),
        Kind::LinearAdd { rows: tokens, from: vision, to: vision, bias: true },
    );
    add(
        "vision: fc1, quick GELU",
        sizes(tokens, vision, vision_inner),
        linear(tokens, vision, vision_inner, Some(Activation::QuickGelu)),
    );
    add(
        "vision: fc2",
        sizes(tokens, vision_inner, vision),
        Kind::LinearAdd { rows: tokens, from: vision_inner, to: vision, bias: true },
    );
    add(
        "vision: CLS scores, full image",
        format!("1 × {}", kept + 1),
        Kind::Scores { partitions: 1 },
    );
    add(
        "vision: CLS scores",
        format!("{PARTITIONS} × {}", kept + 1),
        Kind::Scores { partitions: PARTITIONS },
    );
    add("select", format!("{kept} of {}", PARTITIONS * kept), Kind::Select);
    for method in COMPARING {
        let name = format!("select: {method}, and its rows");
        add(&name, format!("{kept} of {}", PARTITIONS * kept), Kind::Choose(method));
    }
    add("gather of kept rows", format!("{kept} × {vision}"), Kind::GatherKept);
    add(
        "vision: attention of kept rows",
        format!("{kept} to {PARTITIONS} × {}", kept + 1),
        Kind::VisionAttention { kept: true },
    );
    add(
        "projector: first, GELU",
        sizes(kept, vision, width),
        linear(kept, vision, width, Some(Activation::Gelu)),
    );
    add("projector: second", sizes(kept, width, width), linear(kept, width, width, None));
    add("prompt: interleave", format!("{} × {width}", kept + 60), Kind::Interleave);
    for rows in prompts {
        let plain = |from, to| Kind::Linear { rows, from, to, activation: None, bias: false };
        add("prompt: a product", sizes(rows, width, width), plain(width, width));
        add("prompt: a wide product", sizes(rows, width, inner), plain(width, inner));
        add("prompt: RMSNorm, q, k, v", sizes(rows, width, 3 * width), Kind::Normed { rows });
        add("prompt: RoPE and append", format!("{rows} × 3 × {width}"), Kind::Rope { rows });
        add("prompt: attention", format!("{rows}, {} heads", model.heads), Kind::Prefill { rows });
        add(
            "prompt: output",
            sizes(rows, width, width),
            Kind::LinearAdd { rows, from: width, to: width, bias: false },
        );
        add("prompt: RMSNorm, SwiGLU", sizes(rows, width, 2 * inner), Kind::Swiglu { rows });
        add(
            "prompt: down",
            sizes(rows, inner, width),
            Kind::LinearAdd { rows, from: inner, to: width, bias: false },
        );
    }
    // A prompt without an image.
    for from in [width, inner] {
        let kind = Kind::LinearAdd { rows: TEXT, from, to: width, bias: false };
        add("text: output or down", sizes(TEXT, from, width), kind);
    }
    for sequences in model.sequences {
        let rows = sequences;
        add("step: embed", format!("{rows} × {width}"), Kind::Embed { sequences });
        add("step: RMSNorm, q, k, v", sizes(rows, width, 3 * width), Kind::Normed { rows });
        for context in contexts {
            add(
                "step: RoPE, append, attention",
                format!("{rows} × {context}, {} heads", model.heads),
                Kind::Decode { sequences, context },
            );
        }
        add(
            "step: output",
            sizes(rows, width, width),
            Kind::LinearAdd { rows, from: width, to: width, bias: false },
        );
        add("step: RMSNorm, SwiGLU", sizes(rows, width, 2 * inner), Kind::Swiglu { rows });
        add(
            "step: down",
            sizes(rows, inner, width),
            Kind::LinearAdd { rows, from: inner, to: width, bias: false },
        );
        add("step: RMSNorm, logits", sizes(rows, width, vocabulary), Kind::Logits { rows });
        let warm =
            Sampling::default().with_temperature(0.7).with_top_k(0).with_top_p(0.9).with_seed(1);
        for (name, sampling) in
            [("step: greedy token", Sampling::default()), ("step: token of top-p", warm)]
        {
            add(name, format!("{rows} × {vocabulary}"), Kind::Sample { sequences, sampling });
        }
    }
    all
}

impl Case {
    /// One product of this shape, like those of the vision tower.
    pub fn product(rows: usize, from: usize, to: usize) -> Self {
        let kind = Kind::Linear { rows, from, to, activation: None, bias: false };
        let (name, shape) = ("a product".to_owned(), String::new());
        Self { name, shape, multiplies: true, model: SEVEN, kind }
    }

    /// Whether it is a product of the decoder, whose weights are quantized by `--dtype q8` and `q4`.
    pub fn is_of_decoder(&self) -> bool {
        self.multiplies
            && ["prompt: ", "text: ", "step: "].iter().any(|at| self.name.starts_with(at))
    }

    /// Number of rows of a matrix product.
    pub fn rows(&self) -> usize {
        match self.kind {
            Kind::Linear { rows, .. }
            | Kind::Linears { rows }
            | Kind::LinearAdd { rows, .. }
            | Kind::Normed { rows }
            | Kind::Swiglu { rows } => rows,
            _ => 0,
        }
    }
}

impl Model {
    /// Patches of a partition, and a fifth of all patches.
    pub fn patches(&self) -> usize {
        (self.side / self.patch).pow(2)
    }

    /// Number of rows in the vision tower.
    pub fn rows(&self) -> usize {
        PARTITIONS * (self.patches() + 1)
    }

    fn pixels(&self) -> usize {
        3 * self.patch.pow(2)
    }

    fn layout(&self) -> Layout {
        let fit = (2 * self.side, 2 * self.side);
        Layout {
            width: fit.1,
            height: fit.0,
            side: self.side,
            grid: Some((2, 2)),
            fit,
            packing: Packing::Canvas,
        }
    }

    pub fn plan(&self, method: Method) -> Result<Plan> {
        let tuning = Tuning::default().with_prumerge(Counting::Budget);
        let selection = Selection::default()
            .with_method(method)
            .with_tuning(tuning)
            .with_budget("20%".parse()?);
        plan(&Geometry::new(&self.layout(), self.patch)?, &selection)
    }

    pub fn tiles(&self) -> Tiles {
        let pixels = (0..PARTITIONS * 3 * self.side.pow(2)).map(|i| (i * 37 % 251) as u8).collect();
        Tiles { layout: self.layout(), pixels }
    }
}
