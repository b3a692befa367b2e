//! Matrix products with weights on the counting executor.

use super::{Counter, Shape, Size};
use crate::Result;
use crate::config::Activation;
use crate::ops::cost::{self, Kind};
use crate::ops::{Linear, MatmulOps, Norm};

impl MatmulOps for Counter {
    fn linear(&mut self, x: &Size, layer: &Linear<Shape>, _: Option<Activation>) -> Result<Size> {
        let out = self.out(x.rows, layer);
        self.product(x, layer);
        Ok(out)
    }

    fn linears<const N: usize>(
        &mut self,
        x: &Size,
        layers: [&Linear<Shape>; N],
    ) -> Result<[Size; N]> {
        let outs = layers.map(|layer| self.out(x.rows, layer));
        self.products(x, &layers, cost::linear);
        Ok(outs)
    }

    fn linear_add(&mut self, _: &mut Size, x: &Size, layer: &Linear<Shape>) -> Result<()> {
        self.products(x, &[layer], cost::linear_add);
        Ok(())
    }

    fn normed_linear<const N: usize>(
        &mut self,
        x: &Size,
        _: &Norm<Shape>,
        layers: [&Linear<Shape>; N],
    ) -> Result<[Size; N]> {
        let _n = self.norm(x, &layers);
        self.linears(x, layers)
    }

    fn normed_swiglu(
        &mut self,
        x: &Size,
        _: &Norm<Shape>,
        gate: &Linear<Shape>,
        up: &Linear<Shape>,
    ) -> Result<Size> {
        let _n = self.norm(x, &[gate, up]);
        let formats = [gate.weight.format, up.weight.format];
        if self.footprint.fuses_gate(x.rows, &formats) {
            let coded = self.footprint.gate_leaves_codes(x.rows, gate.weight.rows, &formats);
            let out = self.coded_buffer(x.rows, gate.weight.rows, coded);
            self.products(x, &[gate, up], cost::linear);
            return Ok(out);
        }
        let out = self.linear(x, gate, None)?;
        self.linear(x, up, None)?;
        Ok(out)
    }

    fn logits(
        &mut self,
        x: &Size,
        norm: Option<&Norm<Shape>>,
        head: &Linear<Shape>,
    ) -> Result<Size> {
        let _n = norm.map(|_| self.norm(x, &[head]));
        let out = self.wide(x.rows, head.weight.rows);
        self.product(x, head);
        Ok(out)
    }
}

impl Counter {
    fn out(&self, rows: usize, layer: &Linear<Shape>) -> Size {
        let mut out = self.buffer(rows, layer.weight.rows);
        out.of_integers = self.footprint.quantizes(layer.weight.format);
        out
    }

    fn product(&mut self, x: &Size, layer: &Linear<Shape>) {
        self.products(x, &[layer], cost::linear);
    }

    /// Counts products of the same rows. Whether they run in one launch or one after another, they need the same
    /// memory.
    fn products(&mut self, x: &Size, layers: &[&Linear<Shape>], of: cost::Product) {
        let Some(Linear { weight: Shape { cols: k, format, .. }, .. }) = layers.first() else {
            return;
        };
        if layers.iter().any(|layer| layer.weight.format != *format) {
            return layers.iter().for_each(|layer| self.products(x, &[layer], of));
        }
        let cols: Vec<usize> = layers.iter().map(|layer| layer.weight.rows).collect();
        let quantizes = self.footprint.quantizes(*format);
        if !(quantizes && x.coded.is_some()) {
            let scratch = self.footprint.products_scratch(x.rows, self.whole, &cols, *k, *format);
            drop(scratch.map(|bytes| self.hold(bytes)));
            if quantizes {
                self.rounding(x.rows, *k);
            }
        }
        let activation = self.footprint.activations().size();
        for Linear { weight: w, .. } in layers {
            let bytes = w.format.bytes(w.rows, w.cols);
            self.count(Kind::of(w.format), of(x.rows, w.rows, w.cols, activation, bytes));
        }
    }

    /// Counts the norm before products as a pass of its own, unless the products fuse it.
    fn norm(&mut self, x: &Size, layers: &[&Linear<Shape>]) -> Option<Size> {
        let formats: Vec<_> = layers.iter().map(|layer| layer.weight.format).collect();
        let fused = self.footprint.fuses_norm(x.rows, &formats);
        (!fused).then(|| {
            self.pass(x.rows * x.cols);
            self.buffer(x.rows, x.cols)
        })
    }
}
