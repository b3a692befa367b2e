//! Operations on rows: pixels, tokens, norms, copies.

use super::corpus::{Case, Corpus, Data, Results, Tensors};
use hired::image::{Layout, Normalization, Packing, Tiles};
use hired::ops::{Evidence, Extent, Ops, Visual};
use hired::select::{Geometry, Selection, plan};

/// Widths: one, primes, around the widths of accesses and of blocks.
const WIDTHS: [usize; 8] = [1, 7, 8, 31, 64, 127, 264, 1030];

pub fn cases(corpus: &mut Corpus) {
    for cols in WIDTHS {
        let tensors = || {
            Tensors::default().random("x", &[5, cols], 3.0).random("w", &[cols], 1.0).random(
                "w.bias",
                &[cols],
                1.0,
            )
        };
        let data = tensors().stored(corpus.stored());
        corpus.check("layer_norm", &format!("5x{cols}"), 6.0, &LayerNorm, &data);
        corpus.check("gather", &format!("5x{cols}"), 0.0, &Gather(&[4, 0, 0, 3]), &data);
        let data = Tensors::default()
            .random("x", &[8, cols], 1.0)
            .random("more", &[8, cols], 1.0)
            .random("w", &[cols], 1.0)
            .stored(corpus.stored());
        corpus.check("scaled_add, join", &format!("8x{cols}"), 2.0, &ScaledAdd, &data);
    }
    for (side, cols) in [(1, 5), (2, 24), (3, 33), (12, 264)] {
        let rows = side * side;
        let data = Tensors::default()
            .random("x", &[rows, cols], 1.0)
            .random("w", &[cols, 1, 3, 3], 0.5)
            .random("b", &[cols], 1.0)
            .stored(corpus.stored());
        corpus.check("convolve", &format!("{side}x{side}x{cols}"), 8.0, &Convolve, &data);
    }
    // Beyond what a block keeps in registers.
    let wide = Tensors::default().random("x", &[2, 8200], 3.0).random("w", &[8200], 1.0);
    corpus.check("layer_norm", "2x8200", 6.0, &LayerNorm, &wide.stored(corpus.stored()));

    // Heads of one number, odd widths, those of SigLIP, Phi and Qwen.
    for (heads, width) in [(1, 2), (3, 10), (5, 72), (2, 80), (3, 96), (16, 128)] {
        let data = Tensors::default().random("x", &[7, heads * width], 3.0);
        let data = data.random("w", &[width], 1.0).stored(corpus.stored());
        corpus.check("head_norm", &format!("7x{heads}x{width}"), 6.0, &HeadNorm, &data);
    }

    // The last two leave pixels over, as SigLIP does, and have no class token.
    for (side, patch, partitions, class_token) in [
        (4, 2, 1, true),
        (42, 14, 3, true),
        (12, 3, 5, true),
        (5, 5, 2, true),
        (30, 7, 3, false),
        (5, 3, 1, false),
    ] {
        let case = Patches { side, patch, partitions, class_token };
        let tokens = (side / patch).pow(2) + usize::from(class_token);
        for cols in [1, 24, 33] {
            let data = Tensors::default()
                .random("class", &[cols], 1.0)
                .random("position", &[tokens, cols], 1.0)
                .random("w", &[cols, 3 * patch * patch], 0.1)
                .stored(corpus.stored());
            let what = format!("{partitions} of {side}/{patch}, {cols} wide");
            corpus.check("patches", &what, 16.0, &case, &data);
        }
    }

    for cols in [1, 8, 24, 33] {
        let data = Tensors::default()
            .random("table", &[11, cols], 1.0)
            .random("x", &[5 * 5, cols], 1.0)
            .random("newline", &[cols], 1.0)
            .stored(corpus.stored());
        corpus.check("interleave", &format!("{cols} wide"), 0.0, &Interleave, &data);
    }
}

struct LayerNorm;

impl Case for LayerNorm {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let x = data.rows(ops, "x")?;
        let norm = data.norm(ops, "w")?;
        let y = ops.layer_norm(&x, &norm)?;
        Ok(vec![("y", ops.download(&y)?)])
    }
}

/// Rows with others added by columns, four of them as one.
struct ScaledAdd;

impl Case for ScaledAdd {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let (mut x, more) = (data.rows(ops, "x")?, data.rows(ops, "more")?);
        let factors = data.vector(ops, "w")?;
        ops.scaled_add(&mut x, &more, &factors)?;
        let cols = x.cols();
        let joined = ops.join(x, 4);
        assert_eq!([joined.rows(), joined.cols()], [2, 4 * cols]);
        Ok(vec![("x", ops.download(&joined)?)])
    }
}

struct Convolve;

impl Case for Convolve {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let x = data.rows(ops, "x")?;
        let (weight, bias) = (data.vector(ops, "w")?, data.vector(ops, "b")?);
        let y = ops.convolve(&x, &weight, &bias)?;
        Ok(vec![("y", ops.download(&y)?)])
    }
}

struct HeadNorm;

impl Case for HeadNorm {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let mut x = data.rows(ops, "x")?;
        let norm = data.norm(ops, "w")?;
        ops.head_norm(&mut x, &norm)?;
        Ok(vec![("x", ops.download(&x)?)])
    }
}

struct Gather(&'static [usize]);

impl Case for Gather {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let x = data.rows(ops, "x")?;
        let y = ops.gather(&x, self.0)?;
        Ok(vec![("y", ops.download(&y)?)])
    }
}

/// A picture that fills its grid of `rows` by `cols` sub-images.
pub fn layout(side: usize, grid: Option<(usize, usize)>) -> Layout {
    let (rows, cols) = grid.unwrap_or((1, 1));
    let fit = (rows * side, cols * side);
    Layout { width: fit.1, height: fit.0, side, grid, fit, packing: Packing::Canvas }
}

struct Patches {
    side: usize,
    patch: usize,
    partitions: usize,
    class_token: bool,
}

impl Case for Patches {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let Self { side, patch, partitions, class_token } = *self;
        let grid = partitions.checked_sub(1).filter(|n| *n > 0).map(|n| (1, n));
        let count = partitions * 3 * side * side;
        let pixels = (0..count).map(|i| (i * 37 % 251) as u8).collect();
        let mut lut = [[0.0f32; 256]; 3];
        for (channel, lut) in lut.iter_mut().enumerate() {
            for (byte, value) in lut.iter_mut().enumerate() {
                *value = (byte as f32 - 100.0 - channel as f32) / 64.0;
            }
        }
        let tiles = Tiles { layout: layout(side, grid), pixels };
        let patches = ops.patches(&tiles, &Normalization { lut }, patch)?;
        // Through a product, which takes the padding of the rows along.
        let weight = data.linear(ops, "w")?;
        let embedded = ops.linear(&patches, &weight, None)?;
        let (class, position) = (data.vector(ops, "class")?, data.vector(ops, "position")?);
        let class = class_token.then_some(&class);
        let tokens = ops.vision_tokens(&embedded, class, &position, partitions)?;
        Ok(vec![("patches", ops.download(&patches)?), ("tokens", ops.download(&tokens)?)])
    }
}

/// Words, a whole image of 2x2 patches in five partitions with newlines, words.
struct Interleave;

impl Case for Interleave {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results> {
        let geometry = Geometry::new(&layout(2, Some((2, 2))), 1)?;
        let selection = Selection::default().with_budget("full".parse()?);
        let kept = ops.select(&plan(&geometry, &selection)?, Evidence::default())?;
        let x = data.rows(ops, "x")?;
        let rows = ops.gather_kept(&x, &kept)?;
        let table = data.matrix(ops, "table")?;
        let newline = data.vector(ops, "newline")?;
        let visual = Visual { rows: &rows, kept: &kept, newline: Some(&newline) };
        let prompt = ops.interleave(&table, &[(&[3, 10], visual)], &[0, 7, 7])?;
        let words = ops.interleave(&table, &[], &[5])?;
        Ok(vec![("prompt", ops.download(&prompt)?), ("words", ops.download(&words)?)])
    }
}
